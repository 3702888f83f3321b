package target

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/target/pdu"
)

// What is kept for an initiator that asks and does not read is bounded, whatever it asks, and
// when it reads after all, it gets every answer.
func TestAnswersThatAreNotRead(t *testing.T) {
	for what, ask := range map[string]func(i *initiator) *pdu.Header{
		"parameter data": func(i *initiator) *pdu.Header {
			return i.request([]byte{0xa3, 0x0c, 0x80, 0, 0, 0, 0, 0, 0x10, 0, 0, 0}, 4096, 0) // REPORT SUPPORTED OPERATION CODES
		},
		"reads":           func(i *initiator) *pdu.Header { return i.request(cdb10(opRead10, 0, 1), 512, 0) },
		"no data":         func(i *initiator) *pdu.Header { return i.request(testUnitReady, 0, 0) },
		"immediate":       func(i *initiator) *pdu.Header { return i.immediate(pdu.SCSICommand, 0) },
		"aborts":          func(i *initiator) *pdu.Header { return i.immediate(pdu.TaskRequest, abortTask) },
		"pings":           func(i *initiator) *pdu.Header { return i.immediate(pdu.NopOut, 0) },
		"what is unknown": func(i *initiator) *pdu.Header { return i.immediate(0x1c, 0) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			i, ss, read := unread(t)
			sent, before := uint64(0), ss.received.Load()
			full := func() bool { return len(ss.out.queue) > maxReplies || ss.out.replies > maxReplyBytes }
			took := func() bool {
				return ss.received.Load() == before+sent && len(ss.tasks) == 0 && ss.management == 0
			}
			for held := false; !held; {
				if sent > 16*maxReplies {
					t.Fatalf("%d requests were taken, and no answer was read", sent)
				}
				for range maxImmediate {
					i.send(ask(i), nil)
					sent++
				}
				if !ss.settles(waitLimit, func() bool { return took() || full() }) {
					t.Fatalf("of %d requests not all are taken", sent)
				}
				held = !ss.settles(100*time.Millisecond, took)
			}
			ss.mu.Lock()
			waiting := 0
			for _, p := range ss.out.queue {
				waiting += replyCost
				if p.buffer == nil || p.buffer.budget == nil {
					waiting += len(p.Data)
				}
			}
			ss.mu.Unlock()
			if limit := maxReplyBytes + maxImmediate*2*replyCost; waiting > limit {
				t.Errorf("%d bytes wait, want %d at most", waiting, limit)
			}
			read()
			for range sent {
				i.receive()
			}
			i.nop(nil)
			i.manage(abortTask, pdu.NoTag)
			if r := i.receive(); r.Opcode() != pdu.TaskResponse {
				t.Errorf("PDU %02x, want the answer to a task management function", byte(r.Opcode()))
			}
			i.mustDo(testUnitReady, 0, nil)
			if !ss.settles(waitLimit, func() bool { return ss.out.replies == 0 }) {
				t.Error("bytes count as waiting, and nothing waits")
			}
		})
	}
}

// An initiator that keeps to the window may leave all of it unread: its task management
// functions and pings get through.
func TestManagementPassesWhatIsNotRead(t *testing.T) {
	i, ss, _ := unread(t)
	before := ss.received.Load()
	taken := func(n uint64) bool {
		return ss.settles(waitLimit, func() bool { return ss.received.Load() == before+n && len(ss.tasks) == 0 && ss.management == 0 })
	}
	for range queueDepth {
		i.send(i.request(cdb10(opRead10, 0, 64), 32768, 0), nil)
	}
	if !taken(queueDepth) {
		t.Fatal("a window of commands was not taken")
	}
	for range maxManagement {
		i.manage(abortTask, pdu.NoTag)
		i.send(i.immediate(pdu.NopOut, 0), nil)
	}
	if !taken(queueDepth + 2*maxManagement) {
		t.Error("task management functions and pings were not taken")
	}
}

// unread is a session that can send nothing before read is called, as if the initiator did
// not read.
func unread(t *testing.T) (i *initiator, ss *session, read func()) {
	t.Helper()
	s := testServer(t, Target{LUNs: oneLUN(newFakeDevice())})
	i = connect(t, s)
	ss = s.list()[0].members()[0]
	reads := make(chan struct{})
	read = sync.OnceFunc(func() { close(reads) })
	t.Cleanup(read)
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for ss.out.writing {
		ss.room.Wait()
	}
	ss.conn = stuck{ss.conn, reads}
	return i, ss, read
}

// stuck is a connection whose writes wait until somebody reads.
type stuck struct {
	net.Conn
	reads <-chan struct{}
}

func (s stuck) Write(p []byte) (int, error) {
	<-s.reads
	return s.Conn.Write(p)
}

// settles reports whether something of the session comes to hold within a limit.
func (s *session) settles(limit time.Duration, holds func() bool) bool {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(time.Millisecond) {
		s.mu.Lock()
		ok := holds()
		s.mu.Unlock()
		if ok {
			return true
		}
	}
	return false
}

// immediate is a request outside the CmdSN order.
func (i *initiator) immediate(o pdu.Opcode, function byte) *pdu.Header {
	var h pdu.Header
	h.SetOpcode(o)
	h[0] |= 0x40
	h.SetFlags(pdu.FlagFinal | function)
	i.number(&h)
	if o != pdu.SCSICommand { // which has the length of its data there
		h.SetTransferTag(pdu.NoTag)
	}
	return &h
}
