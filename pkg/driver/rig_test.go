package driver_test

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/swiftblock/csi-swiftblock/pkg/accounts"
	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/driver"
	"github.com/swiftblock/csi-swiftblock/pkg/driver/drivertest"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/embedded"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/swifttest"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

const (
	nodeName = "node-1"
	gib      = int64(1) << 30
)

// rig is the whole driver, called over gRPC as kubelet and the sidecars call it:
// the real catalog, and a machine and an export process in memory.
type rig struct {
	t          testing.TB
	dir        string
	log        *output
	store      swift.Store
	records    authority.Authority
	catalog    *catalog.Catalog
	cluster    *cluster
	machine    *drivertest.Host
	exports    *drivertest.Exports
	account    *account
	calls      *driver.Calls // of controller and node
	identity   csi.IdentityClient
	controller csi.ControllerClient
	node       csi.NodeClient

	controllerConn, nodeConn *grpc.ClientConn
}

func newRig(t testing.TB) *rig {
	t.Helper()
	dir := t.TempDir()
	records, err := authority.OpenFile(filepath.Join(dir, "authority"))
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{
		t: t, dir: dir, log: &output{}, cluster: &cluster{}, account: &account{}, calls: driver.NewCalls(), machine: drivertest.NewHost(),
		store: swifttest.NewStore(t), records: records,
	}
	vault := accounts.Directory(filepath.Join(dir, "accounts"))
	all, class := accounts.New(r.store, vault, swift.Options{}), keys.Vault{Store: vault}
	r.catalog = catalog.New(catalog.Config{
		Authority: records, Store: r.store, Accounts: all, Prefix: "test-", Cluster: "test", Nodes: driver.Nodes{ConnectTimeout: time.Second}, SearchPause: time.Millisecond,
	})
	identity := &driver.Identity{Version: "1.2.3"}
	r.exports = &drivertest.Exports{Node: nodeName}
	r.controllerConn = r.serve("controller",
		identity.Register,
		driver.NewController(driver.ControllerConfig{
			Catalog: r.catalog, Cluster: r.cluster, Account: r.account, Accounts: all, Keys: class, Exports: r.exports,
		}).Register,
		driver.NewOpenings(r.catalog, all, class).Register,
	)
	r.exports.Openings = wire.NewOpeningsClient(r.controllerConn)
	node := driver.NewNode(driver.NodeConfig{
		ID:      nodeName,
		Exports: r.exports, Initiator: r.machine, Filesystems: r.machine, Mounts: r.machine, Usage: r.machine,
	})
	r.nodeConn = r.serve("node", (&driver.Identity{Version: "1.2.3", Ready: node.Ready}).Register, node.Register)
	r.identity, r.controller = csi.NewIdentityClient(r.controllerConn), csi.NewControllerClient(r.controllerConn)
	r.node = csi.NewNodeClient(r.nodeConn)
	return r
}

// serve answers on a unix socket and returns a connection to it.
func (r *rig) serve(name string, register ...func(grpc.ServiceRegistrar)) *grpc.ClientConn {
	r.t.Helper()
	endpoint := "unix://" + filepath.Join(r.dir, name+".sock")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- driver.Server{Endpoint: endpoint, Calls: r.calls, Log: slog.New(slog.NewJSONHandler(r.log, nil))}.Serve(ctx, register...)
	}()
	conn, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		conn.Close()
		cancel()
		if err := <-ended; err != nil {
			r.t.Errorf("serve %s: %v", name, err)
		}
	})
	return conn
}

// path is a path below the test's directory.
func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

// create makes a volume of 1 GiB and returns its id.
func (r *rig) create(name string) string {
	r.t.Helper()
	answer, err := r.controller.CreateVolume(r.t.Context(), createRequest(name))
	if err != nil {
		r.t.Fatal(err)
	}
	return answer.GetVolume().GetVolumeId()
}

// published makes a volume and binds it to the node.
func (r *rig) published(name string) string {
	r.t.Helper()
	id := r.create(name)
	r.publish(id)
	return id
}

