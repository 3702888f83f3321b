package catalog_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
)

// newClockWorld returns a world with a grace whose store tells its time, which is right.
func newClockWorld(t *testing.T, grace time.Duration) *world {
	w := newWorld(t)
	w.grace = grace
	w.date = func(context.Context) (time.Time, error) { return time.Now(), nil }
	w.Catalog = w.controller(w.authority, w.store)
	return w
}

// setClock sets the controllers' clock so far ahead of the right time.
func (w *world) setClock(ahead time.Duration) {
	w.clock = func() time.Time { return time.Now().Add(ahead) }
}

// TestWrongClock: a grace is one of the store's time (R8). A controller whose clock is days
// ahead deletes nothing, though all looks old to it, nor does one that is behind.
func TestWrongClock(t *testing.T) {
	w := newClockWorld(t, 24*time.Hour)
	e := w.generations(w.volume("v").ID, 3)
	dead := w.volume("dead")
	w.check(w.DeleteVolume(w.ctx, dead.ID))
	before := len(w.objects())
	for _, ahead := range []time.Duration{0, 48 * time.Hour, -48 * time.Hour} {
		w.setClock(ahead)
		_, errCollect := w.Collect(w.ctx, catalog.CollectOptions{})
		_, errSweep := w.Sweep(w.ctx)
		for _, err := range []error{errCollect, errSweep} {
			if ahead == 0 && err != nil || ahead != 0 && (err == nil || !strings.Contains(err.Error(), "NTP")) {
				t.Errorf("%v ahead: %v", ahead, err)
			}
		}
		if left := len(w.objects()); left != before || len(w.containers()) != 2 {
			t.Errorf("%v ahead: %d objects, want %d; containers %v", ahead, left, before, w.containers())
		}
	}
	w.holds(e.head, e.content)
}

// TestDeletedByAClockThatWasBehind: what was deleted while the clock was days behind stays for
// its grace once that is right, as long as the controller's process lives, and no longer if
// it does not.
func TestDeletedByAClockThatWasBehind(t *testing.T) {
	w := newClockWorld(t, 24*time.Hour)
	e := w.generations(w.volume("v").ID, 2)
	s := w.snapshot("s", e.volume)
	w.check(e.write(w.ctx, 0, "new"))
	w.detach(e)
	alone := w.volume("alone")
	w.setClock(-48 * time.Hour) // as after a start with an empty battery
	w.check(w.DeleteSnapshot(w.ctx, s.ID))
	w.check(w.DeleteVolume(w.ctx, e.volume))
	w.check(w.DeleteVolume(w.ctx, alone.ID))
	if _, err := w.Sweep(w.ctx); err == nil {
		t.Error("swept by a clock that is behind")
	}
	w.setClock(0)
	w.date = nil // that of the store goes with ours from here on
	for _, passed := range []time.Duration{0, 23 * time.Hour} {
		w.setClock(passed)
		w.Catalog = w.controller(w.authority, w.store)
		w.sweep()
		w.holds(s.Root, map[uint64]string{0: "1"})
		if left := w.containers(); len(left) != 2 {
			t.Errorf("%v after the deletion: containers %v", passed, left)
		}
	}
	w.setClock(25 * time.Hour)
	w.sweep()
	rows(w, w.authority.Snapshots(), 0)
	rows(w, w.authority.Volumes(), 0)
	if left := w.containers(); len(left) > 0 {
		t.Errorf("containers left: %v", left)
	}
}

// TestLostByAClockThatWasBehind: so does what stands on an epoch that was lost then, whoever
// has ended it.
func TestLostByAClockThatWasBehind(t *testing.T) {
	for name, end := range map[string]func(w *world, e *export){
		"abandoned": func(w *world, e *export) { w.lost(e) },
		"recovered": func(w *world, _ *export) { w.loseAuthority(); w.recover() },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			e := w.generations(w.volume("v").ID, 3)
			w.setClock(-48 * time.Hour)
			end(w, e)
			w.setClock(0)
			w.check(w.generations(e.volume, 2).close(w.ctx, w.Catalog))
			if done := w.collect(); done.Objects != 0 {
				t.Errorf("collected %+v", done)
			}
			w.later()
			if done := w.collect(); done.Objects == 0 {
				t.Error("nothing was collected")
			}
		})
	}
}
