package target

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/target/disk"
	"github.com/swiftblock/csi-swiftblock/pkg/target/login"
	"github.com/swiftblock/csi-swiftblock/pkg/target/pdu"
)

// stillServes checks that the server works for a new initiator.
func stillServes(t *testing.T, s *Server) {
	t.Helper()
	i := dial(t, s)
	i.isid = 99
	i.mustLogin()
	i.powerOn()
	i.mustDo(testUnitReady, 0, nil)
}

func TestGarbageBeforeLogin(t *testing.T) {
	s := testServer(t, Target{LUNs: oneLUN(newFakeDevice())})
	seed := uint64(20261122)
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	for range 200 {
		i := dial(t, s)
		b := make([]byte, 48+random.IntN(200))
		for j := range b {
			b[j] = byte(random.Uint32())
		}
		if random.IntN(2) == 0 {
			b[0], b[4] = 0x43, 0 // nearly a login
		}
		i.conn.Write(b)
		i.conn.Close()
	}
	i := dial(t, s)
	h, _ := i.loginRequest(toFullFeature)
	h.SetDataLen(1 << 20)
	i.conn.Write(h[:])
	i.expectEnd()
	stillServes(t, s)
}

// breaches after login end the connection, with a Reject first where the place
// in the stream is known.
func TestBreachesEndTheConnection(t *testing.T) {
	cases := map[string]struct {
		reason byte // 0: no Reject
		send   func(*initiator)
	}{
		"segment longer than agreed": {0, func(i *initiator) {
			h := i.request(cdb10(opWrite10, 0, 1), 0, 512)
			h.SetDataLen(1<<24 - 1)
			i.conn.Write(h[:])
		}},
		"CmdSN with a gap": {rejectProtocol, func(i *initiator) {
			i.cmdSN += 3
			i.send(i.request(testUnitReady, 0, 0), nil)
		}},
		"more immediate data than a first burst": {rejectProtocol, func(i *initiator) {
			i.send(i.request(cdb10(opWrite10, 0, 512), 0, 512*512), make([]byte, 65536+512))
		}},
		"immediate data of a read": {rejectProtocol, func(i *initiator) {
			i.send(i.request(cdb10(opRead10, 0, 1), 512, 0), make([]byte, 512))
		}},
		"login again": {rejectProtocol, func(i *initiator) {
			i.send(i.loginRequest(toFullFeature, "InitiatorName=x"))
		}},
		"header of a PDU only": {0, func(i *initiator) { i.conn.Close() }},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := testServer(t, Target{LUNs: oneLUN(newFakeDevice())})
			i := connect(t, s)
			c.send(i)
			reasons := i.expectEnd()
			if c.reason != 0 && (len(reasons) != 1 || reasons[0] != c.reason) {
				t.Errorf("rejects %x, want %x", reasons, c.reason)
			}
			stillServes(t, s)
		})
	}
}

func TestRejectedPDUsCostNothingElse(t *testing.T) {
	i := connect(t, testServer(t, Target{LUNs: oneLUN(newFakeDevice())}))
	send := func(opcode pdu.Opcode, want byte) {
		t.Helper()
		var h pdu.Header
		h.SetOpcode(opcode)
		h.SetFlags(pdu.FlagFinal)
		h.SetTaskTag(77)
		i.send(&h, make([]byte, 20))
		r := i.receive()
		if r.Opcode() != pdu.Reject || r.Header[2] != want || len(r.data) != pdu.HeaderLen {
			t.Errorf("opcode %02x: PDU %02x, reason %x, %d bytes", byte(opcode), byte(r.Opcode()), r.Header[2], len(r.data))
		}
	}
	send(pdu.Snack, rejectSnack)
	send(0x1c, rejectUnsupported)
	send(0x15, rejectUnsupported)
	i.mustDo(testUnitReady, 0, nil)

	var h pdu.Header // Data-Out of a task that does not exist
	h.SetOpcode(pdu.DataOut)
	h.SetTaskTag(4711)
	i.send(&h, make([]byte, 512))
	i.mustDo(testUnitReady, 0, nil)

	ahs := i.request(testUnitReady, 0, 0) // with an additional header segment
	ahs.SetDataLen(0)
	ahs[4] = 5
	i.conn.Write(append(ahs[:], make([]byte, 20)...))
	if r := i.finish(nil); r.status != disk.Good {
		t.Errorf("command with an additional header segment: %v", r)
	}
}

