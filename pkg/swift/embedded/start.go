package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Server is a [Handler] that listens.
type Server struct {
	*Handler
	URL string // to log in at

	http   *http.Server
	served chan error // receives the outcome of Serve
}

// Start serves dir at a TCP address; port 0 takes a free one.
func Start(dir, addr string, o Options) (*Server, error) {
	h, err := Open(dir, o)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("embedded store: %w", err)
	}
	s := &Server{
		Handler: h,
		URL:     "http://" + listener.Addr().String() + authPath,
		http:    &http.Server{Handler: h, ReadHeaderTimeout: time.Minute, IdleTimeout: 2 * time.Minute},
		served:  make(chan error, 1),
	}
	go func() { s.served <- s.http.Serve(listener) }()
	return s, nil
}

// Addr is the address and port that the server listens at.
func (s *Server) Addr() string { return s.URL[len("http://") : len(s.URL)-len(authPath)] }

// Wait returns when the server ends by itself, with the reason.
func (s *Server) Wait() error {
	err := <-s.served
	s.served <- err
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Close lets requests on their way end, for five seconds, and stops.
func (s *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = s.http.Close()
	}
	return errors.Join(err, s.Handler.Close())
}
