package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// collect removes what is garbage, as the controller does.
func (w *world) collect() catalog.Collected {
	w.t.Helper()
	done, err := w.Collect(w.ctx, catalog.CollectOptions{})
	w.check(err)
	return done
}

// objects lists the chunks, packs, pages and roots of all containers.
func (w *world) objects() (all []chunks.Location) {
	w.t.Helper()
	for _, container := range w.containers() {
		rows, err := w.store.List(w.ctx, container, "", "", swift.MaxListing)
		w.check(err)
		for _, row := range rows {
			if _, err := chunks.ParseName(row.Name); err == nil {
				all = append(all, chunks.Location{Container: container, Name: row.Name})
			}
		}
	}
	return all
}

// lean checks that everything in Swift is needed by a volume or a snapshot that
// is visible, or is pinned by one.
func (w *world) lean() {
	w.t.Helper()
	needed := map[chunks.Location]bool{}
	reach := func(r *authority.Root) {
		if r == nil {
			return
		}
		ref := snapshots.Ref{Epoch: r.Epoch, Gen: r.Generation, Hash: snapshots.Hash(r.Hash)}
		loaded, err := snapshots.LoadRoot(w.ctx, w.store, r.Container, ref)
		w.check(err)
		w.check(snapshots.Reach(w.ctx, w.store, loaded, func(at snapshots.Location) error {
			needed[at] = true
			return nil
		}))
	}
	for row, err := range authority.All(w.ctx, w.authority.Volumes()) {
		w.check(err)
		if row.Value.State == authority.Ready {
			reach(row.Value.Head)
		}
	}
	for row, err := range authority.All(w.ctx, w.authority.Snapshots()) {
		w.check(err)
		if row.Value.State != authority.Deleted {
			reach(row.Value.Root)
		}
	}
	for row, err := range authority.All(w.ctx, w.authority.Pins()) {
		w.check(err)
		reach(&row.Value.Root)
	}
	for _, at := range w.objects() {
		if !needed[at] {
			w.t.Errorf("%s is not needed and stays", at)
		}
	}
}

// generations attaches a volume and overwrites one chunk n times.
func (w *world) generations(id ident.Volume, n int) *export {
	w.t.Helper()
	e := w.attach(id, "n1")
	for i := range n {
		w.check(e.write(w.ctx, 0, fmt.Sprint(i)))
	}
	return e
}

// TestCollect checks what a collection takes, and what it leaves: snapshots, what
// a clone elsewhere reaches, what is not a version, and a dry run everything.
func TestCollect(t *testing.T) {
	w := newWorld(t)
	v := w.volume("v")
	e := w.generations(v.ID, 3)
	s := w.snapshot("s", v.ID)
	w.check(e.write(w.ctx, 0, "cloned"))
	child := w.clone(from("child", v.ID))
	for i := range 5 {
		w.check(e.write(w.ctx, 0, fmt.Sprint("after ", i)))
	}
	w.later()

	var found []catalog.Garbage
	planned, err := w.Collect(w.ctx, catalog.CollectOptions{DryRun: true, Found: func(g catalog.Garbage) { found = append(found, g) }})
	w.check(err)
	before := w.objects()
	if planned.Objects != len(found) || planned.Objects == 0 {
		t.Fatalf("%+v, found %+v", planned, found)
	}
	for _, g := range found {
		if g.Container != v.Container || g.Size == 0 || g.Why == "" {
			t.Errorf("found %+v", g)
		}
	}
	if got, err := w.GetVolume(w.ctx, v.ID); err != nil || got.Head != nil {
		t.Errorf("the dry run recorded %+v, %v", got.Head, err)
	}

	if done := w.collect(); done != planned {
		t.Errorf("collected %+v, the dry run said %+v", done, planned)
	}
	if left := len(w.objects()); left != len(before)-planned.Objects+1 { // s/<child> was not counted before
		t.Errorf("%d objects before, %d after %+v", len(before), left, planned)
	}
	w.holds(e.head, map[uint64]string{0: "after 4"})
	w.holds(s.Root, map[uint64]string{0: "2"})
	w.holds(child.Head, map[uint64]string{0: "cloned"})
	w.lost(e) // the search still finds its way
	w.holds(w.record(v.ID).Head, map[uint64]string{0: "after 4"})

	w.check(w.DeleteSnapshot(w.ctx, s.ID))
	w.check(w.DeleteVolume(w.ctx, child.ID))
	w.later()
	w.sweep()
	w.collect()
	w.lean()
	if done := w.collect(); done.Objects != 0 {
		t.Errorf("collected again: %+v", done)
	}
	w.deleteAll()
	w.empty()
}

