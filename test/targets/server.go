// Package targets runs iSCSI targets in processes of their own, ours and a peer,
// for the programs that compare them.
package targets

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// DeviceSize is the size of the LUN of every target, in bytes.
const DeviceSize = 256 << 20

// startTimeout is how long a target may take to be ready.
const startTimeout = 2 * time.Minute

// Server is a target in a process of its own, which is started and stopped as
// often as need be. It is not safe for concurrent use.
type Server struct {
	Name string
	URL  string // of the LUN, known while it runs
	// command makes the process; ready waits until it serves and returns its
	// URL, given what it prints.
	command func() *exec.Cmd
	ready   func(context.Context, *bufio.Reader) (string, error)

	cmd    *exec.Cmd
	exited chan struct{}
	stderr log
}

// log keeps what a process prints to stderr, up to a bound.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

const maxLog = 1 << 20

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.text.Len() < maxLog {
		l.text.Write(p)
	}
	return len(p), nil
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Start starts the process and waits until it serves.
func (s *Server) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	s.cmd = s.command()
	s.cmd.Stderr = &s.stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.exited = make(chan struct{})
	lines := bufio.NewReader(stdout)
	s.URL, err = s.ready(ctx, lines)
	go func() {
		io.Copy(io.Discard, lines)
		s.cmd.Wait()
		close(s.exited)
	}()
	if err != nil {
		s.Stop()
		return fmt.Errorf("did not start: %w\n%s", err, s.Tail())
	}
	return nil
}

// Running reports whether the process lives.
func (s *Server) Running() bool {
	if s.cmd == nil {
		return false
	}
	select {
	case <-s.exited:
		return false
	default:
		return true
	}
}

// Stop ends the process and waits for its end.
func (s *Server) Stop() {
	if !s.Running() {
		return
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.exited:
	case <-time.After(5 * time.Second):
		s.cmd.Process.Kill()
		<-s.exited
	}
}

// Tail is the end of what the process printed to stderr.
func (s *Server) Tail() string {
	text := s.stderr.String()
	return text[max(0, len(text)-4096):]
}

// PID is that of the process that Start has started.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Races counts the data races that the process has found in itself.
func (s *Server) Races() int { return strings.Count(s.stderr.String(), "WARNING: DATA RACE") }
