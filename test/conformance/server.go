package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// deviceSize is the size of the LUN that is tested, in bytes.
const deviceSize = 256 << 20

// startTimeout is how long a target may take to be ready.
const startTimeout = 20 * time.Second

// server is a target in a process of its own.
type server struct {
	name string
	url  string
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

func (s *server) start(ctx context.Context) error {
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
	s.url, err = s.ready(ctx, lines)
	go func() {
		io.Copy(io.Discard, lines)
		s.cmd.Wait()
		close(s.exited)
	}()
	if err != nil {
		s.stop()
		return fmt.Errorf("did not start: %w\n%s", err, s.tail())
	}
	return nil
}

func (s *server) running() bool {
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

func (s *server) stop() {
	if !s.running() {
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

// tail is the end of what the process printed.
func (s *server) tail() string {
	text := s.stderr.String()
	return text[max(0, len(text)-4096):]
}

func (s *server) races() int { return strings.Count(s.stderr.String(), "WARNING: DATA RACE") }

// buildOurs builds the RAM target of this module.
func buildOurs(ctx context.Context, dir string, race bool) (*server, error) {
	binary := filepath.Join(dir, "ramtarget")
	args := []string{"build", "-o", binary}
	if race {
		args = append(args, "-race")
	}
	args = append(args, "github.com/swiftblock/csi-swiftblock/test/conformance/ramtarget")
	if text, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w\n%s", err, text)
	}
	return &server{
		name:    "ours",
		command: func() *exec.Cmd { return exec.Command(binary, "-size", fmt.Sprint(int64(deviceSize))) },
		ready: func(_ context.Context, stdout *bufio.Reader) (string, error) {
			line, err := stdout.ReadString('\n')
			return strings.TrimSpace(line), err
		},
	}, nil
}

// control is the number of tgtd's management socket: not the default one, so
// that a tgtd of the host is left alone.
const control = "4711"

// tgt is Debian's tgtd with one thin LUN on a file.
func tgt(dir string) *server {
	const iqn = "iqn.2026-11.dev.swiftblock:tgt"
	portal, err := freePort()
	return &server{
		name: "tgt",
		command: func() *exec.Cmd {
			return exec.Command("tgtd", "-f", "-C", control, "--iscsi", "portal="+portal)
		},
		ready: func(ctx context.Context, _ *bufio.Reader) (string, error) {
			if err != nil {
				return "", err
			}
			file := filepath.Join(dir, "tgt.img")
			if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, deviceSize)); err != nil {
				return "", err
			}
			for _, args := range [][]string{
				{"--op", "new", "--mode", "target", "--tid", "1", "-T", iqn},
				{"--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "-b", file},
				{"--op", "update", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "--params", "thin_provisioning=1"},
				{"--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL"},
			} {
				if err := tgtadm(ctx, args); err != nil {
					return "", err
				}
			}
			return "iscsi://" + portal + "/" + iqn + "/1", nil
		},
	}
}

// tgtadm administers tgtd, and waits for it to come up.
func tgtadm(ctx context.Context, args []string) error {
	for {
		text, err := exec.CommandContext(ctx, "tgtadm", append([]string{"-C", control, "--lld", "iscsi"}, args...)...).CombinedOutput()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("tgtadm: %w: %s", err, text)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// freePort finds a loopback address to listen on.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