func (w *world) record(id ident.Volume) authority.Volume {
	w.t.Helper()
	v, err := w.GetVolume(w.ctx, id)
	w.check(err)
	return v
}

// lost abandons a volume whose node does not answer.
func (w *world) lost(e *export) {
	w.t.Helper()
	w.nodes.setDown(e.node, true)
	w.check(w.Abandon(w.ctx, e.volume))
	w.nodes.setDown(e.node, false)
}

// TestCollectLeavesWhatIsWritten: objects whose root is still to come are named
// by nobody; the writer, the next opening or an importer will.
func TestCollectLeavesWhatIsWritten(t *testing.T) {
	w := newWorld(t)
	v := w.volume("v")
	e := w.generations(v.ID, 3)
	im, err := w.BeginImport(w.ctx, catalog.VolumeSpec{Name: "import", Required: 64 * mib})
	w.check(err)
	coming := []chunks.Location{
		{Container: v.Container, Name: chunks.ChunkName(7, e.opening.Epoch, e.gen+1, e.opened)},
		{Container: v.Container, Name: chunks.PackName(e.opening.Epoch, e.gen+2, 0, e.opened)},
		{Container: im.Container, Name: chunks.ChunkName(7, im.Epoch, 1, ident.NewOpen())},
	}
	for _, at := range coming {
		_, err := w.store.Put(w.ctx, at.Container, at.Name, []byte("x"), swift.PutOptions{})
		w.check(err)
	}
	w.later()
	if done := w.collect(); done.Objects == 0 {
		t.Error("nothing was collected")
	}
	for _, at := range coming {
		_, err := w.store.Head(w.ctx, at.Container, at.Name, swift.HeadOptions{Newest: true})
		w.check(err)
	}
}

// TestCollectGrace: what was the newest within the grace can still be read whole,
// however old its objects are, and no young object goes.
func TestCollectGrace(t *testing.T) {
	w := newWorld(t)
	w.grace = 10 * time.Minute
	store := &agedStore{Store: w.store, aged: map[chunks.Location]bool{}}
	collect := func() {
		_, err := w.controller(w.authority, store).Collect(w.ctx, catalog.CollectOptions{})
		w.check(err)
	}
	v := w.volume("v")
	e := w.generations(v.ID, 2)
	for _, at := range w.objects() {
		store.aged[at] = true
	}
	superseded, all := e.head, len(w.objects())
	w.check(e.write(w.ctx, 0, "new"))
	young := chunks.ChunkName(0, e.opening.Epoch, 1, ident.NewOpen()) // uploaded in vain, a moment ago
	_, err := w.store.Put(w.ctx, v.Container, young, []byte("x"), swift.PutOptions{})
	w.check(err)
	collect()
	w.holds(superseded, map[uint64]string{0: "1"})
	_, err = w.store.Head(w.ctx, v.Container, young, swift.HeadOptions{Newest: true})
	w.check(err)
	if left := len(w.objects()); left >= all+3 {
		t.Errorf("the first generation was not collected: %d objects", left)
	}
	w.later()
	collect()
	w.lean()
}

