package catalog_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/authority/authoritytest"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
)

// TestTwoControllers lets one controller do something between every two steps
// (reads count) of what another one is doing. Whatever is visible then is whole,
// what was answered with success is there, and in the end nothing is left over.
func TestTwoControllers(t *testing.T) {
	all := maps.Clone(pairs)
	maps.Copy(all, pairsOfUse)
	for name, p := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			for step := 0; p.meet(w, fmt.Sprint(step), step); step++ {
				if step > 500 {
					t.Fatal("the operation does not end")
				}
			}
		})
	}
}

// pair is an operation and what another controller does meanwhile.
type pair struct {
	prepare func(w *world, f *fixture)
	first   func(c *catalog.Catalog, w *world, f *fixture) error
	between func(c *catalog.Catalog, w *world, f *fixture) error
	verify  func(w *world, f *fixture)
}

// refused are the errors that tell a caller that somebody else was there.
var refused = []error{
	catalog.ErrNotFound, catalog.ErrBusy, catalog.ErrInUse, catalog.ErrFenced, catalog.ErrClosed,
	catalog.ErrLost, catalog.ErrUnreachable, catalog.ErrNotReady,
}

// accept fails the test for an error that none of refused explains.
func (w *world) accept(err error) {
	w.t.Helper()
	if !isRefused(err) {
		w.check(err)
	}
}

func isRefused(err error) bool {
	return slices.ContainsFunc(refused, func(one error) bool { return errors.Is(err, one) })
}

func (p pair) meet(w *world, name string, step int) bool {
	w.t.Helper()
	f := &fixture{name: name}
	f.parent = w.attach(w.volume("parent "+name).ID, "n1")
	w.check(f.parent.write(w.ctx, 0, "a"))
	w.check(f.parent.write(w.ctx, 1, "a"))
	if p.prepare != nil {
		p.prepare(w, f)
	}
	gate := authoritytest.NewBetween(step, func() {
		w.accept(p.between(w.controller(w.authority, w.store), w, f))
	})
	w.accept(p.first(w.guarded(gate), w, f))
	w.accept(p.first(w.Catalog, w, f))
	w.visible(f)
	if p.verify != nil {
		p.verify(w, f)
	}
	w.sweep()
	w.visible(f)
	w.nodes.setDown("n1", false)
	w.deleteAll()
	w.empty()
	return gate.Happened()
}

// visible reads all that is visible; it holds what the parent did.
func (w *world) visible(f *fixture) {
	w.t.Helper()
	volumes, _, err := w.ListVolumes(w.ctx, "", 1000)
	w.check(err)
	for _, v := range volumes {
		switch {
		case v.ID == f.parent.volume && v.Opening.Open:
			w.holds(f.parent.head, f.parent.content)
		case v.Origin != nil || v.ID == f.parent.volume:
			w.holds(v.Head, ab)
		}
	}
	list, _, err := w.ListSnapshots(w.ctx, "", "", 1000)
	w.check(err)
	for _, s := range list {
		w.holds(s.Root, ab)
	}
	// What a call has answered with success, and nobody deleted, is there.
	if f.child.ID != "" {
		_, err := w.GetVolume(w.ctx, f.child.ID)
		w.check(err)
	}
}

func detached(w *world, f *fixture) { w.detach(f.parent) }

func detachedWithSnapshot(w *world, f *fixture) {
	w.prepareSnapshot(f)
	w.detach(f.parent)
}

func createChild(c *catalog.Catalog, w *world, f *fixture) error {
	spec := from("child "+f.name, f.parent.volume)
	if f.snapshot.ID != "" {
		spec = from("child "+f.name, f.snapshot.ID)
	}
	v, err := c.CreateVolume(w.ctx, spec)
	if err == nil {
		f.child = v
	}
	return err
}

// deleteChild deletes a child that is being created, as an administrator can who
// reads its id in the authority.
func deleteChild(c *catalog.Catalog, w *world, f *fixture) error {
	list, _, err := w.authority.Volumes().List(w.ctx, "", 10)
	w.check(err)
	for _, row := range list {
		if row.Value.Origin != nil {
			w.check(c.DeleteVolume(w.ctx, row.Value.ID))
		}
	}
	return sweep(c, w, f)
}

func createSnapshot(c *catalog.Catalog, w *world, f *fixture) error {
	_, err := c.CreateSnapshot(w.ctx, "snap "+f.name, f.parent.volume)
	return err
}

func deleteSources(c *catalog.Catalog, w *world, f *fixture) error {
	err := c.DeleteVolume(w.ctx, f.parent.volume)
	if err == nil && f.snapshot.ID != "" {
		err = c.DeleteSnapshot(w.ctx, f.snapshot.ID)
	}
	if err == nil {
		_, err = c.Sweep(w.ctx)
	}
	return err
}

func sweep(c *catalog.Catalog, w *world, f *fixture) error {
	_, err := c.Sweep(w.ctx)
	return err
}

func sweepLater(c *catalog.Catalog, w *world, f *fixture) error {
	w.later()
	return sweep(c, w, f)
}

