package target

import (
	"context"
	"log/slog"
	"net"
)

// Config configures a Server.
type Config struct {
	// Addr to listen on, such as "127.0.0.1:0"; unused with Listener.
	Addr string
	// Listener to serve on instead; Shutdown closes it.
	Listener net.Listener
	// Logger of session events; nil: discarded.
	Logger *slog.Logger
}

// Server serves iSCSI targets on one portal. Its methods may be called at any
// time and together.
type Server struct {
	listener net.Listener
	log      *slog.Logger
}

// New listens; Serve accepts.
func New(cfg Config) (*Server, error) {
	l := cfg.Listener
	if l == nil {
		var err error
		if l, err = net.Listen("tcp", cfg.Addr); err != nil {
			return nil, err
		}
	}
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Server{listener: l, log: log}, nil
}

// Addr is the address that the server listens on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Serve accepts connections until Shutdown, then returns nil.
func (s *Server) Serve() error { return ErrClosed }

// AddTarget registers a target while others run.
func (s *Server) AddTarget(t Target) error { return ErrClosed }

// SetReady gives a registered target its LUNs (none: those it has are kept) and
// lets logins in.
func (s *Server) SetReady(iqn string, luns ...LUN) error { return ErrClosed }

// RemoveTarget ends the target's sessions, waits until no command of it runs
// any more, and forgets it. It can be repeated; ErrNoTarget: nothing was there.
// When it returns nil, the devices are not used any more.
func (s *Server) RemoveTarget(ctx context.Context, iqn string) error { return ErrClosed }

// Resize makes the new size of a LUN's device, in bytes, known to initiators
// (unit attention 2A/09). The device must serve the new size already when it
// has grown, and the old one still when it shrinks.
func (s *Server) Resize(iqn string, lun uint8, size int64) error { return ErrClosed }

// Shutdown stops accepting, lets running commands end until ctx is done, then
// cancels them, and returns when no device is used any more.
func (s *Server) Shutdown(ctx context.Context) error { return ErrClosed }
