package driver_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/driver"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// manyOpen is a catalog of volumes that one node has open.
type manyOpen struct {
	driver.Catalog
	volumes []authority.Volume
}

func (m manyOpen) ListVolumes(context.Context, authority.Place, int) ([]authority.Volume, authority.Place, error) {
	return m.volumes, "", nil
}

// silent is a node that packets to do not reach.
type silent struct{ asked atomic.Int64 }

func (s *silent) Ask(context.Context, string, ident.Volume) (*wire.StatusResponse, error) {
	s.asked.Add(1)
	time.Sleep(20 * time.Millisecond) // in place of healthWait
	return nil, fmt.Errorf("node at x: %w", context.DeadlineExceeded)
}

// A node that is down does not take its time for each of its volumes: with a hundred of
// those the volumes of others would be looked at minutes late.
func TestSilentNodeIsAskedOnce(t *testing.T) {
	var volumes []authority.Volume
	for range 200 {
		volumes = append(volumes, authority.Volume{ID: ident.NewVolume(), Opening: authority.Opening{Open: true, Node: "n", Endpoint: "x"}})
	}
	node, seen := &silent{}, &board{}
	m := driver.Monitor{Catalog: manyOpen{volumes: volumes}, Exports: node, Board: seen}
	for range 2 {
		node.asked.Store(0)
		if err := m.Round(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := node.asked.Load(); n == 0 || n > 32 { // as many as are asked at a time
			t.Errorf("asked %d times for 200 volumes", n)
		}
		for _, fare := range seen.fares {
			if len(fare.Conditions) != 1 || fare.Conditions[0].Reason != "NodeNotReachable" {
				t.Fatalf("%+v", fare)
			}
		}
	}
}
