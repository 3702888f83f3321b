package target

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/gostor/gotgt/pkg/scsi"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/swiftblock/csi-swiftblock/pkg/target/disk"
)

// Limits of a server, over all its targets.
const (
	loginTimeout   = 15 * time.Second // from the connection to full feature phase
	loginsAtOnce   = 64               // connections that have not logged in yet; more end the oldest
	sessionsAtOnce = 4096
	browsersAtOnce = 64 // of these, discovery sessions, which anybody may have
	loginsPerSec   = 1000
	pingInterval   = 30 * time.Second
	acceptPause    = 100 * time.Millisecond
)

// Config configures a Server.
type Config struct {
	// Addr to listen on, such as "127.0.0.1:0"; unused with Listener.
	Addr string
	// Listener to serve on instead; Shutdown closes it.
	Listener net.Listener
	// Logger of session events; nil: discarded.
	Logger *slog.Logger
	// Buffers bounds the memory in bytes that commands on their way take together, of
	// all sessions; 0 means 64 MiB. Each session has 16 MiB besides for itself: what
	// others do, whose volumes may hold their writes, makes none wait.
	Buffers int64
}

// Server serves iSCSI targets on one portal. Its methods may be called at any
// time and together.
type Server struct {
	listener net.Listener
	log      *slog.Logger
	model    *disk.Model
	rate     *rate.Limiter
	buffers  *semaphore.Weighted // of all sessions

	mu       sync.Mutex
	nodes    map[string]*node
	sessions map[uint16]*session // by TSIH
	lastTSIH uint16
	pending  map[net.Conn]candidate
	arrived  uint64 // connections so far
	closed   bool
	conns    sync.WaitGroup
}

// candidate is a connection that is logging in.
type candidate struct {
	number uint64 // in the order of arrival
	ctx    context.Context
	end    context.CancelFunc
}

// New listens; Serve accepts.
func New(cfg Config) (*Server, error) {
	l := cfg.Listener
	if l == nil {
		var err error
		if l, err = net.Listen("tcp", cfg.Addr); err != nil {
			return nil, fmt.Errorf("iSCSI target: %w", err)
		}
	}
	s, err := newRegistered()
	if err != nil {
		l.Close()
		return nil, err
	}
	s.listener = l
	if cfg.Buffers > 0 {
		s.buffers = semaphore.NewWeighted(cfg.Buffers)
	}
	if cfg.Logger != nil {
		s.log = cfg.Logger
	}
	return s, nil
}

// newServer makes a server on a service of gotgt's.
func newServer(service *scsi.SCSITargetService) *Server {
	return &Server{
		log:      slog.New(slog.DiscardHandler),
		model:    disk.NewModel(service),
		rate:     rate.NewLimiter(loginsPerSec, loginsPerSec),
		buffers:  semaphore.NewWeighted(defaultBuffers),
		nodes:    map[string]*node{},
		sessions: map[uint16]*session{},
		pending:  map[net.Conn]candidate{},
	}
}

// Addr is the address that the server listens on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Serve accepts connections until Shutdown, then returns nil.
func (s *Server) Serve() error {
	for {
		s.rate.Wait(context.Background()) // never fails: a burst holds one
		conn, err := s.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil { // such as too many open files: may pass
			s.log.Warn("iSCSI target cannot accept", "error", err)
			time.Sleep(acceptPause)
			continue
		}
		s.enter(conn)
	}
}

// enter begins the login of a connection. One too many ends the oldest: so those that
// connect and say nothing keep nobody out.
func (s *Server) enter(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		conn.Close()
		return
	}
	if len(s.pending) == loginsAtOnce {
		s.dropOldest()
	}
	s.arrived++
	c := candidate{number: s.arrived}
	c.ctx, c.end = context.WithTimeout(context.Background(), loginTimeout)
	s.pending[conn] = c
	s.conns.Go(func() { s.connection(c.ctx, conn) })
}

// dropOldest ends the login that has taken longest. The server is locked.
func (s *Server) dropOldest() {
	var oldest net.Conn
	for conn, c := range s.pending {
		if oldest == nil || c.number < s.pending[oldest].number {
			oldest = conn
		}
	}
	s.drop(oldest)
}

// drop ends a login. The server is locked.
func (s *Server) drop(conn net.Conn) {
	s.pending[conn].end()
	conn.Close()
	delete(s.pending, conn)
}

