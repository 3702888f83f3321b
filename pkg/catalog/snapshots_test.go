package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

func TestSnapshotIsFoundByItsName(t *testing.T) {
	w := newWorld(t)
	v, other := w.volume("pvc"), w.volume("other")
	s := w.snapshot("snap", v.ID)
	if again := w.snapshot("snap", v.ID); again.ID != s.ID {
		t.Errorf("the same name made snapshots %s and %s", s.ID, again.ID)
	}
	_, err := w.CreateSnapshot(w.ctx, "snap", other.ID)
	w.want(err, catalog.ErrConflict)
	_, err = w.CreateSnapshot(w.ctx, "none", ident.NewVolume())
	w.want(err, catalog.ErrNotFound)
	_, err = w.CreateSnapshot(w.ctx, "", v.ID)
	w.want(err, catalog.ErrInvalid)
	w.check(w.DeleteSnapshot(w.ctx, s.ID))
	w.check(w.DeleteSnapshot(w.ctx, s.ID))
	_, err = w.GetSnapshot(w.ctx, s.ID)
	w.want(err, catalog.ErrNotFound)
	if next := w.snapshot("snap", other.ID); next.ID == s.ID {
		t.Error("an id was used again")
	}
	w.check(w.DeleteSnapshot(w.ctx, s.ID)) // a late retry
	w.snapshot("snap", other.ID)
}

func TestSnapshotIsAPointInTime(t *testing.T) {
	w := newWorld(t)
	id := w.volume("pvc").ID
	blank := w.snapshot("blank", id)
	e := w.attach(id, "n1")
	w.check(e.write(w.ctx, 0, "a"))
	attached := w.snapshot("attached", id)
	w.check(e.write(w.ctx, 0, "b"))
	w.detach(e)
	detached := w.snapshot("detached", id)
	e = w.attach(id, "n1")
	w.check(e.write(w.ctx, 0, "c"))
	w.detach(e)
	for _, c := range []struct {
		s    authority.Snapshot
		want map[uint64]string
	}{{blank, nil}, {attached, map[uint64]string{0: "a"}}, {detached, map[uint64]string{0: "b"}}} {
		w.holds(c.s.Root, c.want)
		v := w.clone(from("from "+c.s.Name, c.s.ID))
		w.holds(v.Head, c.want)
		record, err := snapshots.GetRecord(w.ctx, w.store, c.s.Container, c.s.ID)
		w.check(err)
		if record.Source != id || record.Size != c.s.Size || c.s.Root != nil && record.Root.Hash != snapshots.Hash(c.s.Root.Hash) {
			t.Errorf("s/<id> = %+v, want what %+v says", record, c.s)
		}
	}
}

// TestRepetitionFindsItsCut: the node had sealed, the controller died, the epoch
// ended, and the call is repeated when the volume is attached again. There is one
// cut for a snapshot, and for a clone, also if the volume was attached only after
// the call had first arrived.
func TestRepetitionFindsItsCut(t *testing.T) {
	for what, cut := range cuts {
		for _, early := range []bool{false, true} {
			for _, lost := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/early=%t/lost=%t", what, early, lost), func(t *testing.T) {
					w := newWorld(t)
					id := w.volume("pvc").ID
					if early {
						dying, crash := w.dying(2, false) // after record and claim
						if _, err := cut(dying, w.ctx, id); err == nil || !crash.Happened() {
							t.Fatalf("the first call: %v", err)
						}
					}
					e := w.attach(id, "n1")
					w.check(e.write(w.ctx, 0, "cut"))
					w.nodes.sealed = func() { w.nodes.setDown("n1", true) } // the answer does not arrive
					if _, err := cut(w.Catalog, w.ctx, id); err == nil || len(e.cuts) != 1 {
						t.Fatalf("the call whose node seals: %v, %d cuts", err, len(e.cuts))
					}
					w.nodes.sealed = nil
					w.check(e.write(w.ctx, 0, "later"))
					if !lost {
						w.nodes.setDown("n1", false)
					}
					w.check(w.Abandon(w.ctx, id))
					w.nodes.setDown("n1", false)
					w.check(w.attach(id, "n2").write(w.ctx, 0, "much later"))
					start, err := cut(w.Catalog, w.ctx, id)
					w.check(err)
					w.holds(start, map[uint64]string{0: "cut"})
				})
			}
		}
	}
}

