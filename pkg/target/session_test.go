package target

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/target/disk"
	"github.com/swiftblock/csi-swiftblock/pkg/target/login"
	"github.com/swiftblock/csi-swiftblock/pkg/target/pdu"
)

func TestReadWriteOfAllLengths(t *testing.T) {
	for _, digest := range []string{"None", "CRC32C"} {
		t.Run("digests "+digest, func(t *testing.T) {
			s := testServer(t, Target{LUNs: oneLUN(newFakeDevice())})
			i := connect(t, s, "HeaderDigest="+digest, "DataDigest="+digest)
			for n, blocks := range []int{1, 8, 128, 129, 1024, disk.MaxTransfer / 512} {
				want := pattern(blocks*512, byte(n))
				i.mustDo(cdb10(opWrite10, 16, uint16(blocks)), 0, want)
				got := i.do(cdb10(opRead10, 16, uint16(blocks)), len(want), nil)
				if !bytes.Equal(got.data, want) {
					t.Fatalf("%d blocks: read something else than was written", blocks)
				}
				if parts := (len(want) + 262143) / 262144; got.parts != parts {
					t.Errorf("%d blocks came in %d parts, want %d of the initiator's segment length", blocks, got.parts, parts)
				}
			}
		})
	}
}

func TestUnsolicitedDataOut(t *testing.T) {
	d := newFakeDevice()
	i := connect(t, testServer(t, Target{LUNs: oneLUN(d)}))
	want := pattern(16384, 5)
	h := i.request(cdb10(opWrite10, 0, 32), 0, len(want))
	h[1] &^= pdu.FlagFinal // more comes without R2T
	i.send(h, want[:4096])
	for sn, off := uint32(0), 4096; off < len(want); sn, off = sn+1, off+4096 {
		var o pdu.Header
		o.SetOpcode(pdu.DataOut)
		if off+4096 == len(want) {
			o.SetFlags(pdu.FlagFinal)
		}
		o.SetTaskTag(h.TaskTag())
		o.SetTransferTag(pdu.NoTag)
		o.SetDataSN(sn)
		o.SetBufferOffset(uint32(off))
		i.send(&o, want[off:off+4096])
	}
	if r := i.finish(nil); r.status != disk.Good || !bytes.Equal(d.stored(len(want)), want) {
		t.Errorf("write: %v; the right data stored: %v", r, bytes.Equal(d.stored(len(want)), want))
	}
}

// Commands on a slow device run at once, answer in any order, and hold up
// neither NOPs nor other commands.
func TestCommandsRunInParallel(t *testing.T) {
	const readers = 32
	d := newFakeDevice()
	var running sync.WaitGroup
	running.Add(readers)
	release := make(chan struct{})
	d.read = func(ctx context.Context, off int64) error {
		running.Done()
		<-release
		return nil
	}
	i := connect(t, testServer(t, Target{LUNs: oneLUN(d)}))
	for n := range readers {
		i.send(i.request(cdb10(opRead10, uint32(n), 1), 512, 0), nil)
	}
	all := make(chan struct{})
	go func() { running.Wait(); close(all) }()
	within(t, all, "all reads inside the device at once")
	if r := i.nop([]byte("still there")); string(r.data) != "still there" {
		t.Errorf("NOP came back with %q", r.data)
	}
	i.mustDo(testUnitReady, 0, nil)
	close(release)
	seen := map[uint32]bool{}
	for range readers {
		r := i.finish(nil)
		if r.status != disk.Good || len(r.data) != 512 || seen[r.tag] {
			t.Fatalf("read: %v", r)
		}
		seen[r.tag] = true
	}
}

func TestWindow(t *testing.T) {
	d := newFakeDevice()
	release := make(chan struct{})
	d.read = func(context.Context, int64) error { <-release; return nil }
	i := connect(t, testServer(t, Target{LUNs: oneLUN(d)}))
	for n := range queueDepth {
		i.send(i.request(cdb10(opRead10, uint32(n), 1), 512, 0), nil)
	}
	r := i.nop(nil)
	if r.ExpCmdSN() != i.cmdSN || r.MaxCmdSN() != i.cmdSN-1 {
		t.Errorf("with all places taken: ExpCmdSN %d, MaxCmdSN %d, want %d and a closed window", r.ExpCmdSN(), r.MaxCmdSN(), i.cmdSN)
	}
	ignored := i.request(cdb10(opRead10, 0, 1), 512, 0) // beyond the window
	i.send(ignored, nil)
	i.cmdSN--
	i.nop(nil) // it has been looked at
	close(release)
	for range queueDepth {
		if r := i.finish(nil); r.tag == ignored.TaskTag() {
			t.Fatal("a command beyond the window was answered")
		}
	}
	if r := i.nop(nil); r.MaxCmdSN() != i.cmdSN+queueDepth-1 {
		t.Errorf("MaxCmdSN %d when idle, want %d", r.MaxCmdSN(), i.cmdSN+queueDepth-1)
	}
}

