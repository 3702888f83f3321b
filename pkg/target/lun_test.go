package target

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/target/disk"
	"github.com/swiftblock/csi-swiftblock/pkg/target/pdu"
)

// secondLUN is LUN 1 beside oneLUN.
func secondLUN(d Device) LUN {
	return LUN{Number: 1, Volume: "ffeeddccbbaa99887766554433221100", Device: d}
}

// to directs a request to LUN 1.
func toSecond(h *pdu.Header) *pdu.Header {
	h.SetLUN(1 << 48)
	return h
}

// LUNs come and go under the I/O of others: the initiator is told, commands on the
// one that goes are answered as not carried out, and its device is left alone.
func TestLUNsComeAndGo(t *testing.T) {
	first, second := newFakeDevice(), newFakeDevice()
	entered, _, returned := heldWriter(second)
	s := testServer(t, Target{LUNs: oneLUN(first)})
	i := connect(t, s)
	if err := s.AddLUN(testIQN, secondLUN(second)); err != nil {
		t.Fatal(err)
	}
	if r := i.do(testUnitReady, 0, nil); r.key != 6 || r.asc != 0x3f0e {
		t.Errorf("after a LUN came: %v, want 6/3f0e", r)
	}
	i.send(toSecond(i.request(testUnitReady, 0, 0)), nil)
	if r := i.finish(nil); r.key != 6 || r.asc != 0x2900 {
		t.Errorf("first command to the new LUN: %v, want 6/2900", r)
	}
	i.send(toSecond(i.request(cdb10(opWrite10, 0, 1), 0, 512)), pattern(512, 1))
	<-entered
	i.mustDo(cdb10(opWrite10, 0, 1), 0, pattern(512, 2))
	if err := s.RemoveLUN(t.Context(), testIQN, 1); err != nil {
		t.Fatal(err)
	}
	if returned.Load() != 1 {
		t.Error("the device was still in use when RemoveLUN returned")
	}
	if r := i.finish(nil); r.status != disk.CheckCondition || r.key != 2 {
		t.Errorf("the write that was held: %v, want 2/0401", r)
	}
	i.send(toSecond(i.request(testUnitReady, 0, 0)), nil)
	if r := i.finish(nil); r.key != 5 || r.asc != 0x2500 {
		t.Errorf("a LUN that is gone: %v, want 5/2500", r)
	}
	if r := i.do(testUnitReady, 0, nil); r.key != 6 || r.asc != 0x3f0e {
		t.Errorf("after a LUN went: %v, want 6/3f0e", r)
	}
	i.mustDo(testUnitReady, 0, nil)
	for what, err := range map[string]error{
		"removed twice": s.RemoveLUN(t.Context(), testIQN, 1),
		"the last one":  s.RemoveLUN(t.Context(), testIQN, 0),
		"there already": s.AddLUN(testIQN, oneLUN(first)[0]),
		"no target":     s.AddLUN(testIQN+"-none", secondLUN(second)),
	} {
		if !errors.Is(err, ErrNoLUN) && !errors.Is(err, ErrLastLUN) && !errors.Is(err, ErrLUNExists) && !errors.Is(err, ErrNoTarget) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A removal that was not waited for is not done: the number stays taken, and a second
// call goes on with it. A task management function waits for the command, too (R9).
func TestRemovalOfALUNCanBeRepeated(t *testing.T) {
	d := newFakeDevice()
	entered, release := make(chan struct{}), make(chan struct{})
	d.write = func(context.Context, []byte, int64) error { // deaf to its context
		close(entered)
		<-release
		return nil
	}
	s := testServer(t, Target{LUNs: append(oneLUN(newFakeDevice()), secondLUN(d))})
	i := connect(t, s)
	i.send(toSecond(i.request(testUnitReady, 0, 0)), nil)
	i.finish(nil)
	write := toSecond(i.request(cdb10(opWrite10, 0, 1), 0, 512))
	i.send(write, pattern(512, 1))
	<-entered
	soon, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := s.RemoveLUN(soon, testIQN, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("removed under a command: %v", err)
	}
	if err := s.AddLUN(testIQN, secondLUN(d)); !errors.Is(err, ErrLUNExists) {
		t.Errorf("added while it is being removed: %v", err)
	}
	tag := i.manageLUN(1<<48, abortTask, write.TaskTag())
	i.nop(nil) // the function has been taken, and is not answered
	close(release)
	if err := s.RemoveLUN(t.Context(), testIQN, 1); err != nil {
		t.Fatal(err)
	}
	if r := i.receive(); r.Opcode() != pdu.TaskResponse || r.TaskTag() != tag {
		t.Errorf("PDU %02x, want the response to ABORT TASK, and none to the write", byte(r.Opcode()))
	}
	if err := s.AddLUN(testIQN, secondLUN(newFakeDevice())); err != nil {
		t.Errorf("added again: %v", err)
	}
}

// A LUN that goes while its data-out comes in costs this command only.
func TestRemovalOfALUNInTheMiddleOfADataOut(t *testing.T) {
	s := testServer(t, Target{LUNs: append(oneLUN(newFakeDevice()), secondLUN(newFakeDevice()))})
	i := connect(t, s)
	i.send(toSecond(i.request(testUnitReady, 0, 0)), nil)
	i.finish(nil)
	write := toSecond(i.request(cdb10(opWrite10, 0, 16), 0, 8192))
	write.SetFlags(write.Flags() &^ pdu.FlagFinal) // unsolicited data follow
	i.send(write, pattern(4096, 1))
	i.nop(nil)
	if err := s.RemoveLUN(t.Context(), testIQN, 1); err != nil {
		t.Fatal(err)
	}
	if r := i.finish(nil); r.tag != write.TaskTag() || r.status != disk.CheckCondition {
		t.Errorf("the write: %v", r)
	}
	var h pdu.Header
	h.SetOpcode(pdu.DataOut)
	h.SetFlags(pdu.FlagFinal)
	h.SetTaskTag(write.TaskTag())
	h.SetTransferTag(pdu.NoTag)
	h.SetBufferOffset(4096)
	i.send(&h, pattern(4096, 2))
	if r := i.do(testUnitReady, 0, nil); r.key != 6 || r.asc != 0x3f0e {
		t.Errorf("the other LUN: %v, want 6/3f0e", r)
	}
	i.mustDo(testUnitReady, 0, nil)
}
