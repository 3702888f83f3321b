package driver_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/driver"
	"github.com/swiftblock/csi-swiftblock/pkg/driver/drivertest"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// stuck is a controller whose calls panic, or wait until they are let go.
type stuck struct {
	csi.UnimplementedControllerServer
	entered, leave chan struct{}
}

func (s *stuck) DeleteVolume(context.Context, *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	s.entered <- struct{}{}
	<-s.leave
	return &csi.DeleteVolumeResponse{}, nil
}

func (s *stuck) GetCapacity(context.Context, *csi.GetCapacityRequest) (*csi.GetCapacityResponse, error) {
	panic("as the test wants it")
}

func startStuck(t *testing.T) (*stuck, *rig, csi.ControllerClient) {
	s := &stuck{entered: make(chan struct{}, 1), leave: make(chan struct{})}
	r := &rig{t: t, dir: t.TempDir(), log: &output{}}
	conn := r.serve("stuck", func(registrar grpc.ServiceRegistrar) { csi.RegisterControllerServer(registrar, s) })
	return s, r, csi.NewControllerClient(conn)
}

func TestPanicIsNotTheEnd(t *testing.T) {
	_, r, client := startStuck(t)
	for range 2 {
		_, err := client.GetCapacity(t.Context(), &csi.GetCapacityRequest{})
		expect(t, "a call that panics", err, codes.Internal, "GetCapacity")
	}
	if log := r.log.String(); !strings.Contains(log, "as the test wants it") || !strings.Contains(log, "server_test.go") {
		t.Errorf("the log has no panic with its stack: %s", log)
	}
}

func TestSecondCallIsAborted(t *testing.T) {
	s, _, client := startStuck(t)
	ids := []string{unknownVolume(), unknownVolume()}
	remove := func(id string) error {
		_, err := client.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id})
		return err
	}
	first, other := make(chan error, 1), make(chan error, 1)
	go func() { first <- remove(ids[0]) }()
	<-s.entered
	expect(t, "a second call on the volume", remove(ids[0]), codes.Aborted, ids[0])
	go func() { other <- remove(ids[1]) }()
	<-s.entered // a call on another volume gets through
	close(s.leave)
	for name, done := range map[string]chan error{"the first call": first, "a call on another volume": other} {
		if err := <-done; err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := remove(ids[0]); err != nil {
		t.Errorf("the next call: %v", err)
	}
	<-s.entered
}

// Nothing secret is logged: neither what requests carry nor what we make.
func TestLogHasNoSecrets(t *testing.T) {
	r := newRig(t)
	secrets := r.otherAccount()
	secret := secrets["ST_KEY"]
	q := createRequest("one")
	q.Secrets = secrets
	answer, err := r.controller.CreateVolume(t.Context(), q)
	r.must("create", err)
	id := answer.GetVolume().GetVolumeId()
	r.publish(id)
	r.machine.Fail("login", errTest)
	stage := &csi.NodeStageVolumeRequest{VolumeId: id, StagingTargetPath: r.path("s"), VolumeCapability: mounted(""), Secrets: secrets}
	if _, err := r.node.NodeStageVolume(t.Context(), stage); err == nil || strings.Contains(err.Error(), drivertest.CHAPSecret) {
		t.Errorf("error %v", err)
	}
	q.Parameters = map[string]string{"color": "blue"}
	if _, err := r.controller.CreateVolume(t.Context(), q); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("error %v", err)
	}
	wrong := createRequest("two")
	wrong.Secrets = map[string]string{"ST_AUTH": "not a URL", "ST_USER": "user", "ST_KEY": secret}
	if _, err := r.controller.CreateVolume(t.Context(), wrong); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("error %v", err)
	}
	log := r.log.String()
	for _, hidden := range []string{secret, drivertest.CHAPSecret} {
		if strings.Contains(log, hidden) {
			t.Errorf("the log has %q: %s", hidden, log)
		}
	}
	var line struct{ Call, Op, ID, Error string }
	if err := json.Unmarshal([]byte(strings.SplitN(log, "\n", 2)[0]), &line); err != nil || line.Call != "NodeStageVolume" || line.ID != id || len(line.Op) != 16 || line.Error == "" {
		t.Errorf("the failed call is logged as %+v (%v)", line, err)
	}
}

