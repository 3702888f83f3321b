// Package e2e holds the promises P1–P9 as scenarios: the real processes on kernels
// with an iSCSI initiator, which are killed, stopped, cut off, filled up and loaded.
// docs/testing.md has the table of them. hack/e2e-node.sh prepares what they need: root,
// open-iscsi, E2E_BINARY (the path of csi-swiftblock), a Swift that ST_AUTH names,
// and at E2E_SECOND another kernel, on which this program runs as agent.
package e2e

import (
	"context"
	"fmt"
	"net"
	"net/rpc"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// state must be on a disk for journals to be there.
const state = "/var/lib/csi-swiftblock/e2e"

// machine is a node, and the controller where it began, as processes.
type machine struct {
	t          *testing.T
	name       string // of the node
	dir        string // of the state of its processes, in its place
	place      *rpc.Client
	agent      string // address of the place's agent; "" here
	cloud      *cloud
	main       *machine // with the controller
	cgroup     string   // of the export process; "": that of all others
	controller csi.ControllerClient
	node       csi.NodeClient
}

// startMachine starts a node in this place, with object store and controller, or
// skips the test where it cannot.
func startMachine(t *testing.T) *machine {
	t.Helper()
	if os.Getenv("E2E_BINARY") == "" {
		t.Skip("E2E_BINARY is not set")
	}
	m := &machine{t: t, name: firstName, dir: filepath.Join(state, t.Name()), place: here(t)}
	m.main = m
	m.prepare()
	m.run("$E2E_BINARY certificates %s %s %s", m.path("certificates"), m.name, secondName)
	m.startStore()
	m.start("controller")
	m.controller = csi.NewControllerClient(m.dial("controller"))
	m.startNode()
	return m
}

// startSecond starts another node, in the other guest.
func (m *machine) startSecond() *machine {
	m.t.Helper()
	second := m.reachSecond()
	second.startNode()
	return second
}

// reachSecond is the other guest before its node starts, which has the controller
// of m; without one the test is skipped.
func (m *machine) reachSecond() *machine {
	m.t.Helper()
	agent := os.Getenv("E2E_SECOND")
	if agent == "" {
		m.t.Skip("E2E_SECOND is not set")
	}
	second := &machine{
		t: m.t, name: secondName, dir: filepath.Join(state, m.t.Name()), agent: agent, place: there(m.t, agent),
		cloud: m.cloud, main: m, controller: m.controller,
	}
	second.prepare()
	// What an administrator installs is durable before anything crashes.
	keys := m.run("tar -C %s -cz %s | base64 -w 0", m.path("certificates"), second.name)
	second.run("mkdir -p %[1]s && base64 -d <<<%[2]s | tar -C %[1]s -xz && sync", second.path("certificates"), keys)
	return second
}

// prepare makes the machine's directory, and shows the logs if the test fails.
func (m *machine) prepare() {
	m.t.Helper()
	m.run("rm -rf %[1]s && mkdir -p %[1]s && dmesg --clear", m.dir)
	m.t.Cleanup(func() {
		if m.t.Failed() {
			if m.agent != "" {
				m.place = there(m.t, m.agent) // the one after a crash is closed by now
			}
			log, _ := m.try("tail -n 20 %s/*.log || true; dmesg | tail -n 30", m.dir)
			m.t.Logf("%s:\n%s", m.name, log)
		}
	})
}

func (m *machine) startNode() {
	m.t.Helper()
	m.start("export")
	m.start("node")
	m.node = csi.NewNodeClient(m.dial("node"))
}

// startStore brings the cloud, in front of the Swift that the environment names
// or of one of our own.
func (m *machine) startStore() {
	m.t.Helper()
	auth := os.Getenv("ST_AUTH")
	if auth == "" {
		m.start("swift-server")
		auth = "http://" + embeddedStore + "/auth/v1.0"
		m.t.Setenv("ST_USER", "test:tester")
		m.t.Setenv("ST_KEY", "testing")
	}
	m.cloud = startCloud(m.t, auth)
	m.t.Setenv("ST_AUTH", "http://"+net.JoinHostPort(address(), cloudPort)+"/auth/v1.0")
}

// The names of the nodes: of this guest, and of the other one. Many clusters name nodes
// with dots.
const firstName, secondName = "first.e2e", "second.e2e"

const (
	embeddedStore = "127.0.0.1:18081"
	openingsPort  = "13261" // of the controller
	exportsPort   = "13263" // of each export process
	metrics       = "127.0.0.1:13264"
)

func (m *machine) path(name string) string     { return filepath.Join(m.dir, name) }
func (m *machine) endpoint(name string) string { return "unix://" + m.path(name+".sock") }

// host is the address of the machine's kernel.
func (m *machine) host() string {
	if m.agent == "" {
		return address()
	}
	host, _, err := net.SplitHostPort(m.agent)
	if err != nil {
		m.t.Fatal(err)
	}
	return host
}

// arguments is the command line of a process.
func (m *machine) arguments(name string) []string {
	openings := net.JoinHostPort(m.main.host(), openingsPort)
	exports := net.JoinHostPort(m.host(), exportsPort)
	switch name {
	case "swift-server":
		return []string{"--dir", m.path("swift"), "--listen", embeddedStore}
	case "controller":
		return []string{
			"--csi", m.endpoint("controller"), "--authority", m.path("authority"),
			"--openings", openings, "--certificates", m.path("certificates/controller"), "--grace", "2s", "--sweep", "1s", "--collect", "1s",
		}
	case "export":
		return []string{
			"--state", m.path("journals"), "--run", m.runDir(), "--node", m.name,
			"--listen", m.endpoint("export"), "--network", exports, "--controller", openings, "--certificates", m.path("certificates/" + m.name),
			"--portal", "127.0.0.1:13262", "--metrics-address", metrics, "--cache", "64",
		}
	default:
		return []string{"--csi", m.endpoint("node"), "--export", m.endpoint("export"), "--node", m.name}
	}
}

// start runs a process; its output is kept beside its state.
func (m *machine) start(name string) {
	m.t.Helper()
	process := Process{
		Name: name, Log: m.path(name + ".log"),
		Arguments: append([]string{os.Getenv("E2E_BINARY"), name}, m.arguments(name)...),
	}
	if name == "export" && m.cgroup != "" {
		enter := []string{"bash", "-c", `echo $$ >"$0" && exec "$@"`, "/sys/fs/cgroup/" + m.cgroup + "/cgroup.procs"}
		process.Arguments = append(enter, process.Arguments...)
	}
	for _, name := range []string{"ST_AUTH", "ST_USER", "ST_KEY"} {
		process.Env = append(process.Env, name+"="+os.Getenv(name))
	}
	if err := m.place.Call("Place.Start", process, nil); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) signal(name string, s syscall.Signal) {
	if err := m.place.Call("Place.Signal", Signal{name, s}, nil); err != nil {
		m.t.Errorf("%s: %v", m.name, err)
	}
}

// kill is kill -9. What the process had started lives on.
func (m *machine) kill(name string) { m.signal(name, syscall.SIGKILL) }

// try runs a script on the machine.
func (m *machine) try(format string, args ...any) (printed string, err error) {
	err = m.place.Call("Place.Run", fmt.Sprintf(format, args...), &printed)
	return strings.TrimSpace(printed), err
}

// run is try of what must not fail.
func (m *machine) run(format string, args ...any) string {
	m.t.Helper()
	printed, err := m.try(format, args...)
	if err != nil {
		m.t.Fatalf("%s: %v", m.name, err)
	}
	return printed
}

// lastWords makes a process that hangs say where.
func (m *machine) lastWords(name string) {
	m.t.Helper()
	m.signal(name, syscall.SIGQUIT)
	m.t.Logf("%s:\n%s", name, m.run("tail -c 32K %s", m.path(name+".log")))
}

func (m *machine) dial(name string) *grpc.ClientConn {
	m.t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+m.path(name+".sock"), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)),
		grpc.WithContextDialer(func(_ context.Context, path string) (net.Conn, error) {
			if m.agent != "" {
				return dialAgent(m.agent, forSocket, path)
			}
			return net.Dial("unix", path)
		}))
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { conn.Close() })
	return conn
}

