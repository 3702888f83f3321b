package catalog_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
)

// TestClockAhead: a grace is one of the store's time (R8). A controller whose clock is days
// ahead deletes nothing, though all looks old to it.
func TestClockAhead(t *testing.T) {
	w := newWorld(t)
	e := w.generations(w.volume("v").ID, 3)
	dead := w.volume("dead")
	w.check(w.DeleteVolume(w.ctx, dead.ID))
	before := len(w.objects())
	ahead := time.Duration(0)
	c := catalog.New(catalog.Config{
		Authority: w.authority, Store: w.store, Prefix: w.prefix, Cluster: cluster, Nodes: w.nodes, Grace: 24 * time.Hour,
		Now:  func() time.Time { return time.Now().Add(ahead) },
		Date: func(context.Context) (time.Time, error) { return time.Now(), nil },
	})
	for _, ahead = range []time.Duration{0, 48 * time.Hour} {
		_, errCollect := c.Collect(w.ctx, catalog.CollectOptions{})
		_, errSweep := c.Sweep(w.ctx)
		for _, err := range []error{errCollect, errSweep} {
			if ahead == 0 && err != nil || ahead > 0 && (err == nil || !strings.Contains(err.Error(), "NTP")) {
				t.Errorf("%v ahead: %v", ahead, err)
			}
		}
		if left := len(w.objects()); left != before || len(w.containers()) != 2 {
			t.Errorf("%v ahead: %d objects, want %d; containers %v", ahead, left, before, w.containers())
		}
	}
	w.holds(e.head, e.content)
}