func TestMisplacedDataOutFailsItsCommandOnly(t *testing.T) {
	d := newFakeDevice()
	i := connect(t, testServer(t, Target{LUNs: oneLUN(d)}))
	cases := map[string]func(h *pdu.Header){
		"DataSN":        func(h *pdu.Header) { h.SetDataSN(27) },
		"buffer offset": func(h *pdu.Header) { h.SetBufferOffset(0) },
		"beyond":        func(h *pdu.Header) { h.SetBufferOffset(1<<32 - 512) },
		"transfer tag":  func(h *pdu.Header) { h.SetTransferTag(12345) },
		"early end":     func(h *pdu.Header) { h.SetFlags(pdu.FlagFinal) },
	}
	for name, spoil := range cases {
		i.send(i.request(cdb10(opWrite10, 0, 256), 0, 131072), make([]byte, 65536))
		r := i.receive()
		var h pdu.Header
		h.SetOpcode(pdu.DataOut)
		h.SetTaskTag(r.TaskTag())
		h.SetTransferTag(r.TransferTag())
		h.SetBufferOffset(r.BufferOffset())
		spoil(&h)
		i.send(&h, pattern(512, 1))
		if got := i.finish(nil); got.key != 0xb || got.asc != 0x4b00 {
			t.Errorf("%s: %v, want a data phase error", name, got)
		}
		i.mustDo(testUnitReady, 0, nil)
	}
	if got := d.stored(131072); len(got) == 0 || got[65536] != 0 {
		t.Error("misplaced data were stored")
	}
}

// A task that ends while one of its Data-Outs is half read leaves the buffer to
// the reader, and gives its share of the budget back.
func TestAbortInTheMiddleOfADataOut(t *testing.T) {
	s := testServer(t, Target{LUNs: oneLUN(newFakeDevice())})
	i := connect(t, s)
	i.send(i.request(cdb10(opWrite10, 0, 256), 0, 131072), make([]byte, 65536))
	r2t := i.receive()
	var h pdu.Header
	h.SetOpcode(pdu.DataOut)
	h.SetFlags(pdu.FlagFinal)
	h.SetTaskTag(r2t.TaskTag())
	h.SetTransferTag(r2t.TransferTag())
	h.SetBufferOffset(r2t.BufferOffset())
	h.SetDataLen(65536)
	i.conn.Write(h[:])
	i.conn.Write(make([]byte, 30000))
	session := s.list()[0].members()[0]
	deadline := time.Now().Add(waitLimit)
	for reading := false; !reading && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		session.mu.Lock()
		for _, task := range session.tasks {
			reading = task.data.filling
		}
		session.mu.Unlock()
	}
	other := dial(t, s)
	other.isid = 1
	other.mustLogin()
	other.powerOn()
	other.manage(logicalUnitReset, pdu.NoTag)
	if r := other.receive(); r.Opcode() != pdu.TaskResponse || r.Header[2] != functionComplete {
		t.Fatalf("PDU %02x, response %d", byte(r.Opcode()), r.Header[2])
	}
	i.conn.Write(make([]byte, 65536-30000))
	i.nop(nil)
	if !s.buffers.TryAcquire(defaultBuffers) || !session.writeBudget.own.TryAcquire(reserve) {
		t.Error("a part of the budget is lost")
	}
}

