package catalog_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// tally counts calls.
type tally struct{ steps, looks atomic.Int64 }

func (n *tally) Step(do func() error) error { n.steps.Add(1); return do() }

func (n *tally) Look(do func() error) error { n.looks.Add(1); return do() }

// TestSweepOfAGoldenImage: what a sweep asks the authority does not grow with the clones
// that there are.
func TestSweepOfAGoldenImage(t *testing.T) {
	w := newWorld(t)
	e := w.generations(w.volume("golden").ID, 1)
	asked := func(clones int) int64 {
		for i := range clones {
			w.clone(from(fmt.Sprint("clone ", clones, i), e.volume))
		}
		n := &tally{}
		_, err := w.guarded(n).Sweep(w.ctx)
		w.check(err)
		return n.looks.Load()
	}
	w.detach(e)
	if few, many := asked(1), asked(20); many > few {
		t.Errorf("%d looks with one clone, %d with 21", few, many)
	}
}

// refusing is a store that takes no deletions in one container: that of an account whose
// credentials were revoked, say.
type refusing struct {
	swift.Store
	container string
}

func (s *refusing) Delete(ctx context.Context, container, name string) error {
	if container == s.container {
		return swift.ErrUnauthorized
	}
	return s.Store.Delete(ctx, container, name)
}

// TestSweepBesideASnapshotThatStays: a snapshot that cannot be erased holds up nothing but
// its volume.
func TestSweepBesideASnapshotThatStays(t *testing.T) {
	w := newWorld(t)
	stays, goes := w.volume("stays"), w.volume("goes")
	s := w.snapshot("s", stays.ID)
	w.check(w.DeleteSnapshot(w.ctx, s.ID))
	w.check(w.DeleteVolume(w.ctx, goes.ID))
	c := w.controller(w.authority, &refusing{w.store, stays.Container})
	_, err := c.Sweep(w.ctx)
	w.want(err, swift.ErrUnauthorized)
	if !strings.Contains(err.Error(), string(s.ID)) {
		t.Errorf("%v, want it to name the snapshot", err)
	}
	if _, _, err := w.authority.Volumes().Get(w.ctx, string(goes.ID)); err == nil {
		t.Error("another volume was not erased")
	}
	_, _, err = w.authority.Snapshots().Get(w.ctx, string(s.ID))
	w.check(err)
	var left []authority.Volume
	left, _, err = w.ListVolumes(w.ctx, "", 10)
	w.check(err)
	if len(left) != 1 {
		t.Errorf("%d volumes left", len(left))
	}
}

// TestSweepKeepsACutForItsGrace: the cut of a deleted snapshot stays for a grace, also where
// the volume was deleted long before, and is kept by nothing else.
func TestSweepKeepsACutForItsGrace(t *testing.T) {
	w := newWorld(t)
	w.grace = time.Hour
	w.Catalog = w.controller(w.authority, w.store)
	e := w.generations(w.volume("v").ID, 1)
	w.detach(e)
	s := w.snapshot("s", e.volume)
	w.check(w.DeleteVolume(w.ctx, e.volume))
	w.sweep() // its grace begins
	w.later()
	w.sweep()
	w.check(w.DeleteSnapshot(w.ctx, s.ID))
	w.sweep()
	w.holds(s.Root, map[uint64]string{0: "0"})
	w.later()
	w.sweep()
	if left := w.containers(); len(left) > 0 {
		t.Errorf("containers left: %v", left)
	}
}