// createNew makes an empty volume; two that succeed make the same one.
func createNew(c *catalog.Catalog, w *world, f *fixture) error {
	v, err := c.CreateVolume(w.ctx, catalog.VolumeSpec{Name: "new " + f.name, Required: mib})
	if err == nil && f.imported.Volume != "" && f.imported.Volume != v.ID {
		w.t.Errorf("one name, volumes %s and %s", f.imported.Volume, v.ID)
	}
	if err == nil {
		f.imported.Volume = v.ID
	}
	return err
}

// confirm opens a volume for a journal; no two epochs have the same number.
func confirm(journal string) func(*catalog.Catalog, *world, *fixture) error {
	return func(c *catalog.Catalog, w *world, f *fixture) error {
		o, err := c.Confirm(w.ctx, catalog.Confirmation{Volume: f.child.ID, Node: "n2", Endpoint: "n2", Journal: journal})
		if err != nil {
			return err
		}
		if f.epochs == nil {
			f.epochs = map[uint64]string{}
		}
		if other, ok := f.epochs[o.Epoch.Number]; ok && other != journal+o.Epoch.String() {
			w.t.Errorf("epoch %d was given to %s and %s", o.Epoch.Number, other, journal)
		}
		f.epochs[o.Epoch.Number] = journal + o.Epoch.String()
		return nil
	}
}

func publishedChild(w *world, f *fixture) {
	w.prepareChild(f)
	_, err := w.Publish(w.ctx, f.child.ID, "n2", catalog.Write)
	w.check(err)
}

func abandon(c *catalog.Catalog, w *world, f *fixture) error {
	w.nodes.setDown("n1", true)
	return c.Abandon(w.ctx, f.parent.volume)
}

var pairs = map[string]pair{
	"CreateFromSnapshot/SourcesDeleted": {detachedWithSnapshot, createChild, deleteSources, nil},
	"CreateFromVolume/SourcesDeleted":   {detached, createChild, deleteSources, nil},
	"CreateFromSnapshot/Sweep":          {detachedWithSnapshot, createChild, sweepLater, nil},
	"CreateFromSnapshot/ChildDeleted":   {detachedWithSnapshot, createChild, deleteChild, nil},
	"CreateFromSnapshot/Same":           {detachedWithSnapshot, createChild, createChild, nil},
	"Create/Same":                       {nil, createNew, createNew, func(w *world, f *fixture) { rows(w, w.authority.Volumes(), 2) }},
	"Create/Sweep":                      {nil, createNew, sweepLater, nil},
	"CreateSnapshot/VolumeDeleted":      {detached, createSnapshot, deleteSources, nil},
	"CreateSnapshot/Same":               {nil, createSnapshot, createSnapshot, func(w *world, f *fixture) { w.count(1, 1) }},
	"CreateSnapshot/Sweep":              {nil, createSnapshot, sweepLater, nil},
	"CreateSnapshot/Abandon":            {nil, createSnapshot, abandon, nil},
	// A clone is made and its source deleted while a sweep looks at the two.
	"Sweep/CreateAndDelete": {
		prepare: func(w *world, f *fixture) {
			detachedWithSnapshot(w, f)
			w.check(w.DeleteVolume(w.ctx, f.parent.volume))
		},
		first: sweep,
		between: func(c *catalog.Catalog, w *world, f *fixture) error {
			if err := createChild(c, w, f); err != nil {
				return err
			}
			return c.DeleteSnapshot(w.ctx, f.snapshot.ID)
		},
	},
	// The same to a volume that was alive when the sweep began (B14).
	"Sweep/CloneAndDelete": {
		prepare: detached,
		first:   sweep,
		between: func(c *catalog.Catalog, w *world, f *fixture) error {
			if err := createChild(c, w, f); err != nil {
				return err
			}
			return c.DeleteVolume(w.ctx, f.parent.volume)
		},
	},
	"Sweep/Sweep": {
		prepare: func(w *world, f *fixture) {
			detachedWithSnapshot(w, f)
			w.check(createChild(w.Catalog, w, f))
			w.check(w.DeleteVolume(w.ctx, f.parent.volume))
			w.check(w.DeleteVolume(w.ctx, f.child.ID))
			w.check(w.DeleteSnapshot(w.ctx, f.snapshot.ID))
			f.child = authority.Volume{}
		},
		first: sweep, between: sweep,
	},
	"Delete/Publish": {
		prepare: detached,
		first: func(c *catalog.Catalog, w *world, f *fixture) error {
			return c.DeleteVolume(w.ctx, f.parent.volume)
		},
		between: func(c *catalog.Catalog, w *world, f *fixture) error {
			_, err := c.Publish(w.ctx, f.parent.volume, "n2", catalog.Write)
			return err
		},
	},
	"Confirm/SameJournal":  {publishedChild, confirm("j1"), confirm("j1"), nil},
	"Confirm/OtherJournal": {publishedChild, confirm("j1"), confirm("j2"), nil},
	"Abandon/Abandon":      {nil, abandon, abandon, nil},
	"Abandon/Closed": {nil, abandon, func(c *catalog.Catalog, w *world, f *fixture) error {
		return f.parent.close(w.ctx, c)
	}, nil},
}