// Whatever comes after login, the server goes on and keeps nothing of it.
func TestRandomPDUsAfterLogin(t *testing.T) {
	const seed = 42
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	s := testServer(t, Target{Shared: true, LUNs: oneLUN(newFakeDevice())})
	opcodes := []pdu.Opcode{
		pdu.NopOut, pdu.SCSICommand, pdu.SCSICommand, pdu.SCSICommand, pdu.TaskRequest,
		pdu.TextRequest, pdu.DataOut, pdu.DataOut, pdu.Snack, 0x1c,
	}
	for round := range 60 {
		i := connect(t, s)
		go func() { // takes whatever comes
			for {
				if _, err := i.tryReceive(); err != nil {
					return
				}
			}
		}()
		for range 200 {
			var h pdu.Header
			for b := range h {
				if random.IntN(3) == 0 {
					h[b] = byte(random.Uint32())
				}
			}
			h.SetOpcode(opcodes[random.IntN(len(opcodes))])
			h[0] |= byte(random.IntN(2)) << 6
			h.SetDataLen(random.IntN(4) * random.IntN(600))
			h.SetTaskTag(uint32(random.IntN(8)))
			binary.BigEndian.PutUint32(h[24:], i.cmdSN)
			if !h.Immediate() && h.Opcode() != pdu.DataOut {
				i.cmdSN++
			}
			if i.trySend(&h, make([]byte, h.DataLen())) != nil {
				break
			}
		}
		i.conn.Close()
		if round%20 == 0 {
			stillServes(t, s)
		}
	}
	stillServes(t, s)
	deadline := time.Now().Add(waitLimit)
	for {
		s.mu.Lock()
		left := len(s.sessions)
		s.mu.Unlock()
		if left <= 1 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d sessions are left", left)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestCorruptedDigestEndsTheConnection(t *testing.T) {
	for _, part := range []string{"header", "data"} {
		t.Run(part, func(t *testing.T) {
			d := newFakeDevice()
			s := testServer(t, Target{LUNs: oneLUN(d)})
			i := connect(t, s, "HeaderDigest=CRC32C", "DataDigest=CRC32C")
			f := pdu.Frame{Header: *i.request(cdb10(opWrite10, 0, 1), 0, 512), Data: pattern(512, 1)}
			var wire []byte
			for _, b := range f.Buffers(nil, i.digests) {
				wire = append(wire, b...)
			}
			at, want := 33, "" // a header that cannot be trusted is not answered
			if part == "data" {
				at, want = 60, string(rune(rejectDigest))
			}
			wire[at] ^= 1
			i.conn.Write(wire)
			if reasons := i.expectEnd(); string(reasons) != want {
				t.Errorf("rejects %x, want %x", reasons, want)
			}
			if d.stored(1)[0] != 0 {
				t.Error("corrupted data were stored")
			}
			stillServes(t, s)
		})
	}
}

// A huge expected length makes the target set nothing aside for it.
func TestExpectedLengthAllocatesNothing(t *testing.T) {
	i := connect(t, testServer(t, Target{LUNs: oneLUN(newFakeDevice())}))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 64 {
		h := i.request(cdb10(opWrite10, 0, 1), 0, 512)
		binary.BigEndian.PutUint32(h[20:], 1<<32-1)
		i.send(h, make([]byte, 512))
		if r := i.finish(nil); r.status != disk.Good || r.residual != 1<<32-1-512 {
			t.Fatalf("write: %v", r)
		}
	}
	if r := i.do([]byte{0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0}, 4096, nil); r.status != disk.CheckCondition {
		t.Errorf("read of 2 TiB: %v", r)
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.TotalAlloc - before.TotalAlloc); grown > 16<<20 {
		t.Errorf("%d bytes allocated", grown)
	}
}

// An initiator that asks and never reads is stopped, not served from memory
// without end.
func TestInitiatorThatDoesNotRead(t *testing.T) {
	s := testServer(t, Target{LUNs: oneLUN(newFakeDevice())})
	i := connect(t, s)
	var h pdu.Header
	h.SetOpcode(pdu.NopOut)
	h[0] |= 0x40
	h.SetFlags(pdu.FlagFinal)
	i.number(&h)
	h.SetTransferTag(pdu.NoTag)
	data := make([]byte, 65536)
	stuck := func() bool {
		i.conn.SetWriteDeadline(time.Now().Add(time.Second)) // of each: a busy machine is not to look like a bound
		return i.trySend(&h, data) != nil
	}
	sent := 0
	for !stuck() && sent < 1<<14 {
		sent++
	}
	if limit := maxReplies + 1024; sent > limit {
		t.Errorf("took %d NOPs of 64 KiB without a reader", sent)
	}
	stillServes(t, s)
}

func TestChap(t *testing.T) {
	chap := CHAP{User: "host", Secret: "a secret of ours", MutualUser: "target", MutualSecret: "a secret of theirs"}
	s := testServer(t, Target{CHAP: chap, LUNs: oneLUN(newFakeDevice())})
	i := dial(t, s)
	if r := i.login(toFullFeature, "InitiatorName="+i.name, "TargetName="+testIQN); loginStatus(r) != login.AuthFailed {
		t.Errorf("login without CHAP: %04x", loginStatus(r))
	}
	i.expectEnd()
}

// A login that one target has let in does not come in at another of the same name,
// which may not be ready, and have other secrets.
func TestTargetReplacedDuringLogin(t *testing.T) {
	s := testServer(t, Target{LUNs: oneLUN(newFakeDevice())})
	i := dial(t, s)
	const stays = 0x04 // in the operational stage
	if r := i.login(stays, "InitiatorName="+i.name, "TargetName="+testIQN); loginStatus(r) != login.Success {
		t.Fatalf("login: %04x", loginStatus(r))
	}
	if err := s.RemoveTarget(t.Context(), testIQN); err != nil {
		t.Fatal(err)
	}
	if err := s.AddTarget(Target{IQN: testIQN, NotReady: true}); err != nil {
		t.Fatal(err)
	}
	if r := i.login(toFullFeature); loginStatus(r) != login.Unavailable {
		t.Errorf("status %04x, want %04x", loginStatus(r), login.Unavailable)
	}
}

func TestTargetNotReady(t *testing.T) {
	s := testServer(t, Target{NotReady: true})
	i := dial(t, s)
	if r := i.login(toFullFeature, "InitiatorName="+i.name, "TargetName="+testIQN); loginStatus(r) != login.Unavailable {
		t.Errorf("status %04x, want %04x", loginStatus(r), login.Unavailable)
	}
	if err := s.SetReady(testIQN, oneLUN(newFakeDevice())...); err != nil {
		t.Fatal(err)
	}
	connect(t, s).mustDo(testUnitReady, 0, nil)
}

func TestDiscovery(t *testing.T) {
	s := testServer(t, Target{Initiators: []string{"iqn.2026-11.test:host"}, LUNs: oneLUN(newFakeDevice())})
	for n := range 300 { // more than one PDU of text
		err := s.AddTarget(Target{IQN: fmt.Sprintf("%s-%03d", testIQN, n), LUNs: oneLUN(newFakeDevice())})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.AddTarget(Target{IQN: testIQN + "-hidden", Initiators: []string{"other"}, NotReady: true}); err != nil {
		t.Fatal(err)
	}
	i := dial(t, s)
	if r := i.login(toFullFeature, "InitiatorName="+i.name, "SessionType=Discovery"); loginStatus(r) != login.Success {
		t.Fatalf("login: %04x", loginStatus(r))
	}
	var h pdu.Header
	h.SetOpcode(pdu.TextRequest)
	h.SetFlags(pdu.FlagFinal)
	i.number(&h)
	h.SetTransferTag(pdu.NoTag)
	i.send(&h, []byte("SendTargets=All\x00"))
	var text strings.Builder
	for {
		r := i.receive()
		text.Write(r.data)
		if len(r.data) > 8192 {
			t.Fatalf("%d bytes in a segment, the default limit is 8192", len(r.data))
		}
		if r.Final() {
			break
		}
		i.number(&h)
		h.SetTransferTag(r.TransferTag())
		i.send(&h, nil)
	}
	got := text.String()
	if n := strings.Count(got, "TargetName="); n != 301 || strings.Contains(got, "hidden") {
		t.Errorf("%d targets listed, want 301 and not the one of others", n)
	}
	if want := "TargetAddress=" + s.Addr().String() + ",1\x00"; !strings.Contains(got, want) {
		t.Errorf("no %q", want)
	}
	i.send(i.request(testUnitReady, 0, 0), nil)
	i.expectEnd()
}

// Discovery asks for no secret, so however many such sessions there are, they keep no
// initiator out.
func TestBrowsersKeepNobodyOut(t *testing.T) {
	s := testServer(t, Target{LUNs: oneLUN(newFakeDevice())})
	browse := func() login.Status {
		return loginStatus(dial(t, s).login(toFullFeature, "InitiatorName=x", "SessionType=Discovery"))
	}
	for range browsersAtOnce {
		if status := browse(); status != login.Success {
			t.Fatalf("login: %04x", status)
		}
	}
	if status := browse(); status != login.OutOfResources {
		t.Errorf("one more: %04x, want %04x", status, login.OutOfResources)
	}
	connect(t, s)
}

// What SendTargets names decides what is listed, and a session with a target is
// not for browsing (RFC 7143 appendix C).
func TestSendTargets(t *testing.T) {
	s := testServer(t, Target{LUNs: oneLUN(newFakeDevice())})
	for name, initiators := range map[string][]string{"-other": nil, "-hidden": {"someone"}} {
		if err := s.AddTarget(Target{IQN: testIQN + name, Initiators: initiators, LUNs: oneLUN(newFakeDevice())}); err != nil {
			t.Fatal(err)
		}
	}
	normal, discovery := connect(t, s), dial(t, s)
	if r := discovery.login(toFullFeature, "InitiatorName="+discovery.name, "SessionType=Discovery"); loginStatus(r) != login.Success {
		t.Fatalf("login: %04x", loginStatus(r))
	}
	for _, c := range []struct {
		session *initiator
		which   string
		want    []string // ends of the names
	}{
		{discovery, "All", []string{"", "-other"}},
		{discovery, testIQN, []string{""}},
		{discovery, strings.ToUpper(testIQN), []string{""}},
		{discovery, testIQN + "-hidden", nil},
		{discovery, testIQN + "-none", nil},
		{discovery, "", nil}, // there is no target that this is the session of
		{normal, "", []string{""}},
		{normal, testIQN, []string{""}},
		{normal, "All", nil},
	} {
		var h pdu.Header
		h.SetOpcode(pdu.TextRequest)
		h.SetFlags(pdu.FlagFinal)
		c.session.number(&h)
		h.SetTransferTag(pdu.NoTag)
		c.session.send(&h, []byte("SendTargets="+c.which+"\x00"))
		var got []string
		for pair := range strings.SplitSeq(string(c.session.receive().data), "\x00") {
			if name, ok := strings.CutPrefix(pair, "TargetName="+testIQN); ok {
				got = append(got, name)
			}
		}
		if slices.Sort(got); !slices.Equal(got, c.want) {
			t.Errorf("discovery %v, SendTargets=%q: %q, want %q", c.session == discovery, c.which, got, c.want)
		}
	}
}

func TestServeAfterShutdown(t *testing.T) {
	s, err := New(Config{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(); err != nil {
		t.Errorf("Serve: %v", err)
	}
	if err := s.AddTarget(Target{IQN: testIQN, LUNs: oneLUN(newFakeDevice())}); !errors.Is(err, ErrClosed) {
		t.Errorf("AddTarget after Shutdown: %v", err)
	}
}
