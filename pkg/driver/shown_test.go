package driver_test

import (
	"context"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/driver"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/internal/gather"
)

func TestShown(t *testing.T) {
	seen := &board{}
	s := driver.NewShown(seen)
	twice := authority.Condition{Severity: authority.Inaccessible, Reason: "Ended"}
	err := s.Show(t.Context(), map[ident.Volume]authority.Fare{
		"one": {Conditions: []authority.Condition{twice, twice}},
		"two": {},
	})
	if err != nil || len(seen.fares) != 2 {
		t.Fatalf("the board: %v, %v", seen.fares, err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(s)
	got, err := registry.Gather() // fails if a condition is there twice
	if err != nil || len(got) != 1 || got[0].GetName() != "swiftblock_volume_condition" || len(got[0].GetMetric()) != 1 {
		t.Fatalf("%v, %v", got, err)
	}
	for i, want := range []string{"Ended", "Inaccessible", "one"} { // condition, health, volume
		if l := got[0].GetMetric()[0].GetLabel()[i]; l.GetValue() != want {
			t.Errorf("label %v, want %s", l, want)
		}
	}
	s.Forget()
	if got, err := registry.Gather(); err != nil || len(got) != 0 {
		t.Errorf("who leads no more: %v, %v", got, err)
	}
}

// aged is a catalog whose volumes were recovered some time earlier.
type aged struct {
	driver.Catalog
	by time.Duration
}

func (a *aged) ListVolumes(ctx context.Context, from authority.Place, limit int) ([]authority.Volume, authority.Place, error) {
	volumes, next, err := a.Catalog.ListVolumes(ctx, from, limit)
	for i := range volumes {
		if r := volumes[i].Recovered; r != nil {
			earlier := *r
			earlier.At = r.At.Add(-a.by)
			volumes[i].Recovered = &earlier
		}
	}
	return volumes, next, err
}

// What the controller sees by itself is shown to Prometheus while it is so: a node that
// does not answer, and for 14 days that one was given up.
func TestLostNodeIsShown(t *testing.T) {
	r := newRig(t)
	id := r.published("one")
	r.must("stage", r.stage(id, mounted("")))
	shown := driver.NewShown(&board{})
	volumes := &aged{Catalog: r.catalog}
	look := func(what, want string) {
		t.Helper()
		r.must(what, driver.Monitor{Catalog: volumes, Exports: r.exports, Board: shown}.Round(t.Context()))
		all := map[string]float64{}
		if want != "" {
			all["swiftblock_volume_condition "+want+" "+id] = 1
		}
		if have := gather.Values(t, shown); !maps.Equal(have, all) {
			t.Errorf("%s: %v, want %v", what, have, all)
		}
	}
	look("in order", "")
	r.exports.Fail(catalog.ErrUnreachable)
	look("silent", "NodeNotReachable Degraded")
	r.exports.Fail(nil)
	look("back", "")
	r.exports.Fail(catalog.ErrUnreachable)
	r.cluster.giveUp()
	_, err := r.controller.ControllerUnpublishVolume(t.Context(), &csi.ControllerUnpublishVolumeRequest{VolumeId: id, NodeId: nodeName})
	r.must("unpublish", err)
	look("given up", "RolledBack DataLoss")
	volumes.by = 13 * 24 * time.Hour
	look("for 13 days", "RolledBack DataLoss")
	volumes.by += 2 * 24 * time.Hour
	look("for 15 days", "")
}

// Calls that fail for no passing reason are counted as such while they do.
func TestFailingCallsAreShown(t *testing.T) {
	r := newRig(t)
	id := r.published("one")
	failed := func(code string) float64 {
		return gather.Values(t, r.calls)["swiftblock_rpc_calls_total "+code+" NodeStageVolume"]
	}
	r.machine.Fail("mkfs", errors.New("no such program"))
	for range 4 { // SwiftblockCallsFail wants more than 3
		expect(t, "stage", r.stage(id, mounted("")), codes.Internal, "no such program")
	}
	if n := failed("Internal"); n != 4 {
		t.Errorf("%v calls failed, want 4", n)
	}
	r.machine.Fail("mkfs", nil)
	r.must("stage", r.stage(id, mounted("")))
	if failed("Internal") != 4 || failed("OK") != 1 {
		t.Errorf("the fault is over: %v", gather.Values(t, r.calls))
	}
}
