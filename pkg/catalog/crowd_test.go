package catalog_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// TestCrowd lets several controllers, each with a handle of its own on one file
// authority, work on the same few names at once. Every clone that was answered
// with success holds what its source did, and in the end nothing is left over.
func TestCrowd(t *testing.T) {
	const controllers, calls = 4, 25
	w := newWorld(t)
	dir := t.TempDir()
	open := func() *catalog.Catalog {
		a, err := authority.OpenFile(dir)
		w.check(err)
		w.authority = a
		return w.controller(a, w.store)
	}
	w.Catalog = open()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var crowd sync.WaitGroup
	for i := range controllers {
		c, random := open(), rand.New(rand.NewPCG(seed, uint64(i)))
		crowd.Go(func() {
			for range calls {
				if err := w.mingle(c, random); err != nil && !isRefused(err) {
					t.Errorf("%v", err)
				}
			}
		})
	}
	crowd.Wait()
	volumes, _, err := w.ListVolumes(w.ctx, "", 1000)
	w.check(err)
	for _, v := range volumes {
		w.content(v.Head)
		again, err := w.CreateVolume(w.ctx, catalog.VolumeSpec{Name: v.Name, Source: v.Origin})
		w.check(err)
		if again.ID != v.ID {
			t.Errorf("volumes %s and %s have the name %s", v.ID, again.ID, v.Name)
		}
	}
	w.deleteAll()
	w.empty()
}

// mingle makes one call on names that everybody uses.
func (w *world) mingle(c *catalog.Catalog, random *rand.Rand) error {
	name := fmt.Sprintf("base-%d", random.IntN(2))
	base, err := c.CreateVolume(w.ctx, catalog.VolumeSpec{Name: name})
	if err != nil {
		return err
	}
	switch random.IntN(6) {
	case 0:
		node := fmt.Sprintf("n%d", random.IntN(2))
		if _, err := c.Publish(w.ctx, base.ID, node, catalog.Write); err != nil {
			return err
		}
		e, err := w.nodes.open(w.ctx, c, base.ID, node, string(ident.NewVolume()))
		if err == nil {
			err = e.write(w.ctx, uint64(random.IntN(3)), name)
		}
		if err == nil {
			err = e.close(w.ctx, c)
		}
		if err != nil {
			return err
		}
		return c.Unpublish(w.ctx, base.ID, node)
	case 1:
		_, err := c.CreateVolume(w.ctx, from("clone of "+string(base.ID), base.ID))
		return err
	case 2:
		s, err := c.CreateSnapshot(w.ctx, "snapshot of "+string(base.ID), base.ID)
		if err != nil {
			return err
		}
		_, err = c.CreateVolume(w.ctx, from("from "+string(s.ID), s.ID))
		return err
	case 3:
		return c.DeleteVolume(w.ctx, base.ID)
	case 4:
		list, _, err := c.ListSnapshots(w.ctx, base.ID, "", 1)
		if err == nil && len(list) > 0 {
			err = c.DeleteSnapshot(w.ctx, list[0].ID)
		}
		return err
	}
	_, err = c.Sweep(w.ctx)
	return err
}