// TestTombstoneKeepsForAGrace: what only a deleted snapshot needs stays for one
// grace after the deletion, for those who still read it (R8).
func TestTombstoneKeepsForAGrace(t *testing.T) {
	w := newWorld(t)
	w.grace = 10 * time.Minute
	w.Catalog = w.controller(w.authority, w.store)
	e := w.generations(w.volume("v").ID, 2)
	s := w.snapshot("s", e.volume)
	w.check(e.write(w.ctx, 0, "new"))
	w.later()
	w.check(e.write(w.ctx, 0, "newer"))
	w.check(w.DeleteSnapshot(w.ctx, s.ID))
	w.sweep() // the grace begins
	w.collect()
	w.holds(s.Root, map[uint64]string{0: "1"})
	w.later()
	w.collect()
	w.lean()
}

// agedStore lists some objects as an hour older than they are.
type agedStore struct {
	swift.Store
	aged map[chunks.Location]bool
}

func (s *agedStore) List(ctx context.Context, container, prefix, marker string, limit int) ([]swift.Info, error) {
	rows, err := s.Store.List(ctx, container, prefix, marker, limit)
	for i := range rows {
		if s.aged[chunks.Location{Container: container, Name: rows[i].Name}] {
			rows[i].Modified = rows[i].Modified.Add(-time.Hour)
		}
	}
	return rows, err
}

// TestSnapshotAfterCollect: a snapshot whose call died before the cut looks for
// it in a history of which the beginning was collected.
func TestSnapshotAfterCollect(t *testing.T) {
	w := newWorld(t)
	v := w.volume("v")
	e := w.generations(v.ID, 3)
	w.later()
	w.collect()
	const deaths = 4
	for n := range deaths {
		c, _ := w.dying(n, true)
		_, _ = c.CreateSnapshot(w.ctx, fmt.Sprint("s", n), v.ID)
	}
	w.check(e.write(w.ctx, 0, "last"))
	w.detach(e)
	for n := range deaths {
		s := w.snapshot(fmt.Sprint("s", n), v.ID)
		w.content(s.Root)
	}
}

// TestCollectFollowsAnAttachedVolume: of a volume that stays attached, what was
// superseded goes though its node has reported nothing for long.
func TestCollectFollowsAnAttachedVolume(t *testing.T) {
	w := newWorld(t)
	e := w.generations(w.volume("v").ID, 3)
	w.check(w.Published(w.ctx, e.report()))
	for i := range 5 {
		w.check(e.write(w.ctx, 0, fmt.Sprint("later ", i)))
	}
	w.later()
	w.collect() // which keeps the root that was recorded when it began
	w.collect()
	if head := w.record(e.volume).Head; *head != *e.head {
		t.Errorf("recorded %+v, published %+v", head, e.head)
	}
	w.lean()
}

// TestCollectReadsRootsAgain: a call that has read a root long ago records it
// while a collection is under way.
func TestCollectReadsRootsAgain(t *testing.T) {
	w := newWorld(t)
	v := w.volume("v")
	e := w.generations(v.ID, 2)
	old, text := *e.head, map[uint64]string{0: "1"}
	w.check(e.write(w.ctx, 0, "new"))
	w.later()
	store := &listHook{Store: w.store, hook: func() {
		s := authority.Snapshot{
			ID: ident.NewSnapshot(), Name: "late", Source: v.ID, Container: v.Container,
			Created: w.clock(), State: authority.Ready, Size: v.Size, Root: &old,
		}
		if _, err := w.authority.Snapshots().Create(w.ctx, string(s.ID), s); err != nil && !errors.Is(err, authority.ErrExists) {
			t.Error(err)
		}
	}}
	_, err := w.controller(w.authority, store).Collect(w.ctx, catalog.CollectOptions{})
	w.check(err)
	w.holds(&old, text)
}

// listHook calls a function after each listing of a whole container.
type listHook struct {
	swift.Store
	hook func()
}

func (s *listHook) List(ctx context.Context, container, prefix, marker string, limit int) ([]swift.Info, error) {
	rows, err := s.Store.List(ctx, container, prefix, marker, limit)
	if prefix == "" {
		s.hook()
	}
	return rows, err
}