// A command whose immediate data are still on their way takes its place in the window,
// which never shrinks: what the initiator sends within it is not ignored.
func TestWindowWhileDataArrive(t *testing.T) {
	d := newFakeDevice()
	entered, release := make(chan struct{}, queueDepth), make(chan struct{}, queueDepth)
	d.read = func(context.Context, int64) error { entered <- struct{}{}; <-release; return nil }
	i := connect(t, testServer(t, Target{LUNs: oneLUN(d)}))
	for n := range queueDepth - 1 {
		i.send(i.request(cdb10(opRead10, uint32(n), 1), 512, 0), nil)
		<-entered
	}
	verify := cdb10(0x2f, 0, 1) // reads, too, and so is held
	verify[1] = 0x02
	h := i.request(verify, 0, 512)
	h.SetDataLen(512)
	i.conn.Write(h[:])
	time.Sleep(50 * time.Millisecond) // it has been looked at
	release <- struct{}{}
	last := i.receive()
	most := last.MaxCmdSN()
	i.conn.Write(make([]byte, 512))
	<-entered
	sent := 0
	for ; !pdu.Before(most, i.cmdSN); sent++ {
		i.send(i.request(cdb10(opRead10, 0, 1), 512, 0), nil)
	}
	if r := i.nop(nil); r.ExpCmdSN() != i.cmdSN {
		t.Errorf("of %d commands within MaxCmdSN %d were ignored", sent, i.cmdSN-r.ExpCmdSN())
	}
	close(release)
}

func TestStatSNCountsResponses(t *testing.T) {
	i := connect(t, testServer(t, Target{LUNs: oneLUN(newFakeDevice())}))
	last := uint32(0)
	for n := range 20 {
		i.send(i.request(testUnitReady, 0, 0), nil)
		r := i.receive()
		if n > 0 && r.StatSN() != last+1 {
			t.Fatalf("StatSN %d after %d", r.StatSN(), last)
		}
		last = r.StatSN()
	}
}

func TestBackingErrorsAreNeverGood(t *testing.T) {
	cases := []struct {
		name  string
		err   error
		read  [2]int // key, code
		write [2]int
	}{
		{"damage", fmt.Errorf("volume: %w", ErrMedium), [2]int{3, 0x1100}, [2]int{4, 0x4400}},
		{"unavailable", ErrUnavailable, [2]int{2, 0x0401}, [2]int{2, 0x0401}},
		{"unknown", errors.New("anything"), [2]int{2, 0x0401}, [2]int{2, 0x0401}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d := newFakeDevice()
			d.read = func(context.Context, int64) error { return c.err }
			d.write = func(context.Context, []byte, int64) error { return c.err }
			d.flush = func(context.Context) error { return c.err }
			i := connect(t, testServer(t, Target{LUNs: oneLUN(d)}))
			check := func(name string, r result, want [2]int) {
				t.Helper()
				if r.status != disk.CheckCondition || int(r.key) != want[0] || int(r.asc) != want[1] || len(r.data) != 0 {
					t.Errorf("%s: %v, want sense %x/%04x and no data", name, r, want[0], want[1])
				}
			}
			check("read", i.do(cdb10(opRead10, 0, 8), 4096, nil), c.read)
			check("write", i.do(cdb10(opWrite10, 0, 8), 0, make([]byte, 4096)), c.write)
			check("flush", i.do(cdb10(opSync10, 0, 0), 0, nil), c.write)
			check("write same", i.do(cdb10(0x41, 0, 8), 0, make([]byte, 512)), c.write)
		})
	}
}

func TestPanicCostsOneCommand(t *testing.T) {
	d := newFakeDevice()
	d.read = func(context.Context, int64) error { panic("in the device") }
	i := connect(t, testServer(t, Target{LUNs: oneLUN(d)}))
	if r := i.do(cdb10(opRead10, 0, 1), 512, nil); r.status != disk.CheckCondition || r.key != 4 {
		t.Errorf("read: %v, want a hardware error", r)
	}
	i.mustDo(testUnitReady, 0, nil)
	i.mustDo(cdb10(opWrite10, 0, 1), 0, make([]byte, 512))
}