// TestTwoCallsCutOnce: one call finds the volume detached and takes its head; before
// it has put the snapshot's object, another one, that of another controller, finds it
// attached and has its node seal. There is one cut, that of the object.
func TestTwoCallsCutOnce(t *testing.T) {
	w := newWorld(t)
	id := w.volume("pvc").ID
	e := w.attach(id, "n1")
	w.check(e.write(w.ctx, 0, "early"))
	w.detach(e)
	store := &hooked{Store: w.store, prefix: chunks.SnapshotPrefix}
	store.hook = func() error {
		w.check(w.attach(id, "n1").write(w.ctx, 0, "late"))
		_, err := w.nodes.Seal(w.ctx, "n1", id, ident.Snapshot(strings.TrimPrefix(store.name, chunks.SnapshotPrefix)))
		return err
	}
	first := w.controller(w.authority, store)
	for i, c := range []*catalog.Catalog{first, w.Catalog, first} {
		s, err := c.CreateSnapshot(w.ctx, "snap", id)
		w.check(err)
		w.holds(s.Root, map[uint64]string{0: "late"})
		record, err := snapshots.GetRecord(w.ctx, w.store, s.Container, s.ID)
		w.check(err)
		if s.State != authority.Ready || record.Root.Hash != snapshots.Hash(s.Root.Hash) {
			t.Errorf("call %d: %+v, but the object says %+v", i, s, record)
		}
	}
}

// TestRefusedCut is the other order: the call that found the volume detached has put
// the snapshot's object when the node of another call wants to, and is refused.
func TestRefusedCut(t *testing.T) {
	w := newWorld(t)
	id := w.volume("pvc").ID
	e := w.attach(id, "n1")
	w.check(e.write(w.ctx, 0, "early"))
	w.detach(e)
	asked, decided, done := make(chan bool), make(chan bool), make(chan error)
	var second authority.Snapshot
	w.nodes.sealing = func() { close(asked); <-decided }
	first := w.controller(w.authority, &looking{w.store, func() {
		w.check(w.attach(id, "n1").write(w.ctx, 0, "late"))
		go func() {
			var err error
			second, err = w.CreateSnapshot(w.ctx, "snap", id)
			done <- err
		}()
		<-asked
	}})
	s, err := first.CreateSnapshot(w.ctx, "snap", id)
	w.check(err)
	w.holds(s.Root, map[uint64]string{0: "early"})
	close(decided)
	w.check(<-done)
	w.holds(second.Root, map[uint64]string{0: "early"})
}

// looking is a store in which something happens before the first GET of a root.
type looking struct {
	swift.Store
	hook func()
}

func (l *looking) Get(ctx context.Context, container, name string, o swift.GetOptions) (swift.Object, error) {
	if hook := l.hook; hook != nil && strings.HasPrefix(name, chunks.RootPrefix) {
		l.hook = nil
		hook()
	}
	return l.Store.Get(ctx, container, name, o)
}

// TestCutThatDiedWithItsNode: the node is lost before it published the cut.
func TestCutThatDiedWithItsNode(t *testing.T) {
	w := newWorld(t)
	e := w.attach(w.volume("pvc").ID, "n1")
	w.nodes.setDown("n1", true)
	_, err := w.CreateSnapshot(w.ctx, "snap", e.volume)
	w.want(err, catalog.ErrUnreachable)
	w.check(w.Abandon(w.ctx, e.volume))
	for range 2 {
		_, err = w.CreateSnapshot(w.ctx, "snap", e.volume)
		w.want(err, catalog.ErrLost)
	}
	list, _, err := w.authority.Snapshots().List(w.ctx, "", 10)
	w.check(err)
	id := list[0].Value.ID
	_, err = w.GetSnapshot(w.ctx, id)
	w.want(err, catalog.ErrLost)
	w.check(w.DeleteSnapshot(w.ctx, id))
	w.snapshot("snap", e.volume)
}