// connection serves one connection to its end.
func (s *Server) connection(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	ss, err := s.login(ctx, conn)
	s.mu.Lock()
	if c, pending := s.pending[conn]; pending {
		c.end()
		delete(s.pending, conn)
	}
	s.mu.Unlock()
	if err != nil {
		s.log.Info("iSCSI login refused", "from", conn.RemoteAddr(), "reason", err)
		return
	}
	ss.log.Info("iSCSI session began", "from", conn.RemoteAddr(), "tsih", ss.tsih)
	err = ss.serve()
	s.mu.Lock()
	delete(s.sessions, ss.tsih)
	s.mu.Unlock()
	ss.log.Info("iSCSI session ended", "tsih", ss.tsih, "reason", err)
}

// AddTarget registers a target while others run. Its errors are [ErrExists], if there is one
// of that name, [ErrClosed] after Shutdown, or say what is wrong with t.
func (s *Server) AddTarget(t Target) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if s.nodes[t.IQN] != nil {
		return fmt.Errorf("target %s: %w", t.IQN, ErrExists)
	}
	n, err := newNode(t, s.model)
	if err != nil {
		return err
	}
	s.nodes[t.IQN] = n
	return nil
}

// SetReady gives a target that was added NotReady its LUNs and lets logins in. Its errors are
// [ErrNoTarget], [ErrExists], if it is ready, or say what is wrong with a LUN.
func (s *Server) SetReady(iqn string, luns ...LUN) error {
	n, err := s.node(iqn)
	if err != nil {
		return err
	}
	return n.open(luns)
}

// RemoveTarget ends the target's sessions, waits until no command of it runs
// any more, and forgets it. It can be repeated; ErrNoTarget: nothing was there.
// When it returns nil, the devices are not used any more.
func (s *Server) RemoveTarget(ctx context.Context, iqn string) error {
	n, err := s.node(iqn)
	if err != nil {
		return err
	}
	if err := n.remove(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.nodes[iqn] == n {
		delete(s.nodes, iqn)
	}
	return nil
}

// Vacant is how long a target that lets logins in has had no session; 0: it has one, or
// it lets none in, or is not there.
func (s *Server) Vacant(iqn string) time.Duration {
	n, err := s.node(iqn)
	if err != nil {
		return 0
	}
	return n.alone()
}

// AddLUN gives a target that is ready one more LUN. Its initiators are told that the
// LUNs have changed (unit attention 3F/0E).
func (s *Server) AddLUN(iqn string, l LUN) error {
	n, err := s.node(iqn)
	if err != nil {
		return err
	}
	return n.addLUN(l)
}

// RemoveLUN takes a LUN from a target that keeps others, cancels the commands on it
// and waits for their end; its initiators are told as with AddLUN. It can be repeated;
// when it returns nil, the device is not used any more.
func (s *Server) RemoveLUN(ctx context.Context, iqn string, lun uint8) error {
	n, err := s.node(iqn)
	if err != nil {
		return err
	}
	return n.removeLUN(ctx, lun)
}

// Resize makes the new size of a LUN's device, in bytes, known to initiators
// (unit attention 2A/09). The device must serve the new size already when it
// has grown, and the old one still when it shrinks.
func (s *Server) Resize(iqn string, lun uint8, size int64) error {
	n, err := s.node(iqn)
	if err != nil {
		return err
	}
	units := n.units.Load()
	if units == nil {
		return fmt.Errorf("target %s is not ready: %w", iqn, ErrNoTarget)
	}
	u := units.Unit(lun)
	if u == nil {
		return fmt.Errorf("target %s: LUN %d: %w", iqn, lun, ErrNoLUN)
	}
	u.Resize(size)
	return nil
}

// Shutdown stops accepting, lets running commands end until ctx is done, then
// cancels them, and returns when no device is used any more.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	for conn := range s.pending {
		s.drop(conn)
	}
	sessions := make([]*session, 0, len(s.sessions))
	for _, ss := range s.sessions {
		sessions = append(sessions, ss)
	}
	s.mu.Unlock()
	err := s.listener.Close()
	var drained sync.WaitGroup
	for _, ss := range sessions {
		drained.Go(func() { ss.drain(ctx) })
	}
	drained.Wait()
	s.conns.Wait()
	return err
}

func (s *Server) node(iqn string) (*node, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.nodes[iqn]; n != nil {
		return n, nil
	}
	return nil, fmt.Errorf("target %s: %w", iqn, ErrNoTarget)
}

// list returns all targets.
func (s *Server) list() []*node {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*node, 0, len(s.nodes))
	for _, n := range s.nodes {
		all = append(all, n)
	}
	return all
}

// browsers counts the discovery sessions. The server is locked.
func (s *Server) browsers() (n int) {
	for _, ss := range s.sessions {
		if ss.node == nil {
			n++
		}
	}
	return n
}