// heldWriter makes a device hold writes until released or cancelled. A write
// that is released is stored; returned tells how many calls came back.
func heldWriter(d *fakeDevice) (entered chan struct{}, release chan struct{}, returned *atomic.Int32) {
	entered, release, returned = make(chan struct{}, 16), make(chan struct{}), new(atomic.Int32)
	d.write = func(ctx context.Context, p []byte, off int64) error {
		defer returned.Add(1)
		entered <- struct{}{}
		select {
		case <-release:
			d.store(p, off)
			return nil
		case <-ctx.Done():
			time.Sleep(50 * time.Millisecond) // a device takes a while to let go
			return ctx.Err()
		}
	}
	return entered, release, returned
}

// R9: the answer to ABORT TASK comes when the write has left the device, so that
// what the initiator writes afterwards is never overwritten by it.
func TestAbortWaitsForTheHeldWrite(t *testing.T) {
	functions := map[string]byte{
		"ABORT TASK": abortTask, "ABORT TASK SET": abortTaskSet,
		"CLEAR TASK SET": clearTaskSet, "LOGICAL UNIT RESET": logicalUnitReset, "TARGET WARM RESET": targetWarmReset,
	}
	for name, function := range functions {
		t.Run(name, func(t *testing.T) {
			d := newFakeDevice()
			entered, _, returned := heldWriter(d)
			i := connect(t, testServer(t, Target{LUNs: oneLUN(d)}))
			h := i.request(cdb10(opWrite10, 0, 1), 0, 512)
			i.send(h, pattern(512, 1))
			<-entered
			i.nop(nil)
			tag := i.manage(function, h.TaskTag())
			r := i.receive()
			if r.Opcode() != pdu.TaskResponse || r.TaskTag() != tag || r.Header[2] != functionComplete {
				t.Fatalf("got PDU %02x, response %d, want the function's completion and nothing of the write", byte(r.Opcode()), r.Header[2])
			}
			if returned.Load() != 1 {
				t.Fatal("the function was answered while the write was inside the device")
			}
			d.replace(hooks{})
			want := pattern(512, 9)
			i.mustDo(cdb10(opWrite10, 0, 1), 0, want)
			if got := i.mustDo(cdb10(opRead10, 0, 1), 512, nil); !bytes.Equal(got, want) {
				t.Error("the aborted write was applied after the one that followed it")
			}
		})
	}
}

func TestAbortOfWhatIsNotThere(t *testing.T) {
	i := connect(t, testServer(t, Target{LUNs: oneLUN(newFakeDevice())}))
	i.manage(abortTask, 4711)
	if r := i.receive(); r.Header[2] != noSuchTask {
		t.Errorf("response %d, want %d", r.Header[2], noSuchTask)
	}
	i.manage(taskReassign, 1)
	if r := i.receive(); r.Header[2] != cannotReassign {
		t.Errorf("response %d, want %d", r.Header[2], cannotReassign)
	}
}

func TestAbortOfAWriteThatWaitsForData(t *testing.T) {
	d := newFakeDevice()
	i := connect(t, testServer(t, Target{LUNs: oneLUN(d)}))
	data := pattern(131072, 3)
	h := i.request(cdb10(opWrite10, 0, 256), 0, len(data))
	i.send(h, data[:65536])
	r2t := i.receive()
	if r2t.Opcode() != pdu.R2T {
		t.Fatalf("PDU %02x, want an R2T", byte(r2t.Opcode()))
	}
	i.manage(abortTask, h.TaskTag())
	if r := i.receive(); r.Opcode() != pdu.TaskResponse || r.Header[2] != functionComplete {
		t.Fatalf("PDU %02x, response %d", byte(r.Opcode()), r.Header[2])
	}
	i.answerR2T(r2t, data, 65536) // was on its way
	i.mustDo(testUnitReady, 0, nil)
	if !bytes.Equal(d.stored(len(data)), make([]byte, len(data))) {
		t.Error("data of an aborted write were stored")
	}
}

// R9: a login that reinstates a session succeeds when the old one's write can
// not land any more.
func TestReinstatementWaitsForTheHeldWrite(t *testing.T) {
	d := newFakeDevice()
	entered, release, returned := heldWriter(d)
	s := testServer(t, Target{LUNs: oneLUN(d)})
	old := connect(t, s)
	old.send(old.request(cdb10(opWrite10, 0, 1), 0, 512), pattern(512, 1))
	<-entered
	next := connect(t, s)
	if returned.Load() != 1 {
		t.Fatal("login was answered while the old session's write was inside the device")
	}
	close(release) // too late for the old write
	want := pattern(512, 9)
	next.mustDo(cdb10(opWrite10, 0, 1), 0, want)
	if got := next.mustDo(cdb10(opRead10, 0, 1), 512, nil); !bytes.Equal(got, want) {
		t.Error("the old session's write landed last")
	}
	old.expectEnd()
}

