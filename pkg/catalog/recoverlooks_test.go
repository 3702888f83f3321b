package catalog_test

import (
	"context"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/swifttest"
)

// TestRecoverOnRealSwift recovers a lost authority where a real Swift is at hand.
func TestRecoverOnRealSwift(t *testing.T) { recoverLost(newWorldOn(t, swifttest.NewRealStore(t))) }

// TestRecoverWhatWasBuried: a volume that was deleted longer than a grace ago, and of
// which a clone needs something, may lack objects: it does not come back.
func TestRecoverWhatWasBuried(t *testing.T) {
	w := newWorld(t)
	e := w.attach(w.volume("source").ID, "n1")
	w.check(e.write(w.ctx, 0, "cloned"))
	clone := w.clone(from("clone", e.volume))
	w.check(e.write(w.ctx, 1, "of nobody"))
	w.detach(e)
	w.check(w.DeleteVolume(w.ctx, e.volume))
	w.later()
	w.sweep()
	w.collect()
	w.loseAuthority()
	if found := outcomes(w.recover()); found[catalog.Gone] != 1 || found[catalog.Recovered] != 1 {
		t.Errorf("found %v", found)
	}
	_, err := w.GetVolume(w.ctx, e.volume)
	w.want(err, catalog.ErrNotFound)
	w.holds(w.record(clone.ID).Head, map[uint64]string{0: "cloned"})
	w.deleteAll()
	w.empty()
}

// TestRecoveryShowsLast lets the recovery die in every step: whoever sees a volume may
// delete it, so its snapshots and what its clones need are known by then.
func TestRecoveryShowsLast(t *testing.T) {
	w := newWorld(t)
	e := w.attach(w.volume("source").ID, "n1")
	w.check(e.write(w.ctx, 0, "a"))
	w.snapshot("snapshot", e.volume)
	w.clone(from("clone", e.volume))
	w.detach(e)
	for step := 0; ; step++ {
		w.loseAuthority()
		dying, crash := w.dying(step, true)
		_, err := dying.Recover(w.ctx, catalog.RecoverOptions{Workers: 1})
		if !crash.Happened() {
			w.check(err)
			break
		}
		visible, _, err := w.ListVolumes(w.ctx, "", 10)
		w.check(err)
		if len(visible) > 0 {
			rows(w, w.authority.Snapshots(), 1)
			rows(w, w.authority.Pins(), 1)
		}
	}
	w.count(2, 1)
	w.deleteAll()
	w.empty()
}

// TestRecoverPassesOverStrangers: a root under an epoch's number and another tag, as an
// authority that was rolled back may have given out, is not the volume's.
func TestRecoverPassesOverStrangers(t *testing.T) {
	w := newWorld(t)
	e := w.attach(w.volume("pvc").ID, "n1")
	w.check(e.write(w.ctx, 0, "ours"))
	stranger := e.opening.Epoch
	stranger.Tag++
	update, err := snapshots.BlankTable().Update(w.ctx, snapshots.Change{
		Origin: snapshots.Origin{Container: e.opening.Container, Epoch: stranger, Open: e.opened}, Gen: 9,
		State: snapshots.State{Size: e.size, Sealed: time.UnixMilli(9).UTC()},
	})
	w.check(err)
	_, err = w.store.Put(w.ctx, update.RootObject.Container, update.RootObject.Name, update.RootObject.Body, swift.PutOptions{})
	w.check(err)
	w.loseAuthority()
	w.recover()
	w.holds(w.record(e.volume).Head, map[uint64]string{0: "ours"})
}

// TestRecoverLooksAgain: rows that a listing lacks at first are found.
func TestRecoverLooksAgain(t *testing.T) {
	w := newWorld(t)
	e := w.attach(w.volume("pvc").ID, "n1")
	for range 20 {
		w.check(e.write(w.ctx, 0, "a"))
	}
	w.snapshot("snapshot", e.volume)
	w.loseAuthority()
	_, err := w.controller(w.authority, &lateListings{w.store, map[string]int{}}).Recover(w.ctx, catalog.RecoverOptions{Workers: 1})
	w.check(err)
	w.count(1, 1)
	w.holds(w.record(e.volume).Head, map[uint64]string{0: "a"})
}

// lateListings lacks all rows of objects in its first listings.
type lateListings struct {
	swift.Store
	looks map[string]int // by container and prefix
}

func (s *lateListings) List(ctx context.Context, container, prefix, marker string, limit int) ([]swift.Info, error) {
	if s.looks[container+prefix]++; s.looks[container+prefix] < 3 {
		return nil, nil
	}
	return s.Store.List(ctx, container, prefix, marker, limit)
}
