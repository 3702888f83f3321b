// Package e2e runs the real processes on a kernel with an iSCSI initiator and
// does to them what nodes do: it kills them. It needs root, the host's
// open-iscsi and E2E_BINARY, the path of csi-swiftblock; test/guest offers all
// three, as a throw-away machine:
//
//	go test -c -o .cache/e2e.test ./test/e2e
//	test/guest/guest.sh run -- env E2E_BINARY=bin/csi-swiftblock .cache/e2e.test -test.v
package e2e

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
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

const nodeName = "e2e-node"

// machine is one node and the controller, as processes.
type machine struct {
	t          *testing.T
	dir        string
	controller csi.ControllerClient
	node       csi.NodeClient

	mu      sync.Mutex
	running map[string]*exec.Cmd
}

// startMachine starts everything, or skips the test where it cannot.
func startMachine(t *testing.T) *machine {
	t.Helper()
	if os.Getenv("E2E_BINARY") == "" {
		t.Skip("E2E_BINARY is not set")
	}
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(state, "")
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, dir: dir, running: map[string]*exec.Cmd{}}
	t.Cleanup(func() {
		for name := range m.running {
			m.kill(name)
		}
		if !t.Failed() {
			os.RemoveAll(dir)
		}
	})
	for _, name := range []string{"swift-server", "controller", "export", "node"} {
		m.start(name)
	}
	m.controller = csi.NewControllerClient(m.dial("controller"))
	m.node = csi.NewNodeClient(m.dial("node"))
	return m
}

func (m *machine) path(name string) string     { return filepath.Join(m.dir, name) }
func (m *machine) endpoint(name string) string { return "unix://" + m.path(name+".sock") }

// arguments is the command line of a process.
func (m *machine) arguments(name string) []string {
	switch name {
	case "swift-server":
		return []string{"--dir", m.path("swift"), "--listen", "127.0.0.1:18080"}
	case "controller":
		return []string{"--csi", m.endpoint("controller"), "--openings", m.endpoint("openings"), "--authority", m.path("authority"), "--nodes", nodeName}
	case "export":
		return []string{"--state", m.path("journals"), "--run", m.path("run"), "--node", nodeName, "--listen", m.endpoint("export"), "--controller", m.endpoint("openings"), "--portal", "127.0.0.1:13262"}
	default:
		return []string{"--csi", m.endpoint("node"), "--export", m.endpoint("export"), "--node", nodeName}
	}
}

// start runs a process; its output is kept beside its state.
func (m *machine) start(name string) {
	m.t.Helper()
	log, err := os.OpenFile(m.path(name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		m.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(os.Getenv("E2E_BINARY"), append([]string{name}, m.arguments(name)...)...)
	cmd.Env = append(os.Environ(), "ST_AUTH=http://127.0.0.1:18080/auth/v1.0", "ST_USER=test:tester", "ST_KEY=testing")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running[name] = cmd
}

// kill is kill -9. What the process had started lives on.
func (m *machine) kill(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running[name].Process.Signal(syscall.SIGKILL)
	m.running[name].Wait()
}

// lastWords makes a process that hangs say where.
func (m *machine) lastWords(name string) {
	m.t.Helper()
	m.mu.Lock()
	m.running[name].Process.Signal(syscall.SIGQUIT)
	m.running[name].Wait()
	m.mu.Unlock()
	log, err := os.ReadFile(m.path(name + ".log"))
	m.t.Logf("%s (%v):\n%s", name, err, log[max(0, len(log)-32<<10):])
}

func (m *machine) dial(name string) *grpc.ClientConn {
	m.t.Helper()
	conn, err := grpc.NewClient(m.endpoint(name), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
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
		ctx, cancel := context.WithTimeout(m.t.Context(), 15*time.Second)
		err := call(ctx)
		cancel()
		switch code := status.Code(err); {
		case err == nil:
			return
		case code == codes.InvalidArgument || code == codes.NotFound || code == codes.DataLoss || code == codes.Unimplemented:
			m.t.Fatalf("%s: %v", what, err)
		case time.Since(began) > 2*time.Minute:
			m.t.Fatalf("%s does not succeed within two minutes: %v", what, err)
		}
	}
}

// volume is one volume's life through the CSI sockets.
type volume struct {
	*machine
	id, fsType string
}

func (v volume) capability() *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: v.fsType}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
	}
}

// create makes a volume and publishes it to the node.
func (m *machine) create(name, fsType string) volume {
	m.t.Helper()
	v := volume{machine: m, fsType: fsType}
	m.kubelet("create", func(ctx context.Context) error {
		answer, err := m.controller.CreateVolume(ctx, &csi.CreateVolumeRequest{
			Name: name, CapacityRange: &csi.CapacityRange{RequiredBytes: 256 << 20},
			VolumeCapabilities: []*csi.VolumeCapability{v.capability()}, Parameters: map[string]string{"journalSize": "512Mi"},
		})
		v.id = answer.GetVolume().GetVolumeId()
		return err
	})
	m.kubelet("publish", func(ctx context.Context) error {
		_, err := m.controller.ControllerPublishVolume(ctx, &csi.ControllerPublishVolumeRequest{VolumeId: v.id, NodeId: nodeName, VolumeCapability: v.capability()})
		return err
	})
	return v
}

// remove unpublishes and deletes the volume.
func (v volume) remove() {
	v.t.Helper()
	v.kubelet("unpublish", func(ctx context.Context) error {
		_, err := v.controller.ControllerUnpublishVolume(ctx, &csi.ControllerUnpublishVolumeRequest{VolumeId: v.id, NodeId: nodeName})
		return err
	})
	v.kubelet("delete", func(ctx context.Context) error {
		_, err := v.controller.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: v.id})
		return err
	})
}

func (v volume) staging() string { return v.path("staging-" + v.id) }
func (v volume) pod() string     { return v.path("pod-" + v.id) }

func (v volume) stage(ctx context.Context) error {
	_, err := v.node.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: v.id, StagingTargetPath: v.staging(), VolumeCapability: v.capability()})
	return err
}

func (v volume) unstage(ctx context.Context) error {
	_, err := v.node.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: v.id, StagingTargetPath: v.staging()})
	return err
}

func (v volume) publish(ctx context.Context) error {
	_, err := v.node.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
		VolumeId: v.id, StagingTargetPath: v.staging(), TargetPath: v.pod(), VolumeCapability: v.capability(),
	})
	return err
}

func (v volume) unpublish(ctx context.Context) error {
	_, err := v.node.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: v.id, TargetPath: v.pod()})
	return err
}

// write puts a file into the volume, and onto stable storage if sync is set;
// else it is in the kernel's memory until the volume is unmounted.
func (v volume) write(name, content string, sync bool) error {
	f, err := os.Create(filepath.Join(v.pod(), name))
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	if sync {
		err = errors.Join(err, f.Sync())
	}
	return errors.Join(err, f.Close())
}