func TestSessionsOfOneInitiatorSideBySide(t *testing.T) {
	s := testServer(t, Target{LUNs: oneLUN(newFakeDevice())})
	first := connect(t, s)
	second := dial(t, s)
	second.isid = 1
	second.mustLogin()
	second.powerOn()
	first.mustDo(testUnitReady, 0, nil)
	second.mustDo(testUnitReady, 0, nil)
	other := dial(t, s)
	other.name = "iqn.2026-11.test:other"
	r := other.login(toFullFeature, "InitiatorName="+other.name, "TargetName="+testIQN)
	if got := loginStatus(r); got != login.Forbidden {
		t.Errorf("a second initiator name: status %04x, want %04x", got, login.Forbidden)
	}
}

func TestResizeUnitAttention(t *testing.T) {
	d := newFakeDevice()
	s := testServer(t, Target{LUNs: oneLUN(d)})
	i := connect(t, s)
	d.grow(1 << 20)
	if err := s.Resize(testIQN, 0, d.Size()); err != nil {
		t.Fatal(err)
	}
	if r := i.do(testUnitReady, 0, nil); r.key != 6 || r.asc != 0x2a09 {
		t.Errorf("after resize: %v, want 6/2a09", r)
	}
	i.mustDo(testUnitReady, 0, nil)
	rc := append([]byte{0x9e, 0x10}, make([]byte, 14)...)
	rc[13] = 32
	if got := binary.BigEndian.Uint64(i.mustDo(rc, 32, nil)); got != uint64(d.Size()/512-1) {
		t.Errorf("last block %d, want %d", got, d.Size()/512-1)
	}
	i.mustDo(cdb10(opWrite10, uint32(d.Size()/512-1), 1), 0, make([]byte, 512))
}

func TestResiduals(t *testing.T) {
	i := connect(t, testServer(t, Target{LUNs: oneLUN(newFakeDevice())}))
	cases := []struct {
		name           string
		blocks         uint16
		expected, data int
		flag           byte
		residual       uint32
	}{
		{"exact", 2, 1024, 1024, 0, 0},
		{"initiator has more room", 1, 4096, 512, pdu.FlagUnderflow, 3584},
		{"initiator has less room", 2, 512, 512, pdu.FlagOverflow, 512},
	}
	for _, c := range cases {
		r := i.do(cdb10(opRead10, 0, c.blocks), c.expected, nil)
		if r.status != disk.Good || len(r.data) != c.data || r.flags&6 != c.flag || r.residual != c.residual {
			t.Errorf("read, %s: %v", c.name, r)
		}
	}
}

func TestRemoveTargetEndsItsSessions(t *testing.T) {
	d := newFakeDevice()
	entered, _, returned := heldWriter(d)
	s := testServer(t, Target{LUNs: oneLUN(d)})
	i := connect(t, s)
	i.send(i.request(cdb10(opWrite10, 0, 1), 0, 512), make([]byte, 512))
	<-entered
	if err := s.RemoveTarget(t.Context(), testIQN); err != nil {
		t.Fatal(err)
	}
	if returned.Load() != 1 {
		t.Error("the device was still in use when RemoveTarget returned")
	}
	i.expectEnd()
	if err := s.RemoveTarget(t.Context(), testIQN); !errors.Is(err, ErrNoTarget) {
		t.Errorf("second RemoveTarget: %v", err)
	}
	r := dial(t, s).login(toFullFeature, "InitiatorName=iqn.2026-11.test:host", "TargetName="+testIQN)
	if loginStatus(r) != login.NotFound {
		t.Errorf("login after removal: %04x", loginStatus(r))
	}
	if err := s.AddTarget(Target{IQN: testIQN, LUNs: oneLUN(newFakeDevice())}); err != nil {
		t.Fatal(err)
	}
	connect(t, s).mustDo(testUnitReady, 0, nil)
}