// TestCutOfAZombie: the node is taken for lost while it is asked to seal; it
// publishes the cut after the newest root was searched.
func TestCutOfAZombie(t *testing.T) {
	w := newWorld(t)
	e := w.attach(w.volume("pvc").ID, "n1")
	w.check(e.write(w.ctx, 0, "adopted"))
	w.nodes.sealing = func() {
		w.nodes.setDown("n1", true)
		w.check(w.Abandon(w.ctx, e.volume))
		w.check(e.write(w.ctx, 0, "never adopted"))
	}
	_, err := w.CreateSnapshot(w.ctx, "snap", e.volume)
	w.want(err, catalog.ErrLost)
	w.nodes.setDown("n1", false)
	w.nodes.sealing = nil
	w.holds(w.snapshot("another", e.volume).Root, map[uint64]string{0: "adopted"})
}

// TestConcededCutOfAZombie: the object of the snapshot names a cut of a node that had lost
// the volume. Who finds it there must not take it over: no root that anybody adopted
// has it in its history (R7).
func TestConcededCutOfAZombie(t *testing.T) {
	w := newWorld(t)
	e := w.attach(w.volume("pvc").ID, "n1")
	w.check(e.write(w.ctx, 0, "adopted"))
	w.nodes.setDown("n1", true)
	w.check(w.Abandon(w.ctx, e.volume))
	store := &hooked{Store: w.store, prefix: chunks.SnapshotPrefix}
	store.hook = func() error { // the zombie is first with the object
		id := ident.Snapshot(strings.TrimPrefix(store.name, chunks.SnapshotPrefix))
		w.nodes.setDown("n1", false)
		w.check(e.write(w.ctx, 0, "never adopted"))
		_, err := w.nodes.Seal(w.ctx, "n1", e.volume, id)
		return err
	}
	c := w.controller(w.authority, store)
	for range 2 {
		_, err := c.CreateSnapshot(w.ctx, "snap", e.volume)
		w.want(err, catalog.ErrLost)
	}
	list, _, err := w.authority.Snapshots().List(w.ctx, "", 10)
	w.check(err)
	if s := list[0].Value; s.State == authority.Ready {
		t.Errorf("%+v", s)
	}
}

func TestClonesKeepWhatTheyNeed(t *testing.T) {
	w := newWorld(t)
	grandparent := w.attach(w.volume("grandparent").ID, "n1")
	w.check(grandparent.write(w.ctx, 0, "grandparent's"))
	w.check(grandparent.write(w.ctx, 1, "grandparent's"))
	// Of an attached volume: its node seals.
	parent := w.attach(w.clone(from("parent", grandparent.volume)).ID, "n1")
	w.check(parent.write(w.ctx, 1, "parent's"))
	w.check(parent.write(w.ctx, 2, "parent's"))
	s := w.snapshot("snap", parent.volume)
	child := w.clone(from("child", s.ID))
	want := map[uint64]string{0: "grandparent's", 1: "parent's", 2: "parent's"}
	if pins := child.Origin.Pinned; len(pins) != 2 {
		t.Errorf("the child pins %v, want parent and grandparent", pins)
	}
	for _, container := range []string{parent.opening.Container, grandparent.opening.Container} {
		if _, err := snapshots.GetPin(w.ctx, w.store, container, child.ID); err != nil {
			t.Errorf("ref/<child> in %s: %v", container, err)
		}
	}
	w.check(grandparent.write(w.ctx, 0, "new"))
	w.detach(grandparent)
	w.detach(parent)
	w.check(w.DeleteVolume(w.ctx, grandparent.volume))
	w.check(w.DeleteVolume(w.ctx, parent.volume))
	w.check(w.DeleteSnapshot(w.ctx, s.ID))
	w.sweep()
	w.holds(child.Head, want)

	e := w.attach(child.ID, "n2")
	w.check(e.write(w.ctx, 0, "child's"))
	w.detach(e)
	w.sweep()
	v, err := w.GetVolume(w.ctx, child.ID)
	w.check(err)
	want[0] = "child's"
	w.holds(v.Head, want)
	w.check(w.DeleteVolume(w.ctx, child.ID))
	w.empty()
}

// TestPinOfNobody: a controller stalled while its volume was deleted and erased,
// woke up, pinned and died.
func TestPinOfNobody(t *testing.T) {
	w := newWorld(t)
	v, child := w.volume("pvc"), ident.NewVolume()
	_, err := w.authority.Pins().Create(w.ctx, authority.PinKey(v.ID, child), authority.Pin{Owner: v.ID, Child: child})
	w.check(err)
	w.check(w.DeleteVolume(w.ctx, v.ID))
	w.empty()
}

