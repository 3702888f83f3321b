package catalog_test

import (
	"errors"
	"fmt"
	"maps"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/authority/authoritytest"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
)

// TestContinuesAfterEveryStep lets the controller die in every step of every
// operation, before the step had its effect and after it, and repeats the call
// in another controller: it ends as if nothing had happened, and in the end
// nothing is left over.
func TestContinuesAfterEveryStep(t *testing.T) {
	all := maps.Clone(scenarios)
	maps.Copy(all, scenariosOfUse)
	for name, s := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			for _, after := range []bool{false, true} {
				for step := 0; ; step++ {
					if !s.interrupt(w, fmt.Sprintf("%d-%t", step, after), step, after) {
						if step == 0 {
							t.Fatal("the operation has no steps")
						}
						break
					}
				}
			}
		})
	}
}

// scenario is an operation with what must be true before and after it.
type scenario struct {
	prepare func(w *world, f *fixture)
	run     func(c *catalog.Catalog, w *world, f *fixture) error
	verify  func(w *world, f *fixture)
}

// fixture is what a scenario works on.
type fixture struct {
	name      string // unique; the volumes and snapshots are named after it
	parent    *export
	snapshot  authority.Snapshot
	child     authority.Volume
	imported  catalog.Import
	encrypted ident.Volume      // the child, if it is; it may be deleted
	secrets   keys.Set          // of that one
	epochs    map[uint64]string // given out: to which journal, under which tag
}

// interrupt runs the scenario with a crash in a step; false if it has no such step.
func (s scenario) interrupt(w *world, name string, step int, after bool) bool {
	w.t.Helper()
	f := &fixture{name: name}
	f.parent = w.attach(w.volume("parent "+name).ID, "n1")
	w.check(f.parent.write(w.ctx, 0, "a"))
	w.check(f.parent.write(w.ctx, 1, "a"))
	if s.prepare != nil {
		s.prepare(w, f)
	}
	dying, crash := w.dying(step, after)
	err := s.run(dying, w, f)
	if crash.Happened() {
		w.want(err, authoritytest.ErrCrashed)
	} else {
		w.check(err)
	}
	if err := s.run(w.Catalog, w, f); err != nil {
		w.t.Fatalf("repeated after a crash in step %s: %v", name, err)
	}
	s.verify(w, f)
	w.nodes.setDown("n1", false)
	w.deleteAll()
	w.empty()
	return crash.Happened()
}

// deleteAll abandons and deletes whatever there is.
func (w *world) deleteAll() {
	w.t.Helper()
	volumes, _, err := w.ListVolumes(w.ctx, "", 1000)
	w.check(err)
	for _, v := range volumes {
		w.check(w.Abandon(w.ctx, v.ID))
		w.check(w.DeleteVolume(w.ctx, v.ID))
	}
	list, _, err := w.ListSnapshots(w.ctx, "", "", 1000)
	w.check(err)
	for _, s := range list {
		w.check(w.DeleteSnapshot(w.ctx, s.ID))
	}
}

func (w *world) prepareSnapshot(f *fixture) { f.snapshot = w.snapshot("snap "+f.name, f.parent.volume) }

func (w *world) prepareChild(f *fixture) {
	w.prepareSnapshot(f)
	f.child = w.clone(from("child "+f.name, f.snapshot.ID))
}

var ab = map[uint64]string{0: "a", 1: "a"}

