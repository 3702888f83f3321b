package pdu

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
)

func wire(f *Frame, d Digests) []byte {
	var b []byte
	for _, piece := range f.Buffers(nil, d) {
		b = append(b, piece...)
	}
	return b
}

func TestFrameRoundTrip(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var stream []byte
	var frames []Frame
	digests := Digests{Header: true, Data: true}
	for n := range 200 {
		f := Frame{Data: make([]byte, n*n%5000)}
		for i := range f.Data {
			f.Data[i] = byte(random.Uint32())
		}
		f.Header.SetOpcode(DataIn)
		f.Header.SetTaskTag(uint32(n))
		stream = append(stream, wire(&f, digests)...)
		frames = append(frames, f)
	}
	r := NewReader(bytes.NewReader(stream), 5000)
	r.Digests = digests
	for n := range frames {
		var h Header
		if err := r.Next(&h); err != nil {
			t.Fatal(err)
		}
		if n%3 == 0 {
			if err := r.Skip(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		data := make([]byte, h.DataLen())
		if err := r.Data(data); err != nil {
			t.Fatal(err)
		}
		if h != frames[n].Header || !bytes.Equal(data, frames[n].Data) {
			t.Fatalf("PDU %d came back changed", n)
		}
	}
	var h Header
	if err := r.Next(&h); err != io.EOF {
		t.Errorf("after the last: %v", err)
	}
}

// Every single flipped bit is found, wherever it is.
func TestDigestsFindFlippedBits(t *testing.T) {
	f := Frame{Data: []byte("some data, padded.")}
	digests := Digests{Header: true, Data: true}
	good := wire(&f, digests)
	for bit := range len(good) * 8 {
		bad := bytes.Clone(good)
		bad[bit/8] ^= 1 << (bit % 8)
		r := NewReader(bytes.NewReader(bad), 1<<24)
		r.Digests = digests
		var h Header
		err := r.Next(&h)
		if err == nil {
			err = r.Skip()
		}
		if err == nil {
			t.Fatalf("flipped bit %d of byte %d was not noticed", bit%8, bit/8)
		}
	}
}

// The digest of 32 zero bytes is in RFC 7143, appendix A.4: aa 36 91 8a.
func TestDigestIsCRC32C(t *testing.T) {
	f := Frame{Data: make([]byte, 32)}
	b := wire(&f, Digests{Data: true})
	if got := b[len(b)-4:]; !bytes.Equal(got, []byte{0xaa, 0x36, 0x91, 0x8a}) {
		t.Errorf("digest % x", got)
	}
}

func TestTooLong(t *testing.T) {
	var h Header
	h.SetDataLen(513)
	err := NewReader(bytes.NewReader(h[:]), 512).Next(&h)
	if !errors.Is(err, ErrTooLong) {
		t.Errorf("%v", err)
	}
}

func TestCutOff(t *testing.T) {
	f := Frame{Data: make([]byte, 10)}
	f.Header[4] = 0
	full := wire(&f, Digests{Header: true, Data: true})
	for n := 1; n < len(full); n++ {
		r := NewReader(bytes.NewReader(full[:n]), 512)
		r.Digests = Digests{Header: true, Data: true}
		var h Header
		err := r.Next(&h)
		if err == nil {
			err = r.Skip()
		}
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("after %d bytes: %v", n, err)
		}
	}
}

func TestBefore(t *testing.T) {
	for _, c := range []struct {
		a, b uint32
		want bool
	}{{1, 2, true}, {2, 1, false}, {5, 5, false}, {0xffffffff, 0, true}, {0, 0xffffffff, false}} {
		if got := Before(c.a, c.b); got != c.want {
			t.Errorf("Before(%d, %d) = %v", c.a, c.b, got)
		}
	}
}

func FuzzReader(f *testing.F) {
	frame := Frame{Data: []byte("data")}
	f.Add(wire(&frame, Digests{}), false, false)
	f.Add(wire(&frame, Digests{Header: true, Data: true}), true, true)
	f.Fuzz(func(t *testing.T, stream []byte, header, data bool) {
		r := NewReader(bytes.NewReader(stream), 4096)
		r.Digests = Digests{Header: header, Data: data}
		for taken := 0; ; {
			var h Header
			if r.Next(&h) != nil {
				return
			}
			taken += HeaderLen + h.AHSLen() + h.DataLen()
			if taken > len(stream) && h.DataLen() == 0 {
				t.Fatalf("read %d bytes of %d", taken, len(stream))
			}
			if r.Data(make([]byte, h.DataLen())) != nil {
				return
			}
		}
	})
}
