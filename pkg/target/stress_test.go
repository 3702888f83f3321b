package target

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/target/pdu"
)

// The danger of R9, over and over: writes are on their way to a device that takes
// its time, the initiator gives up on them by a function or by a new session, and
// writes the blocks again. The last write that was acknowledged is what stays.
func TestGivenUpWritesNeverLandLast(t *testing.T) {
	const (
		rounds = 150
		blocks = 4
		seed   = 7
	)
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	d := newFakeDevice()
	var lock sync.Mutex
	delays := rand.New(rand.NewPCG(seed, 2))
	d.write = func(ctx context.Context, p []byte, off int64) error {
		lock.Lock()
		delay, applies := time.Duration(delays.IntN(3000))*time.Microsecond, delays.IntN(2) == 0
		lock.Unlock()
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			time.Sleep(delay / 2)
			if !applies { // a cancelled write may be applied or not
				return ctx.Err()
			}
		}
		d.store(p, off)
		return nil
	}
	s := testServer(t, Target{LUNs: oneLUN(d)})
	i := connect(t, s)
	version := uint64(0)
	content := func() []byte {
		version++
		return bytes.Repeat(binary.BigEndian.AppendUint64(nil, version), 64)
	}
	for range rounds {
		for n := range 8 {
			i.send(i.request(cdb10(opWrite10, uint32(n%blocks), 1), 0, 512), content())
		}
		switch random.IntN(4) {
		case 0: // a new session, the old connection still open
			i = connect(t, s)
		case 1:
			i.conn.Close()
			i = connect(t, s)
		case 2:
			i.awaitFunction(i.manage(abortTaskSet, pdu.NoTag))
		case 3:
			i.awaitFunction(i.manage(logicalUnitReset, pdu.NoTag))
		}
		var last [blocks][]byte
		for n := range last {
			last[n] = content()
			i.mustDo(cdb10(opWrite10, uint32(n), 1), 0, last[n])
		}
		time.Sleep(time.Duration(random.IntN(4)) * time.Millisecond)
		for n := range last {
			if got := i.mustDo(cdb10(opRead10, uint32(n), 1), 512, nil); !bytes.Equal(got, last[n]) {
				t.Fatalf("block %d holds version %d, the last one acknowledged is %d", n,
					binary.BigEndian.Uint64(got), binary.BigEndian.Uint64(last[n]))
			}
		}
	}
}

// An initiator that dies in the middle of a write, wherever that is, has written all
// of it or nothing, and its port can come back at once.
func TestInitiatorDiesInTheMiddleOfAWrite(t *testing.T) {
	const length = 128 << 10 // a first burst, and one that is asked for
	d := newFakeDevice()
	s := testServer(t, Target{LUNs: oneLUN(d)})
	for part := 0; part <= pdu.HeaderLen+length+pdu.HeaderLen; part += 7919 {
		i := connect(t, s)
		h := i.request(cdb10(opWrite10, 0, length/512), 0, length)
		h.SetFlags(h.Flags() &^ pdu.FlagFinal)
		var data pdu.Header // what follows the first half of the first burst
		data.SetOpcode(pdu.DataOut)
		data.SetFlags(pdu.FlagFinal)
		data.SetTaskTag(h.TaskTag())
		data.SetTransferTag(pdu.NoTag)
		data.SetBufferOffset(32 << 10)
		var stream []byte
		for _, f := range []pdu.Frame{{Header: *h, Data: pattern(32<<10, 1)}, {Header: data, Data: pattern(32<<10, 1)}} {
			stream = append(stream, bytes.Join(f.Buffers(nil, pdu.Digests{}), nil)...)
		}
		i.conn.Write(stream[:min(part, len(stream))])
		i.conn.Close()
	}
	next := connect(t, s)
	if got := next.mustDo(cdb10(opRead10, 0, length/512), length, nil); !bytes.Equal(got, make([]byte, length)) {
		t.Error("a part of a write was stored")
	}
}

// awaitFunction waits for a task management response, past those of commands.
func (i *initiator) awaitFunction(tag uint32) {
	i.t.Helper()
	for {
		r := i.receive()
		if r.Opcode() != pdu.TaskResponse {
			continue
		}
		if r.TaskTag() != tag || r.Header[2] != functionComplete {
			i.t.Fatalf("task management: response %d", r.Header[2])
		}
		return
	}
}
