package e2e

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// full: also what takes long.
var full = os.Getenv("E2E_FULL") != ""

// onlyFull keeps a scenario out of the short run.
func onlyFull(t *testing.T) {
	t.Helper()
	if !full {
		t.Skip("only make e2e-node-full has it")
	}
}

// Place is a kernel on which processes run: this one, or that of another guest,
// where this same program waits for orders.
type Place struct {
	mu      sync.Mutex
	running map[string]*exec.Cmd
}

// Process is a program to start.
type Process struct {
	Name      string // to signal it by
	Arguments []string
	Env       []string
	Log       string // appended to
}

// Start starts a process.
func (p *Place) Start(q Process, _ *struct{}) error {
	output, err := os.OpenFile(q.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer output.Close()
	cmd := exec.Command(q.Arguments[0], q.Arguments[1:]...)
	cmd.Env = append(os.Environ(), q.Env...)
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running[q.Name] = cmd
	return nil
}

// Signal is sent to a process that was started.
type Signal struct {
	Name   string
	Signal syscall.Signal
}

// Signal signals a process, and waits for the end of one that it kills. What that
// had started lives on.
func (p *Place) Signal(s Signal, _ *struct{}) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	cmd := p.running[s.Name]
	if cmd == nil {
		return fmt.Errorf("%s does not run", s.Name)
	}
	err := cmd.Process.Signal(s.Signal)
	if s.Signal == syscall.SIGKILL || s.Signal == syscall.SIGQUIT {
		cmd.Wait()
		delete(p.running, s.Name)
	}
	return err
}

// Hunt waits for a program to run, and kills processes in the middle of it.
type Hunt struct {
	Program string
	After   time.Duration // of its start
	Kill    []string
}

// Hunt reports whether the program ran within five minutes, as long as its call is repeated.
func (p *Place) Hunt(h Hunt, met *bool) error {
	known := map[string]time.Time{} // processes, and since when
	for limit := time.Now().Add(5 * time.Minute); !*met; time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			return nil
		}
		names, err := filepath.Glob("/proc/[0-9]*")
		if err != nil {
			return err
		}
		*met = slices.ContainsFunc(names, func(name string) bool {
			since, is := known[name]
			if !is {
				known[name] = time.Now()
			} else if time.Since(since) > time.Second {
				return false // what it runs it has run for long
			}
			program, err := os.ReadFile(name + "/comm") // fails if the process has ended meanwhile
			return err == nil && strings.TrimSpace(string(program)) == h.Program
		})
	}
	time.Sleep(h.After)
	for _, name := range h.Kill {
		if err := p.Signal(Signal{name, syscall.SIGKILL}, nil); err != nil {
			return err
		}
	}
	return nil
}

// Run runs a bash script and returns what it prints; its failure says that, too.
func (p *Place) Run(script string, printed *string) error {
	out, err := exec.Command("bash", "-euo", "pipefail", "-c", script).CombinedOutput()
	*printed = string(out)
	if err != nil {
		err = fmt.Errorf("%w: %s", err, tail(out))
	}
	return err
}

// tail is the end of what was printed.
func tail(out []byte) []byte { return out[max(0, len(out)-4<<10):] }

// End ends all processes that were started.
func (p *Place) End(struct{}, *struct{}) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, cmd := range p.running {
		cmd.Process.Kill()
		cmd.Wait()
	}
	clear(p.running)
	return nil
}

// leave closes a connection for orders at the end of a test. What it had started has ended
// then: the next test's processes listen on the same ports.
func leave(t *testing.T, client *rpc.Client) {
	t.Cleanup(func() {
		select {
		case <-client.Go("Place.End", struct{}{}, nil, make(chan *rpc.Call, 1)).Done: // at once if the connection is closed
		case <-time.After(time.Minute):
			t.Error("processes of this test do not end")
		}
		client.Close()
	})
}

// here gives orders to this kernel as to any other.
func here(t *testing.T) *rpc.Client {
	ours, theirs := net.Pipe()
	go serve(theirs)
	client := rpc.NewClient(ours)
	leave(t, client)
	return client
}

// serve takes orders from a connection and ends what it has started with it.
func serve(conn io.ReadWriteCloser) {
	place := &Place{running: map[string]*exec.Cmd{}}
	server := rpc.NewServer()
	server.Register(place)
	server.ServeConn(conn)
	place.End(struct{}{}, nil)
}

// A connection to a guest's agent says in its first line what it is for.
const (
	forOrders = "orders"
	forSocket = "unix" // and the path of the unix socket that it then is
)

// TestMain runs the tests, or with E2E_AGENT waits at that address for orders of
// the tests that run in another guest.
func TestMain(m *testing.M) {
	address := os.Getenv("E2E_AGENT")
	if address == "" {
		os.Exit(m.Run())
	}
	listener, err := net.Listen("tcp", address)
	for err == nil {
		var conn net.Conn
		if conn, err = listener.Accept(); err == nil {
			go attend(conn)
		}
	}
	log.Fatal(err)
}

// attend serves one connection to an agent.
func attend(conn net.Conn) {
	defer conn.Close()
	var purpose, path string
	if _, err := fmt.Fscanln(conn, &purpose, &path); err != nil {
		return
	}
	if purpose == forOrders {
		serve(conn)
		return
	}
	socket, err := net.Dial("unix", path)
	if err != nil {
		return
	}
	defer socket.Close()
	go func() {
		io.Copy(socket, conn)
		socket.Close()
	}()
	io.Copy(conn, socket)
}

// there gives orders to the agent at an address, once it answers.
func there(t *testing.T, address string) *rpc.Client {
	t.Helper()
	for began := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		conn, err := dialAgent(address, forOrders, "-")
		if err == nil {
			client := rpc.NewClient(conn)
			leave(t, client)
			return client
		}
		if time.Since(began) > 2*time.Minute {
			t.Fatalf("no agent: %v", err)
		}
	}
}

func dialAgent(address, purpose, path string) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", address, 2*time.Second)
	if err == nil {
		_, err = fmt.Fprintln(conn, purpose, path)
	}
	return conn, err
}