func (r *rig) publish(id string) {
	r.t.Helper()
	if _, err := r.controller.ControllerPublishVolume(r.t.Context(), publishRequest(id)); err != nil {
		r.t.Fatal(err)
	}
}

// stage returns the error of NodeStageVolume.
func (r *rig) stage(id string, c *csi.VolumeCapability) error {
	_, err := r.node.NodeStageVolume(r.t.Context(), &csi.NodeStageVolumeRequest{
		VolumeId: id, StagingTargetPath: r.path("staging-" + id), VolumeCapability: c,
	})
	return err
}

func (r *rig) unstage(id string) error {
	_, err := r.node.NodeUnstageVolume(r.t.Context(), &csi.NodeUnstageVolumeRequest{
		VolumeId: id, StagingTargetPath: r.path("staging-" + id),
	})
	return err
}

// mount returns the error of NodePublishVolume at the target.
func (r *rig) mount(id, target string, c *csi.VolumeCapability, readOnly bool) error {
	_, err := r.node.NodePublishVolume(r.t.Context(), &csi.NodePublishVolumeRequest{
		VolumeId: id, StagingTargetPath: r.path("staging-" + id), TargetPath: r.path(target), VolumeCapability: c, Readonly: readOnly,
	})
	return err
}

func (r *rig) unmount(id, target string) error {
	_, err := r.node.NodeUnpublishVolume(r.t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: r.path(target)})
	return err
}

// otherAccount starts another Swift and returns the secrets of its account.
func (r *rig) otherAccount() map[string]string {
	r.t.Helper()
	_, server := swifttest.NewServer(r.t, embedded.Options{NoSync: true})
	return map[string]string{"ST_AUTH": server.URL, "ST_USER": server.User(), "ST_KEY": server.Key()}
}

func createRequest(name string) *csi.CreateVolumeRequest {
	return &csi.CreateVolumeRequest{
		Name:               name,
		CapacityRange:      &csi.CapacityRange{RequiredBytes: gib},
		VolumeCapabilities: []*csi.VolumeCapability{mounted("")},
	}
}

func publishRequest(id string) *csi.ControllerPublishVolumeRequest {
	return &csi.ControllerPublishVolumeRequest{VolumeId: id, NodeId: nodeName, VolumeCapability: mounted("")}
}

// mounted is a file system for one node.
func mounted(fsType string, flags ...string) *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: fsType, MountFlags: flags}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
	}
}

// block is a raw block device for one node.
func block() *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
	}
}

// readers is c for many nodes that only read.
func readers(c *csi.VolumeCapability) *csi.VolumeCapability {
	return mode(c, csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY)
}

// mode is c with another access mode.
func mode(c *csi.VolumeCapability, m csi.VolumeCapability_AccessMode_Mode) *csi.VolumeCapability {
	c.AccessMode.Mode = m
	return c
}

// expect checks the code of err, and that its message mentions something.
func expect(t *testing.T, what string, err error, code codes.Code, mention string) {
	t.Helper()
	if have := status.Code(err); have != code {
		t.Errorf("%s: %v, want %v", what, err, code)
	} else if !strings.Contains(status.Convert(err).Message(), mention) {
		t.Errorf("%s: the message %q does not mention %q", what, status.Convert(err).Message(), mention)
	}
}

// cluster has one node.
type cluster struct {
	mu      sync.Mutex
	givenUp bool
}

func (c *cluster) Known(_ context.Context, node string) (bool, error) {
	return strings.HasPrefix(node, "node-"), nil
}

func (c *cluster) GivenUp(context.Context, string) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.givenUp, nil
}

func (c *cluster) giveUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.givenUp = true
}

// account is how full Swift is.
type account struct {
	mu    sync.Mutex
	state swift.Account
	err   error
}

func (a *account) Account(context.Context) (swift.Account, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state, a.err
}

func (a *account) set(state swift.Account, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.state, a.err = state, err
}

// output is a log that can be read while it is written.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func unknownVolume() string { return string(ident.NewVolume()) }