func TestSnapshotOutlivesItsVolume(t *testing.T) {
	w := newWorld(t)
	e := w.attach(w.volume("pvc").ID, "n1")
	w.check(e.write(w.ctx, 0, "a"))
	w.detach(e)
	// The snapshot of a clone that was never written is a root of its parent.
	unwritten := w.clone(from("unwritten", e.volume))
	s := w.snapshot("snap", unwritten.ID)
	w.check(w.DeleteVolume(w.ctx, unwritten.ID))
	w.check(w.DeleteVolume(w.ctx, e.volume))
	w.sweep()
	w.holds(s.Root, map[uint64]string{0: "a"})
	restored := w.clone(from("restored", s.ID))
	w.check(w.DeleteSnapshot(w.ctx, s.ID))
	w.sweep()
	w.holds(restored.Head, map[uint64]string{0: "a"})
	_, err := w.CreateVolume(w.ctx, from("too late", s.ID))
	w.want(err, catalog.ErrNotFound)
	w.check(w.DeleteVolume(w.ctx, restored.ID))
	w.empty()
}

// hooked is a store in which something happens just before the first PUT of an
// object whose name begins with prefix, or of a container if that is "".
type hooked struct {
	swift.Store
	prefix string
	hook   func() error
	name   string // of that object
}

func (h *hooked) Put(ctx context.Context, container, name string, body []byte, o swift.PutOptions) (string, error) {
	if strings.HasPrefix(name, h.prefix) {
		h.name = name
		if err := h.once(); err != nil {
			return "", err
		}
	}
	return h.Store.Put(ctx, container, name, body, o)
}

func (h *hooked) CreateContainer(ctx context.Context, container string) error {
	if h.prefix == "" {
		if err := h.once(); err != nil {
			return err
		}
	}
	return h.Store.CreateContainer(ctx, container)
}

func (h *hooked) once() error {
	hook := h.hook
	h.hook = nil
	if hook == nil {
		return nil
	}
	return hook()
}

func TestOriginDeletedWhileItIsPinned(t *testing.T) {
	w := newWorld(t)
	e := w.attach(w.volume("pvc").ID, "n1")
	w.check(e.write(w.ctx, 0, "a"))
	w.detach(e)
	s := w.snapshot("snap", e.volume)
	other := w.controller(w.authority, &hooked{Store: w.store, prefix: chunks.PinPrefix, hook: func() error {
		_, err := w.Sweep(w.ctx)
		return errors.Join(w.DeleteSnapshot(w.ctx, s.ID), w.DeleteVolume(w.ctx, e.volume), err)
	}})
	_, err := other.CreateVolume(w.ctx, from("child", s.ID))
	w.want(err, catalog.ErrNotFound)
	_, err = other.CreateVolume(w.ctx, from("child", s.ID))
	w.want(err, catalog.ErrNotFound)
	w.empty()
}

func TestOriginGrowsWhileItIsCloned(t *testing.T) {
	w := newWorld(t)
	parent := w.volume("pvc")
	other := w.controller(w.authority, &hooked{Store: w.store, prefix: "", hook: func() error {
		_, err := w.Expand(w.ctx, parent.ID, 128*mib, 0)
		w.detach(w.attach(parent.ID, "n1"))
		return err
	}})
	_, err := other.CreateVolume(w.ctx, from("child", parent.ID))
	w.want(err, catalog.ErrOutOfRange)
	if child := w.clone(from("child", parent.ID)); child.Size != 128*mib {
		t.Errorf("the child has %d bytes, its origin %d", child.Size, 128*mib)
	}
	w.deleteAll()
	w.empty()
}

func TestVolumeDeletedWhileASnapshotIsMade(t *testing.T) {
	w := newWorld(t)
	v := w.volume("pvc")
	other := w.controller(w.authority, &hooked{Store: w.store, prefix: chunks.SnapshotPrefix, hook: func() error { return w.DeleteVolume(w.ctx, v.ID) }})
	s, err := other.CreateSnapshot(w.ctx, "snap", v.ID) // its record came first: it is kept
	w.check(err)
	w.sweep()
	w.clone(from("restored", s.ID))
	_, err = other.CreateSnapshot(w.ctx, "late", v.ID)
	w.want(err, catalog.ErrNotFound)
}