func TestSocket(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	serve := func(endpoint string) error {
		return driver.Server{Endpoint: endpoint, Log: slog.New(slog.DiscardHandler)}.Serve(ctx)
	}
	dir := t.TempDir()

	file := dir + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := serve("unix://" + file); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("in place of a file: %v", err)
	}

	left := dir + "/left"
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: left, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if err := serve("unix://" + left); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("in place of a living process: %v", err)
	}
	listener.SetUnlinkOnClose(false)
	listener.Close()
	ended := make(chan error, 1)
	go func() { ended <- serve("unix://" + left) }()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("unix", left)
		if err == nil {
			conn.Close()
			if info, err := os.Stat(left); err == nil && info.Mode().Perm() == 0o600 {
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("in place of a dead process: nobody answers, or others may call")
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("the end: %v", err)
	}
}

// A node that answers "unavailable" is reachable: what it holds is not given up.
func TestUnreachableIsNotUnavailable(t *testing.T) {
	r := &rig{t: t, dir: t.TempDir(), log: &output{}}
	exports := &answering{err: status.Error(codes.Unavailable, "Swift is away")}
	r.serve("export", func(s grpc.ServiceRegistrar) { wire.RegisterExportsServer(s, exports) }).Connect()
	v, nodes := ident.NewVolume(), driver.Nodes{ConnectTimeout: 5 * time.Second}
	endpoint := "unix://" + r.path("export.sock")

	var err error
	for range 100 { // until it listens
		if err = nodes.Handover(t.Context(), endpoint, v); status.Code(err) == codes.Unavailable {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if errors.Is(err, catalog.ErrUnreachable) || !strings.Contains(err.Error(), "Swift is away") {
		t.Errorf("a node that is there: %v", err)
	}
	nodes.ConnectTimeout = time.Second
	if _, err := nodes.Seal(t.Context(), "unix://"+r.path("nobody.sock"), v, ident.NewSnapshot()); !errors.Is(err, catalog.ErrUnreachable) {
		t.Errorf("a node that is not there: %v", err)
	}
	exports.err = status.Error(codes.NotFound, "not attached")
	if _, err := nodes.Seal(t.Context(), endpoint, v, ident.NewSnapshot()); status.Code(err) != codes.Unavailable {
		t.Errorf("a node that does not serve the volume now: %v", err)
	}
	exports.err = nil
	if _, err := nodes.Seal(t.Context(), endpoint, v, ident.NewSnapshot()); err == nil {
		t.Error("a cut without a root was accepted")
	}
}

// An export process that is just being started again is not unreachable: what it holds
// would be given up.
func TestARestartingExportIsNotUnreachable(t *testing.T) {
	r := &rig{t: t, dir: t.TempDir(), log: &output{}}
	asked := make(chan error, 1)
	go func() {
		asked <- driver.Nodes{}.Handover(t.Context(), "unix://"+r.path("export.sock"), ident.NewVolume())
	}()
	time.Sleep(200 * time.Millisecond)
	r.serve("export", func(s grpc.ServiceRegistrar) { wire.RegisterExportsServer(s, &answering{}) }).Connect()
	if err := <-asked; err != nil {
		t.Error(err)
	}
}

type answering struct {
	wire.UnimplementedExportsServer
	err error
}

func (a *answering) Detach(context.Context, *wire.DetachRequest) (*wire.DetachResponse, error) {
	return &wire.DetachResponse{}, a.err
}

func (a *answering) Seal(context.Context, *wire.SealRequest) (*wire.SealResponse, error) {
	return &wire.SealResponse{}, a.err
}
