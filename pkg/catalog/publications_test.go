package catalog_test

import (
	"maps"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// read publishes a volume to a node that reads it and returns what that opens.
func (w *world) read(id ident.Volume, node string) catalog.Opening {
	w.t.Helper()
	_, err := w.Publish(w.ctx, id, node, catalog.ReadShared)
	w.check(err)
	o, err := w.Confirm(w.ctx, catalog.Confirmation{Volume: id, Node: node, Endpoint: node, Journal: "scratch", Reader: true})
	w.check(err)
	return o
}

// A volume has one writer, or any number of readers of one and the same root.
func TestReadersExcludeTheWriter(t *testing.T) {
	w := newWorld(t)
	v := w.volume("pvc")
	e := w.attach(v.ID, "n1")
	w.check(e.write(w.ctx, 0, "base"))
	_, err := w.Publish(w.ctx, v.ID, "n2", catalog.ReadShared)
	w.want(err, catalog.ErrInUse)
	w.detach(e)

	for _, node := range []string{"n1", "n2", "n1"} {
		if o := w.read(v.ID, node); !o.Epoch.IsZero() || *o.Head != *e.head {
			t.Fatalf("node %s opens epoch %v of root %v; want none, of %v", node, o.Epoch, o.Head, e.head)
		}
	}
	_, err = w.Publish(w.ctx, v.ID, "n3", catalog.Write)
	w.want(err, catalog.ErrInUse)
	_, err = w.Publish(w.ctx, v.ID, "n3", catalog.ReadAlone)
	w.want(err, catalog.ErrInUse)
	_, err = w.Publish(w.ctx, v.ID, "n1", catalog.Write)
	w.want(err, catalog.ErrConflict)
	_, err = w.confirm(v.ID, "n1", "j") // a reader asks for an epoch
	w.want(err, catalog.ErrInUse)
	w.want(w.DeleteVolume(w.ctx, v.ID), catalog.ErrInUse)

	w.check(w.Unpublish(w.ctx, v.ID, "n1"))
	w.check(w.Unpublish(w.ctx, v.ID, "n1"))
	_, err = w.Publish(w.ctx, v.ID, "n3", catalog.Write)
	w.want(err, catalog.ErrInUse)
	w.check(w.Unpublish(w.ctx, v.ID, "n2"))
	e = w.attach(v.ID, "n3")
	_, err = w.Confirm(w.ctx, catalog.Confirmation{Volume: v.ID, Node: "n3", Journal: "scratch", Reader: true})
	w.want(err, catalog.ErrInUse)
	w.detach(e)
	w.check(w.DeleteVolume(w.ctx, v.ID))
	w.empty()
}

func TestAReaderThatIsAlone(t *testing.T) {
	w := newWorld(t)
	v := w.volume("pvc")
	for range 2 {
		_, err := w.Publish(w.ctx, v.ID, "n1", catalog.ReadAlone)
		w.check(err)
	}
	_, err := w.Publish(w.ctx, v.ID, "n2", catalog.ReadShared)
	w.want(err, catalog.ErrInUse)
	_, err = w.Publish(w.ctx, v.ID, "n1", catalog.ReadShared)
	w.want(err, catalog.ErrConflict)
}

// R8: what a reader has is kept for it, whatever is the head by then.
func TestCollectionKeepsWhatReadersHave(t *testing.T) {
	w := newWorld(t)
	v := w.volume("pvc")
	e := w.attach(v.ID, "n1")
	w.check(e.write(w.ctx, 0, "old"))
	old := *e.head
	_, version, err := w.authority.Volumes().Get(w.ctx, string(v.ID))
	w.check(err)
	now, err := w.GetVolume(w.ctx, v.ID)
	w.check(err)
	now.Readers = []authority.Reader{{Node: "n2", Root: &old}}
	_, err = w.authority.Volumes().Update(w.ctx, string(v.ID), now, version)
	w.check(err)
	w.check(e.write(w.ctx, 0, "new"))
	w.later()
	w.collect()
	w.holds(&old, map[uint64]string{0: "old"})
}

// A clone's readers have the snapshot's root, in its source's container.
func TestReadersOfARestoredSnapshot(t *testing.T) {
	w := newWorld(t)
	v := w.volume("pvc")
	e := w.attach(v.ID, "n1")
	w.check(e.write(w.ctx, 0, "base"))
	s := w.snapshot("s", v.ID)
	w.check(e.write(w.ctx, 0, "later"))
	restored := w.clone(from("restored", s.ID))
	for _, node := range []string{"n1", "n2", "n3"} {
		o := w.read(restored.ID, node)
		w.holds(o.Head, map[uint64]string{0: "base"})
	}
}

func TestModify(t *testing.T) {
	w := newWorld(t)
	v, err := w.CreateVolume(w.ctx, catalog.VolumeSpec{
		Name: "pvc", Required: 64 * mib,
		Parameters: map[string]string{"rpo": "60s", "fsType": "xfs"}, Mutable: map[string]string{"rpo": "30s"},
	})
	w.check(err)
	if have, want := catalog.Parameters(v), map[string]string{"rpo": "30s", "fsType": "xfs"}; !maps.Equal(have, want) {
		t.Errorf("a new volume has parameters %v, want %v", have, want)
	}
	want := map[string]string{"rpo": "5s", "fsType": "xfs", "iops": "100"}
	e := w.attach(v.ID, "n1")
	for _, change := range []map[string]string{{"rpo": "5s"}, {"iops": "100"}, {"rpo": "5s", "iops": "100"}, nil} {
		_, err := w.Modify(w.ctx, v.ID, change)
		w.check(err)
	}
	if !maps.Equal(e.opening.Parameters, want) {
		t.Errorf("the node has parameters %v, want %v", e.opening.Parameters, want)
	}
	w.nodes.setDown("n1", true)
	_, err = w.Modify(w.ctx, v.ID, map[string]string{"iops": "none"})
	w.want(err, catalog.ErrUnreachable) // to be repeated
	w.nodes.setDown("n1", false)
	_, err = w.Modify(w.ctx, v.ID, map[string]string{"iops": "none"})
	w.check(err)
	if e.opening.Parameters["iops"] != "none" {
		t.Error("a repeated call does not reach the node")
	}
	w.detach(e)
	if o := w.read(v.ID, "n2"); !maps.Equal(o.Parameters, e.opening.Parameters) {
		t.Errorf("another node opens it with %v, want %v", o.Parameters, e.opening.Parameters)
	}
	_, err = w.Modify(w.ctx, ident.NewVolume(), want)
	w.want(err, catalog.ErrNotFound)
}