// kubelet repeats a call until it succeeds, as kubelet and the sidecars do, with
// their time-out per call; final errors end the test.
func (m *machine) kubelet(what string, call func(context.Context) error) {
	m.t.Helper()
	for began := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
		err := call(ctx)
		cancel()
		switch code := status.Code(err); {
		case err == nil:
			return
		case code == codes.InvalidArgument || code == codes.NotFound || code == codes.DataLoss || code == codes.Unimplemented:
			m.t.Fatalf("%s: %v", what, err)
		case time.Since(began) > 5*time.Minute:
			m.t.Fatalf("%s does not succeed within five minutes: %v", what, err)
		}
	}
}

// metric is a figure of the volume that its export process shows.
func (v volume) metric(name string) float64 {
	v.t.Helper()
	var line string
	v.eventually("no figure "+name, func() (is bool) { // export may just have been started
		var err error
		line, err = v.try(`busybox wget -qO - http://%s/metrics | grep '^swiftblock_volume_%s{.*%s'`, metrics, name, v.id)
		return err == nil
	})
	value, err := strconv.ParseFloat(line[strings.LastIndex(line, " ")+1:], 64)
	v.must(err)
	return value
}

// nothingIsLeft looks for what a volume must not leave on its node.
func (m *machine) nothingIsLeft(id string) {
	m.t.Helper()
	if left, err := m.try("grep %s /proc/self/mountinfo", id); err == nil {
		m.t.Errorf("a mount is left: %s", left)
	}
	left := m.run(`shopt -s nullglob
		ls -d /sys/class/iscsi_session/session* /etc/iscsi/nodes/*%s* /etc/iscsi/.swiftblock-* %s/{*,*/*} /dev/null`, id, m.path("journals"))
	if left != "/dev/null" {
		m.t.Errorf("left: %s", left)
	}
	m.nothingIsStuck()
}

// nothingIsStuck checks that no process of the machine stays in uninterruptible sleep;
// for a moment any that reads or writes is.
func (m *machine) nothingIsStuck() {
	m.t.Helper()
	var stuck string
	for limit := time.Now().Add(30 * time.Second); time.Now().Before(limit); time.Sleep(200 * time.Millisecond) {
		if stuck = m.run("ps -eo stat,pid,args | grep '^D' || true"); stuck == "" {
			return
		}
	}
	m.t.Errorf("in D state for half a minute: %s", stuck)
}

// noErrors checks that the machine's kernel has met no I/O error in this test, and
// holds no process fast.
func (m *machine) noErrors() {
	m.t.Helper()
	if found := m.run("dmesg | grep -E 'I/O error|(EXT4|XFS).*[Ee]rror|Call Trace|blocked for more than' || true"); found != "" {
		m.t.Errorf("%s: the kernel says:\n%s", m.name, found)
	}
	m.nothingIsStuck()
}
