package target

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/swiftblock/csi-swiftblock/pkg/target/disk"
	"github.com/swiftblock/csi-swiftblock/pkg/target/login"
	"github.com/swiftblock/csi-swiftblock/pkg/target/pdu"
)

// Bounds of a session. Its memory is at most queueDepth first bursts, the two
// reserves of its budgets, maxReplyBytes and what one window of answers adds to them, and
// a data segment or two, besides what it has of the server's.
const (
	queueDepth    = 128 // commands in flight: the CmdSN window
	maxImmediate  = 8   // immediate commands in flight, besides
	maxManagement = 16  // task management functions in progress
)

// session is a session and its only connection, in full feature phase.
//
// Goroutines: the reader takes PDUs off the connection and never waits for a
// command; up to queueDepth workers carry out commands, and send what is in the
// outbox; the writer sends for the reader.
type session struct {
	server *Server
	node   *node // nil in a discovery session
	log    *slog.Logger
	conn   net.Conn
	in     *pdu.Reader
	params login.Params // MaxSend is guarded by mu
	nexus  disk.Nexus
	tsih   uint16

	complaints  rate.Sometimes // about commands that failed
	received    atomic.Uint64  // PDUs
	ready       chan *task     // to be carried out
	wake        chan struct{}  // the writer
	over        chan struct{}  // closed when end begins
	ended       chan struct{}  // closed when no command runs or can be applied
	readBudget  budget         // of data-in, read but not sent
	writeBudget budget         // of data-out longer than a first burst

	mu         sync.Mutex
	room       sync.Cond // signalled after each write, and as tasks finish at the end
	out        outbox
	tasks      map[uint32]*task // by initiator task tag
	expCmdSN   uint32
	statSN     uint32
	lastTag    uint32 // target transfer tag given out last
	busy       int    // tasks in the CmdSN window
	immediate  int    // tasks outside it
	management int
	idle       int  // workers waiting for a task
	draining   bool // new commands are dropped unanswered
	closed     bool
	text       textExchange
}

func newSession(s *Server, n *node, conn net.Conn, in *pdu.Reader, m *login.Machine) *session {
	params := m.Params()
	in.Digests, in.MaxData = params.Digests, params.MaxRecv
	ss := &session{
		server:      s,
		node:        n,
		log:         s.log.With("initiator", params.Initiator, "target", params.Target),
		conn:        conn,
		in:          in,
		params:      params,
		complaints:  rate.Sometimes{First: 10, Interval: 10 * time.Second},
		nexus:       disk.Nexus{Name: params.Initiator, ISID: m.ISID},
		ready:       make(chan *task, queueDepth+maxImmediate),
		wake:        make(chan struct{}, 1),
		over:        make(chan struct{}),
		ended:       make(chan struct{}),
		readBudget:  s.newBudget(),
		writeBudget: s.newBudget(),
		tasks:       map[uint32]*task{},
		out:         outbox{timeout: writeTimeout},
	}
	ss.room.L = &ss.mu
	return ss
}

// maxCmdSN is the end of the window: a task that is done makes room for one.
func (s *session) maxCmdSN() uint32 { return s.expCmdSN + uint32(queueDepth-s.busy) - 1 }

// transferTag gives out a target transfer tag. The session is locked.
func (s *session) transferTag() uint32 {
	s.lastTag++
	if s.lastTag == pdu.NoTag {
		s.lastTag = 0
	}
	return s.lastTag
}

// serve runs the full feature phase until the connection ends.
func (s *session) serve() error {
	go s.writer()
	err := s.receive()
	s.end()
	return err
}

// start hands a task to the workers; there is a worker for every task that is
// in flight, so that none waits for another. The session is locked.
func (s *session) start(t *task) {
	if s.idle > 0 {
		s.idle-- // on behalf of the worker that will take it
	} else {
		go s.work()
	}
	s.ready <- t // never blocks: as long as what may be in flight
}

func (s *session) work() {
	for t := range s.ready {
		t.run()
	}
}

// end terminates the session: its commands are cancelled and awaited. From the
// moment that ended is closed, none of them can be applied any more (R9).
func (s *session) end() {
	s.conn.Close()
	close(s.over)
	s.mu.Lock()
	s.closed = true
	s.out.broken = true
	for _, t := range s.tasks {
		t.abort()
	}
	for len(s.tasks) > 0 {
		s.room.Wait()
	}
	s.flush() // gives back buffers
	s.mu.Unlock()
	close(s.ready)
	if s.node != nil {
		s.node.leave(s)
	}
	close(s.ended)
}

// dismiss tells the initiator that the connection is about to be dropped (async
// message, RFC 7143 §11.9) and drops it.
func (s *session) dismiss() {
	const dropsAll = 3
	s.mu.Lock()
	p := s.post(pdu.Async, pdu.NoTag, hasStatus)
	p.Header[36] = dropsAll
	s.out.timeout = lastWrite
	s.out.until = time.Now().Add(lastWrite)
	s.conn.SetWriteDeadline(s.out.until) // of a write in progress, too
	s.flush()
	s.mu.Unlock()
	s.conn.Close()
}

// drain lets the commands in flight end, and their answers go, until ctx is done, takes
// no new ones, and ends the session.
func (s *session) drain(ctx context.Context) {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	stop := context.AfterFunc(ctx, s.dismiss)
	defer stop()
	s.mu.Lock()
	for (len(s.tasks) > 0 || s.out.writing && !s.out.broken) && !s.closed {
		s.room.Wait()
	}
	s.mu.Unlock()
	s.dismiss()
	<-s.ended
}