var scenarios = map[string]scenario{
	"CreateEmpty": {
		run: func(c *catalog.Catalog, w *world, f *fixture) error {
			_, err := c.CreateVolume(w.ctx, catalog.VolumeSpec{Name: "new " + f.name, Required: mib})
			return err
		},
		verify: func(w *world, f *fixture) { w.count(2, 0) },
	},
	"CreateFromSnapshot": {
		prepare: (*world).prepareSnapshot,
		run: func(c *catalog.Catalog, w *world, f *fixture) (err error) {
			f.child, err = c.CreateVolume(w.ctx, from("child "+f.name, f.snapshot.ID))
			return err
		},
		verify: func(w *world, f *fixture) {
			w.check(w.DeleteSnapshot(w.ctx, f.snapshot.ID))
			w.sweep()
			w.count(2, 0)
			w.holds(f.child.Head, ab)
		},
	},
	"CreateFromAttachedVolume": {
		run: func(c *catalog.Catalog, w *world, f *fixture) (err error) {
			f.child, err = c.CreateVolume(w.ctx, from("child "+f.name, f.parent.volume))
			return err
		},
		verify: func(w *world, f *fixture) {
			w.count(2, 0)
			w.holds(f.child.Head, ab)
		},
	},
	"CreateFromDeletedSnapshot": {
		prepare: (*world).prepareSnapshot,
		run: func(c *catalog.Catalog, w *world, f *fixture) error {
			// It is deleted at the moment when nothing but the pin is missing.
			_, err := c.CreateVolume(w.ctx, from("child "+f.name, f.snapshot.ID))
			if errors.Is(err, authoritytest.ErrCrashed) {
				w.check(w.DeleteSnapshot(w.ctx, f.snapshot.ID))
				w.sweep()
				return err
			}
			if errors.Is(err, catalog.ErrNotFound) {
				return nil
			}
			return err
		},
		verify: func(w *world, f *fixture) {
			w.later()
			w.sweep()
			// The child is whole, or there is none.
			list, _, err := w.ListVolumes(w.ctx, "", 10)
			w.check(err)
			for _, v := range list {
				if v.ID != f.parent.volume {
					w.holds(v.Head, ab)
				}
			}
		},
	},
	"SnapshotAttached": {
		run: func(c *catalog.Catalog, w *world, f *fixture) (err error) {
			f.snapshot, err = c.CreateSnapshot(w.ctx, "snap "+f.name, f.parent.volume)
			if err != nil {
				w.check(f.parent.write(w.ctx, 2, "after the first call"))
			}
			return err
		},
		verify: func(w *world, f *fixture) {
			w.count(1, 1)
			if have := w.content(f.snapshot.Root); have[0] != "a" || have[1] != "a" {
				w.t.Errorf("the snapshot holds %v", have)
			}
		},
	},
	"SnapshotDetached": {
		prepare: func(w *world, f *fixture) { w.detach(f.parent) },
		run: func(c *catalog.Catalog, w *world, f *fixture) (err error) {
			f.snapshot, err = c.CreateSnapshot(w.ctx, "snap "+f.name, f.parent.volume)
			return err
		},
		verify: func(w *world, f *fixture) {
			w.count(1, 1)
			w.holds(f.snapshot.Root, ab)
		},
	},
	"DeleteSnapshot": {
		prepare: (*world).prepareSnapshot,
		run: func(c *catalog.Catalog, w *world, f *fixture) error {
			if err := c.DeleteSnapshot(w.ctx, f.snapshot.ID); err != nil {
				return err
			}
			_, err := c.Sweep(w.ctx)
			return err
		},
		verify: func(w *world, f *fixture) {
			w.count(1, 0)
			rows(w, w.authority.Snapshots(), 0)
		},
	},
	"DeleteChild": {
		prepare: (*world).prepareChild,
		run: func(c *catalog.Catalog, w *world, f *fixture) error {
			if err := c.DeleteVolume(w.ctx, f.child.ID); err != nil {
				return err
			}
			_, err := c.Sweep(w.ctx)
			return err
		},
		verify: func(w *world, f *fixture) {
			w.count(1, 1)
			rows(w, w.authority.Pins(), 0)
			if n := len(w.containers()); n != 1 {
				w.t.Errorf("%d containers, want the parent's", n)
			}
			if refs, err := snapshots.ListPins(w.ctx, w.store, f.parent.opening.Container); err != nil || len(refs) > 0 {
				w.t.Errorf("refs of %v are left, %v", refs, err)
			}
			w.holds(f.snapshot.Root, ab)
		},
	},
	"DeleteParent": {
		prepare: func(w *world, f *fixture) {
			w.prepareChild(f)
			w.detach(f.parent)
		},
		run: func(c *catalog.Catalog, w *world, f *fixture) error {
			err := errors.Join(c.DeleteVolume(w.ctx, f.parent.volume), c.DeleteSnapshot(w.ctx, f.snapshot.ID))
			if err == nil {
				_, err = c.Sweep(w.ctx)
			}
			return err
		},
		verify: func(w *world, f *fixture) {
			w.count(1, 0)
			w.holds(f.child.Head, ab)
		},
	},
	"OpenAndClose": {
		prepare: (*world).prepareChild,
		run: func(c *catalog.Catalog, w *world, f *fixture) error {
			if _, err := c.Publish(w.ctx, f.child.ID, "n2", catalog.Write); err != nil {
				return err
			}
			e, err := w.nodes.open(w.ctx, c, f.child.ID, "n2", f.name)
			if errors.Is(err, catalog.ErrClosed) {
				return c.Unpublish(w.ctx, f.child.ID, "n2")
			}
			if err != nil {
				return err
			}
			if e.opening.Epoch.Number != 1 {
				w.t.Errorf("epoch %d of the first journal", e.opening.Epoch.Number)
			}
			if err := c.Closed(w.ctx, e.report()); err != nil {
				return err
			}
			return c.Unpublish(w.ctx, f.child.ID, "n2")
		},
		verify: func(w *world, f *fixture) {
			v, err := w.GetVolume(w.ctx, f.child.ID)
			w.check(err)
			if v.Binding != nil || v.Opening.Open || v.Opening.Epoch.Number != 1 {
				w.t.Errorf("volume %+v", v)
			}
		},
	},
	"Recover": {
		prepare: func(w *world, f *fixture) {
			w.prepareChild(f)
			w.loseAuthority()
		},
		run: func(c *catalog.Catalog, w *world, f *fixture) error {
			_, err := c.Recover(w.ctx, catalog.RecoverOptions{Workers: 1})
			return err
		},
		verify: func(w *world, f *fixture) {
			w.count(2, 1)
			v, err := w.GetVolume(w.ctx, f.parent.volume)
			w.check(err)
			w.holds(v.Head, ab)
			w.check(w.DeleteVolume(w.ctx, f.parent.volume))
			w.check(w.DeleteSnapshot(w.ctx, f.snapshot.ID))
			w.sweep()
			w.holds(f.child.Head, ab)
		},
	},
	"Abandon": {
		prepare: func(w *world, f *fixture) { w.nodes.setDown("n1", true) },
		run:     func(c *catalog.Catalog, w *world, f *fixture) error { return c.Abandon(w.ctx, f.parent.volume) },
		verify: func(w *world, f *fixture) {
			v, err := w.GetVolume(w.ctx, f.parent.volume)
			w.check(err)
			if v.Binding != nil || !v.Opening.Lost {
				w.t.Errorf("volume %+v", v)
			}
			w.holds(v.Head, ab)
		},
	},
	"Import": {
		run: func(c *catalog.Catalog, w *world, f *fixture) error {
			i, err := c.BeginImport(w.ctx, catalog.VolumeSpec{Name: "image " + f.name, Required: mib})
			if errors.Is(err, catalog.ErrConflict) {
				i, err = f.imported, nil // it was completed
			}
			if err != nil {
				return err
			}
			if f.imported.Volume != "" && f.imported != i {
				w.t.Errorf("the import continued as %+v, was %+v", i, f.imported)
			}
			f.imported = i
			_, err = c.CompleteImport(w.ctx, i.Volume, nil)
			return err
		},
		verify: func(w *world, f *fixture) { w.count(2, 0) },
	},
	"AbortImport": {
		prepare: func(w *world, f *fixture) {
			i, err := w.BeginImport(w.ctx, catalog.VolumeSpec{Name: "image " + f.name, Required: mib})
			w.check(err)
			f.imported = i
		},
		run: func(c *catalog.Catalog, w *world, f *fixture) error {
			if err := c.AbortImport(w.ctx, f.imported.Volume); err != nil {
				return err
			}
			_, err := c.Sweep(w.ctx)
			return err
		},
		verify: func(w *world, f *fixture) {
			w.count(1, 0)
			rows(w, w.authority.Volumes(), 1)
		},
	},
}

// count checks how many volumes and snapshots everybody sees.
func (w *world) count(volumes, snapshots int) {
	w.t.Helper()
	v, _, err := w.ListVolumes(w.ctx, "", 1000)
	w.check(err)
	s, _, err := w.ListSnapshots(w.ctx, "", "", 1000)
	w.check(err)
	if len(v) != volumes || len(s) != snapshots {
		w.t.Fatalf("%d volumes and %d snapshots, want %d and %d", len(v), len(s), volumes, snapshots)
	}
}
