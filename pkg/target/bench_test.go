package target

import (
	"context"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/target/pdu"
)

// BenchmarkRead4K keeps 32 reads of 4 KiB in flight on one session. Time and
// allocations are those of target and initiator together.
func BenchmarkRead4K(b *testing.B) {
	benchmark(b, func(i *initiator, h *pdu.Header) []byte {
		*h = *i.request(cdb10(opRead10, 0, 8), 4096, 0)
		return nil
	})
}

// BenchmarkWrite4K does the same with writes, data immediate.
func BenchmarkWrite4K(b *testing.B) {
	data := make([]byte, 4096)
	benchmark(b, func(i *initiator, h *pdu.Header) []byte {
		*h = *i.request(cdb10(opWrite10, 0, 8), 0, 4096)
		return data
	})
}

func benchmark(b *testing.B, command func(*initiator, *pdu.Header) []byte) {
	const depth = 32
	s, err := New(Config{Addr: "127.0.0.1:0"})
	if err != nil {
		b.Fatal(err)
	}
	if err := s.AddTarget(Target{IQN: testIQN, LUNs: oneLUN(newFakeDevice())}); err != nil {
		b.Fatal(err)
	}
	go s.Serve()
	defer s.Shutdown(context.Background())
	i := connect(b, s)
	var (
		frame pdu.Frame
		wire  = make([]byte, 0, 8192)
		in    = make([]byte, 8192)
	)
	send := func() {
		frame.Data = command(i, &frame.Header)
		frame.Header.SetDataLen(len(frame.Data))
		wire = append(append(wire[:0], frame.Header[:]...), frame.Data...)
		if _, err := i.conn.Write(wire); err != nil {
			b.Fatal(err)
		}
	}
	var h pdu.Header
	take := func() {
		if err := i.in.Next(&h); err != nil {
			b.Fatal(err)
		}
		if err := i.in.Data(in[:h.DataLen()]); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(4096)
	b.ReportAllocs()
	b.ResetTimer()
	sent := 0
	for ; sent < min(depth, b.N); sent++ {
		send()
	}
	for range b.N {
		take()
		if sent < b.N {
			send()
			sent++
		}
	}
}
