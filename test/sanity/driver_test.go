package sanity

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/swiftblock/csi-swiftblock/pkg/accounts"
	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/driver"
	"github.com/swiftblock/csi-swiftblock/pkg/driver/drivertest"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/embedded"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

const nodeName = "sanity-node"

// start runs a controller and a node in this process and returns their sockets.
func start(t *testing.T) (controller, node string) {
	t.Helper()
	dir := t.TempDir()
	controller, node = filepath.Join(dir, "controller.sock"), filepath.Join(dir, "node.sock")

	records, err := authority.OpenFile(filepath.Join(dir, "authority"))
	if err != nil {
		t.Fatal(err)
	}
	store := openStore(t, filepath.Join(dir, "swift"))
	vault := accounts.Directory(filepath.Join(dir, "accounts"))
	all, class := accounts.New(store, vault, swift.Options{}), keys.Vault{Store: vault}
	volumes := catalog.New(catalog.Config{
		Authority: records,
		Store:     store,
		Accounts:  all,
		Prefix:    "sanity-",
		Cluster:   "sanity",
		Nodes:     driver.Nodes{},
	})
	exports := &drivertest.Exports{Node: nodeName}
	serve(t, controller,
		(&driver.Identity{Version: "sanity"}).Register,
		driver.NewController(driver.ControllerConfig{
			Catalog: volumes, Cluster: oneNode{}, Account: store, Accounts: all, Keys: class, Exports: exports,
		}).Register,
		driver.NewOpenings(volumes, all, class).Register,
	)

	exports.Openings = wire.NewOpeningsClient(dial(t, controller))
	machine := drivertest.NewHost()
	serve(t, node,
		(&driver.Identity{Version: "sanity"}).Register,
		driver.NewNode(driver.NodeConfig{
			ID:          nodeName,
			Exports:     exports,
			Initiator:   machine,
			Filesystems: machine,
			Mounts:      machine,
			Usage:       machine,
		}).Register,
	)
	return controller, node
}

func openStore(t *testing.T, dir string) *swift.Client {
	t.Helper()
	server, err := embedded.Start(dir, "127.0.0.1:0", embedded.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	store, err := swift.New(swift.Credentials{Version: 1, AuthURL: server.URL, User: server.User(), Key: server.Key()}, swift.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// serve answers on a unix socket until the test ends.
func serve(t *testing.T, socket string, register ...func(grpc.ServiceRegistrar)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
	go func() { done <- driver.Server{Endpoint: "unix://" + socket, Log: log}.Serve(ctx, register...) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve %s: %v", socket, err)
		}
	})
	waitForSocket(t, socket)
}

func waitForSocket(t *testing.T, socket string) {
	t.Helper()
	conn := dial(t, socket)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn.Connect()
	for state := conn.GetState(); state.String() != "READY"; state = conn.GetState() {
		if !conn.WaitForStateChange(ctx, state) {
			t.Fatalf("nobody answers on %s", socket)
		}
	}
}

func dial(t *testing.T, socket string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// oneNode is the cluster of this test.
type oneNode struct{}

func (oneNode) Known(_ context.Context, node string) (bool, error) { return node == nodeName, nil }
func (oneNode) GivenUp(context.Context, string) (bool, error)      { return false, nil }