// TestCollectLeavesAlone: another cluster's container, an authority that is an
// old copy, and a volume of which a cut is being taken lose nothing.
func TestCollectLeavesAlone(t *testing.T) {
	for name, c := range map[string]struct {
		before func(w *world, v authority.Volume)
		want   error
	}{
		"Foreign": {want: catalog.ErrForeign, before: func(w *world, v authority.Volume) {
			body := strings.NewReplacer(cluster, "cluster-b")
			o, err := w.store.Get(w.ctx, v.Container, chunks.DescriptorName(1), swift.GetOptions{})
			w.check(err)
			_, err = w.store.Put(w.ctx, v.Container, chunks.DescriptorName(1), []byte(body.Replace(string(o.Body))), swift.PutOptions{})
			w.check(err)
		}},
		"OldAuthority": {want: catalog.ErrRolledBack, before: func(w *world, v authority.Volume) {
			_, err := w.store.Put(w.ctx, v.Container, chunks.EpochName(2), []byte("x"), swift.PutOptions{})
			w.check(err)
		}},
		"CutUnderWay": {before: func(w *world, v authority.Volume) {
			s := authority.Snapshot{
				ID: ident.NewSnapshot(), Name: "s", Source: v.ID, Container: v.Container, State: authority.Creating, Created: w.clock(),
			}
			_, err := w.authority.Snapshots().Create(w.ctx, string(s.ID), s)
			w.check(err)
		}},
		"CloneUnderWay": {before: func(w *world, v authority.Volume) {
			child := ident.NewVolume()
			_, err := w.authority.Volumes().Create(w.ctx, string(child), authority.Volume{
				ID: child, Name: "child", Container: w.prefix + string(child), State: authority.Creating,
				Created: w.clock(), Origin: &authority.Origin{Volume: v.ID},
			})
			w.check(err)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			v := w.volume("v")
			w.generations(v.ID, 3)
			w.later()
			c.before(w, v)
			before := len(w.objects())
			_, err := w.Collect(w.ctx, catalog.CollectOptions{})
			w.want(err, c.want)
			if left := len(w.objects()); left != before {
				t.Errorf("%d objects of %d are left", left, before)
			}
		})
	}
}

// TestCollectKeepsALostEpoch: what the lost node may have written can be adopted
// for some time, as can what it stands on.
func TestCollectKeepsALostEpoch(t *testing.T) {
	w := newWorld(t)
	v := w.volume("v")
	w.lost(w.generations(v.ID, 3))
	w.check(w.generations(v.ID, 2).close(w.ctx, w.Catalog))
	if done := w.collect(); done.Objects != 0 {
		t.Errorf("collected %+v", done)
	}
	w.later() // LostKept is over, too
	if done := w.collect(); done.Objects == 0 {
		t.Error("nothing was collected")
	}
	w.lean()
}

// TestCollectUnknownSnapshot: what s/* names besides the authority's records is
// kept; what a tombstone is of is not, though its object has come back.
func TestCollectUnknownSnapshot(t *testing.T) {
	w := newWorld(t)
	v := w.volume("v")
	e := w.generations(v.ID, 2)
	unknown := *e.head
	put := func(r authority.Root, id ident.Snapshot) {
		w.check(snapshots.PutRecord(w.ctx, w.store, v.Container, snapshots.Record{
			ID: id, Source: v.ID, Container: r.Container, Size: v.Size,
			Root: snapshots.Ref{Epoch: r.Epoch, Gen: r.Generation, Hash: snapshots.Hash(r.Hash)},
		}))
	}
	put(unknown, ident.NewSnapshot())
	w.check(e.write(w.ctx, 0, "dead"))
	s := w.snapshot("s", v.ID)
	w.check(w.DeleteSnapshot(w.ctx, s.ID))
	w.check(e.write(w.ctx, 0, "new"))
	w.later()
	w.collect()
	w.holds(&unknown, map[uint64]string{0: "1"})
	_, err := w.store.Head(w.ctx, v.Container, chunks.RootName(s.Root.Epoch, s.Root.Generation), swift.HeadOptions{Newest: true})
	w.want(err, swift.ErrNotFound)
}