func TestShutdownDrains(t *testing.T) {
	d := newFakeDevice()
	entered, release, _ := heldWriter(d)
	s, err := New(Config{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.AddTarget(Target{IQN: testIQN, LUNs: oneLUN(d)}); err != nil {
		t.Fatal(err)
	}
	go s.Serve()
	i := connect(t, s)
	want := pattern(512, 4)
	i.send(i.request(cdb10(opWrite10, 0, 1), 0, 512), want)
	<-entered
	done := make(chan struct{})
	go func() { defer close(done); s.Shutdown(context.Background()) }()
	select {
	case <-done:
		t.Fatal("shut down with a write inside the device")
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	if r := i.finish(nil); r.status != disk.Good {
		t.Errorf("the write in flight: %v", r)
	}
	within(t, done, "Shutdown")
	if !bytes.Equal(d.stored(512), want) {
		t.Error("the write in flight was lost")
	}
}

// A login that still waits for the session it reinstates, and is refused by the end of
// the server, is not waited for.
func TestShutdownDuringReinstatement(t *testing.T) {
	d := newFakeDevice()
	entered, release := make(chan struct{}), make(chan struct{})
	d.write = func(context.Context, []byte, int64) error {
		close(entered)
		<-release
		return nil
	}
	s, err := New(Config{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.AddTarget(Target{IQN: testIQN, LUNs: oneLUN(d)}); err != nil {
		t.Fatal(err)
	}
	go s.Serve()
	old := connect(t, s)
	old.send(old.request(cdb10(opWrite10, 0, 1), 0, 512), pattern(512, 1))
	<-entered
	next := dial(t, s)
	next.send(next.loginRequest(toFullFeature, "InitiatorName="+next.name, "TargetName="+testIQN))
	old.expectEnd() // the login waits for the write
	done := make(chan struct{})
	go func() {
		defer close(done)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.Shutdown(ctx)
	}()
	next.expectEnd()
	close(release)
	within(t, done, "Shutdown")
}

func TestTargetsThatAreRefused(t *testing.T) {
	s := testServer(t, Target{LUNs: oneLUN(newFakeDevice())})
	d := newFakeDevice()
	for name, bad := range map[string]Target{
		"no name":        {LUNs: oneLUN(d)},
		"long name":      {IQN: strings.Repeat("x", 224), LUNs: oneLUN(d)},
		"there already":  {IQN: testIQN, LUNs: oneLUN(d)},
		"no LUN":         {IQN: "a"},
		"LUN twice":      {IQN: "a", LUNs: append(oneLUN(d), oneLUN(d)...)},
		"no device":      {IQN: "a", LUNs: []LUN{{Volume: testVolume}}},
		"no volume":      {IQN: "a", LUNs: []LUN{{Device: d}}},
		"no CHAP secret": {IQN: "a", LUNs: oneLUN(d), CHAP: CHAP{User: "host"}},
	} {
		if err := s.AddTarget(bad); err == nil {
			t.Errorf("%s: added", name)
		}
	}
	if err := s.SetReady(testIQN, oneLUN(d)...); !errors.Is(err, ErrExists) {
		t.Errorf("LUNs for a target that has some: %v", err)
	}
	if err := s.Resize(testIQN, 5, 1<<20); !errors.Is(err, ErrNoLUN) {
		t.Errorf("resize of a LUN that is not there: %v", err)
	}
}

// What has ended is answered, however long the initiator takes to read it.
func TestShutdownSendsAnswers(t *testing.T) {
	s, err := New(Config{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	const reads, blocks = 8, disk.MaxTransfer / 512 // more than the kernel buffers
	d := newFakeDevice()
	var running sync.WaitGroup
	running.Add(reads)
	d.read = func(context.Context, int64) error {
		running.Done()
		running.Wait()
		return nil
	}
	if err := s.AddTarget(Target{IQN: testIQN, LUNs: oneLUN(d)}); err != nil {
		t.Fatal(err)
	}
	go s.Serve()
	i := connect(t, s)
	for range reads {
		i.send(i.request(cdb10(opRead10, 0, blocks), disk.MaxTransfer, 0), nil)
	}
	running.Wait()
	done := make(chan struct{})
	go func() { defer close(done); s.Shutdown(context.Background()) }()
	time.Sleep(50 * time.Millisecond)
	left, _ := io.Copy(io.Discard, i.conn)
	if left < (reads-1)*disk.MaxTransfer {
		t.Errorf("%d bytes came of %d reads", left, reads)
	}
	within(t, done, "Shutdown")
}

func TestLogout(t *testing.T) {
	i := connect(t, testServer(t, Target{LUNs: oneLUN(newFakeDevice())}))
	var h pdu.Header
	h.SetOpcode(pdu.LogoutReq)
	h.SetFlags(pdu.FlagFinal)
	i.number(&h)
	i.send(&h, nil)
	if r := i.receive(); r.Opcode() != pdu.LogoutResp || r.Header[2] != 0 {
		t.Errorf("PDU %02x, response %d", byte(r.Opcode()), r.Header[2])
	}
	i.expectEnd()
}
