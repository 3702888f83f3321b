package driver_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/driver"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/trust"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// certificates returns one for each identity, all of one authority.
func certificates(t *testing.T, ids ...trust.Identity) map[trust.Identity]*trust.Keys {
	t.Helper()
	a, err := trust.NewAuthority(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	all := map[trust.Identity]*trust.Keys{}
	for _, id := range ids {
		dir := t.TempDir()
		if err := a.Issue(dir, id, time.Hour); err != nil {
			t.Fatal(err)
		}
		if all[id], err = trust.Open(dir, func(err error) { t.Log(err) }); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// overNetwork serves on a port of its own and returns its address.
func overNetwork(t *testing.T, s driver.Server, register func(grpc.ServiceRegistrar)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Endpoint, s.Log = l.Addr().String(), slog.New(slog.DiscardHandler)
	l.Close()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, register) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("tcp", s.Endpoint); err == nil {
			conn.Close()
			return s.Endpoint
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func TestNodesOverTheNetwork(t *testing.T) {
	keys := certificates(t, trust.Controller, trust.Node("a"), trust.Node("b"))
	exports := &answering{err: status.Error(codes.Unavailable, "Swift is away")}
	address := overNetwork(t, driver.Server{Keys: keys[trust.Node("a")], Allow: driver.FromController},
		func(s grpc.ServiceRegistrar) { wire.RegisterExportsServer(s, exports) })
	handover := func(as, to trust.Identity) error {
		return driver.Nodes{Keys: keys[as]}.Handover(t.Context(), trust.Endpoint(to, address), ident.NewVolume())
	}
	if err := handover(trust.Controller, trust.Node("a")); err == nil || !strings.Contains(err.Error(), "Swift is away") {
		t.Errorf("the controller: %v, want the node's answer", err)
	}
	if err := handover(trust.Node("b"), trust.Node("a")); status.Code(err) != codes.PermissionDenied {
		t.Errorf("another node: %v, want a refusal", err)
	}
	// Whoever answers in its place, the node is not unreachable, and not given up (R6).
	err := handover(trust.Controller, trust.Node("b"))
	if errors.Is(err, catalog.ErrUnreachable) || status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "valid for a.node") {
		t.Errorf("another node in its place: %v", err)
	}
	if err := handover("none", trust.Node("a")); !errors.Is(err, trust.ErrNoKeys) {
		t.Errorf("without certificates: %v", err)
	}
	if err := (driver.Server{Endpoint: "127.0.0.1:0"}).Serve(t.Context()); !errors.Is(err, trust.ErrNoKeys) {
		t.Errorf("serving without certificates: %v", err)
	}
}

// slow answers after a time.
type slow struct {
	wire.UnimplementedExportsServer
	after time.Duration
}

func (s slow) Detach(context.Context, *wire.DetachRequest) (*wire.DetachResponse, error) {
	time.Sleep(s.after)
	return &wire.DetachResponse{}, nil
}

// A call may take long: a server lets its clients ping meanwhile as often as they do, where gRPC
// by itself would end the connection at the fourth ping.
func TestLongCallOverTheNetwork(t *testing.T) {
	t.Parallel()
	keys := certificates(t, trust.Controller, trust.Node("a"))
	address := overNetwork(t, driver.Server{Keys: keys[trust.Node("a")], Allow: driver.FromController},
		func(s grpc.ServiceRegistrar) { wire.RegisterExportsServer(s, slow{after: 9 * trust.PingEvery / 2}) })
	if err := (driver.Nodes{Keys: keys[trust.Controller]}).Handover(t.Context(), trust.Endpoint(trust.Node("a"), address), ident.NewVolume()); err != nil {
		t.Error(err)
	}
}

// A node speaks for itself only.
func TestOpeningsOverTheNetwork(t *testing.T) {
	r := newRig(t)
	keys := certificates(t, trust.Controller, trust.Node("a"))
	address := overNetwork(t, driver.Server{Keys: keys[trust.Controller], Allow: driver.FromNode}, driver.NewOpenings(r.catalog, vault{}, nil).Register)
	conn, err := keys[trust.Node("a")].Dial(trust.Endpoint(trust.Controller, address), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	openings := wire.NewOpeningsClient(conn)
	volume := string(ident.NewVolume())
	for node, refused := range map[string]bool{"a": false, "b": true, "": true} {
		_, confirm := openings.Confirm(t.Context(), &wire.ConfirmRequest{Volume: volume, Node: node, Journal: "j", Endpoint: "e"})
		_, closed := openings.Closed(t.Context(), &wire.ClosedRequest{Volume: volume, Node: node, Journal: "j"})
		_, published := openings.Published(t.Context(), &wire.PublishedRequest{Volume: volume, Node: node, Journal: "j"})
		for _, err := range []error{confirm, closed, published} {
			if (status.Code(err) == codes.PermissionDenied) != refused {
				t.Errorf("in the name of %q: %v", node, err)
			}
		}
	}
}
