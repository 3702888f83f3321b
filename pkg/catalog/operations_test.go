package catalog_test

import (
	"errors"
	"fmt"

	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
)

// More of the scenarios of TestContinuesAfterEveryStep, and of the pairs of
// TestTwoControllers: those of a volume's life between its creation and its deletion.

var scenariosOfUse = map[string]scenario{
	"Expand": {
		run: func(c *catalog.Catalog, w *world, f *fixture) error { return expand(c, w, f) },
		verify: func(w *world, f *fixture) {
			if v := w.record(f.parent.volume); v.Size != 128*mib {
				w.t.Errorf("the volume has %d bytes", v.Size)
			}
		},
	},
	"Modify": {
		run: func(c *catalog.Catalog, w *world, f *fixture) error { return modify("5s")(c, w, f) },
		verify: func(w *world, f *fixture) {
			if v := w.record(f.parent.volume); v.Mutable["rpo"] != "5s" || f.parent.opening.Parameters["rpo"] != "5s" {
				w.t.Errorf("recorded %v, the node has %v", v.Mutable, f.parent.opening.Parameters)
			}
		},
	},
	"Rewrap": {prepare: prepareEncrypted, run: rewrap, verify: rewrapped},
	"PublishAndUnpublish": {
		prepare: (*world).prepareChild,
		run: func(c *catalog.Catalog, w *world, f *fixture) error {
			if _, err := c.Publish(w.ctx, f.child.ID, "n2", catalog.Write); err != nil {
				return err
			}
			return c.Unpublish(w.ctx, f.child.ID, "n2")
		},
		verify: func(w *world, f *fixture) {
			if v := w.record(f.child.ID); v.Binding != nil || !v.Opening.Epoch.IsZero() {
				w.t.Errorf("volume %+v", v)
			}
		},
	},
	"ReadersComeAndGo": {
		prepare: (*world).prepareChild,
		run: func(c *catalog.Catalog, w *world, f *fixture) error {
			for _, node := range []string{"n2", "n3"} {
				if _, err := c.Publish(w.ctx, f.child.ID, node, catalog.ReadShared); err != nil {
					return err
				}
				o, err := c.Confirm(w.ctx, catalog.Confirmation{Volume: f.child.ID, Node: node, Endpoint: node, Journal: f.name, Reader: true})
				if err != nil {
					return err
				}
				w.holds(o.Head, ab)
			}
			return c.Unpublish(w.ctx, f.child.ID, "n2")
		},
		verify: func(w *world, f *fixture) {
			v := w.record(f.child.ID)
			if len(v.Readers) != 1 || v.Readers[0].Node != "n3" {
				w.t.Errorf("readers %+v", v.Readers)
			}
			w.check(w.Unpublish(w.ctx, f.child.ID, ""))
		},
	},
	"HandOver": {
		run: func(c *catalog.Catalog, w *world, f *fixture) error {
			return c.Reclaim(w.ctx, f.parent.volume, "n1", false)
		},
		verify: func(w *world, f *fixture) {
			v := w.record(f.parent.volume)
			if v.Binding != nil || v.Opening.Open || v.Opening.Lost {
				w.t.Errorf("volume %+v", v)
			}
			w.holds(v.Head, ab)
		},
	},
	"AnotherJournal": {
		run: func(c *catalog.Catalog, w *world, f *fixture) error {
			_, err := w.nodes.open(w.ctx, c, f.parent.volume, "n1", f.name)
			return err
		},
		verify: func(w *world, f *fixture) {
			v := w.record(f.parent.volume)
			if v.Opening.Epoch.Number != 2 || v.Opening.Journal != f.name {
				w.t.Errorf("epoch %+v", v.Opening)
			}
			w.holds(v.Head, ab)
			w.want(w.Published(w.ctx, f.parent.report()), catalog.ErrFenced)
		},
	},
	"Published": {
		run: func(c *catalog.Catalog, w *world, f *fixture) error { return c.Published(w.ctx, f.parent.report()) },
		verify: func(w *world, f *fixture) {
			w.holds(w.record(f.parent.volume).Head, ab)
		},
	},
	"Collect": {
		prepare: func(w *world, f *fixture) {
			w.prepareChild(f)
			for i := range 5 {
				w.check(f.parent.write(w.ctx, 2, fmt.Sprint(i)))
			}
			w.later()
		},
		run: func(c *catalog.Catalog, w *world, f *fixture) error {
			_, err := c.Collect(w.ctx, catalog.CollectOptions{})
			return err
		},
		verify: func(w *world, f *fixture) {
			w.holds(f.snapshot.Root, ab)
			w.holds(f.child.Head, ab)
			w.holds(f.parent.head, f.parent.content)
			w.lost(f.parent)
			w.collect() // what it died over
			w.lean()
		},
	},
}

func expand(c *catalog.Catalog, w *world, f *fixture) error {
	_, err := c.Expand(w.ctx, f.parent.volume, 128*mib, 0)
	return err
}

func modify(rpo string) func(*catalog.Catalog, *world, *fixture) error {
	return func(c *catalog.Catalog, w *world, f *fixture) error {
		_, err := c.Modify(w.ctx, f.parent.volume, map[string]string{"rpo": rpo})
		return err
	}
}

// publish publishes the child to a node, which then has it alone.
func publish(node string) func(*catalog.Catalog, *world, *fixture) error {
	return func(c *catalog.Catalog, w *world, f *fixture) error {
		_, err := c.Publish(w.ctx, f.child.ID, node, catalog.Write)
		if err != nil {
			return err
		}
		if v := w.record(f.child.ID); v.Binding == nil || v.Binding.Node != node {
			w.t.Errorf("published to %s, recorded %+v", node, v.Binding)
		}
		return nil
	}
}

// importImage imports an image with one chunk, or finds that it is complete.
func importImage(c *catalog.Catalog, w *world, f *fixture) error {
	begun, err := c.BeginImport(w.ctx, catalog.VolumeSpec{Name: "image " + f.name, Required: 64 * mib})
	if errors.Is(err, catalog.ErrConflict) {
		return nil
	}
	if err != nil {
		return err
	}
	if f.imported.Volume != "" && f.imported != begun {
		w.t.Errorf("the import continued as %+v, was %+v", begun, f.imported)
	}
	f.imported = begun
	_, err = c.CompleteImport(w.ctx, begun.Volume, nil)
	return err
}

func collect(c *catalog.Catalog, w *world, f *fixture) error {
	_, err := c.Collect(w.ctx, catalog.CollectOptions{})
	return err
}

func imported(w *world, f *fixture) { w.count(2, 0) }

var pairsOfUse = map[string]pair{
	"Expand/Expand":     {nil, expand, expand, nil},
	"Modify/Modify":     {nil, modify("5s"), modify("6s"), nil},
	"Rewrap/Rewrap":     {prepareEncrypted, rewrap, rewrap, rewrapped},
	"Rewrap/RewrapBack": {prepareEncrypted, rewrap, rewrapBack, presentOnly},
	"Rewrap/HalfBack":   {prepareEncrypted, rewrap, rewrapHalfBack, presentOnly},
	"Rewrap/Open":       {prepareEncrypted, rewrap, open, rewrapped},
	"Open/RewrapHalf":   {prepareEncrypted, open, rewrapHalf, nil},
	"Rewrap/Recover": {prepareEncrypted, rewrap, func(c *catalog.Catalog, w *world, f *fixture) error {
		_, err := c.Recover(w.ctx, catalog.RecoverOptions{Workers: 1})
		return err
	}, rewrapped},
	"Rewrap/Deleted": {prepareEncrypted, rewrap, func(c *catalog.Catalog, w *world, f *fixture) error {
		f.child.ID = ""
		err := c.DeleteVolume(w.ctx, f.encrypted)
		w.sweep()
		return err
	}, nil},
	"Publish/Publish": {(*world).prepareChild, publish("n2"), publish("n3"), nil},
	"Publish/Deleted": {(*world).prepareChild, publish("n2"), func(c *catalog.Catalog, w *world, f *fixture) error {
		err := c.DeleteVolume(w.ctx, f.child.ID)
		if err == nil {
			f.child.ID = ""
		}
		return err
	}, nil},
	"Import/Same":  {nil, importImage, importImage, imported},
	"Import/Sweep": {nil, importImage, sweepLater, imported},
	"Import/Collect": {nil, importImage, func(c *catalog.Catalog, w *world, f *fixture) error {
		w.later()
		return collect(c, w, f)
	}, imported},
	"AnotherJournal/Collect": {nil, func(c *catalog.Catalog, w *world, f *fixture) error {
		_, err := w.nodes.open(w.ctx, c, f.parent.volume, "n1", "another of "+f.name)
		return err
	}, collect, nil},
	"CreateFromVolume/Collect": {nil, createChild, collect, nil},
	"CreateSnapshot/Collect":   {nil, createSnapshot, collect, nil},
}
