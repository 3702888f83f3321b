package catalog_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/authority/authoritytest"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/swifttest"
)

// loseAuthority replaces the authority by an empty one.
func (w *world) loseAuthority() { w.replaceAuthority(&authoritytest.Memory{}) }

func (w *world) replaceAuthority(a *authoritytest.Memory) {
	w.authority = a
	w.Catalog = w.controller(a, w.store)
}

// recover recovers what there is; nothing may be broken.
func (w *world) recover() []catalog.Finding {
	w.t.Helper()
	found, err := w.Recover(w.ctx, catalog.RecoverOptions{Workers: 1})
	w.check(err)
	return found
}

// outcomes counts findings of volumes by outcome.
func outcomes(found []catalog.Finding) map[catalog.Outcome]int {
	count := map[catalog.Outcome]int{}
	for _, f := range found {
		if f.Snapshot == "" {
			count[f.Outcome]++
		}
	}
	return count
}

// TestRecoverALostAuthority: from Swift alone come back names, sizes, parameters,
// heads, snapshots and what clones need; the node that had a volume open is fenced,
// and what it does later does not reach the volume.
func TestRecoverALostAuthority(t *testing.T) { recoverLost(newWorld(t)) }

func recoverLost(w *world) {
	t := w.t
	spec := catalog.VolumeSpec{Name: "pvc <é>", Required: 64 * mib, Parameters: map[string]string{"rpo": "10s"}}
	v, err := w.CreateVolume(w.ctx, spec)
	w.check(err)
	e := w.attach(v.ID, "n1")
	w.check(e.write(w.ctx, 0, "snapshot"))
	s := w.snapshot("snap", v.ID)
	clone := w.clone(from("clone", v.ID))
	grown := w.attach(clone.ID, "n2")
	w.check(grown.write(w.ctx, 1, "clone"))
	w.detach(grown)
	grandchild := w.clone(from("grandchild", clone.ID)) // never opened
	blank := w.volume("blank")
	w.check(e.write(w.ctx, 0, "newest"))

	w.loseAuthority()
	dry, err := w.Recover(w.ctx, catalog.RecoverOptions{DryRun: true})
	w.check(err)
	rows(w, w.authority.Volumes(), 0)
	rows(w, w.authority.Claims(), 0)
	found := w.recover()
	if n := outcomes(found)[catalog.Recovered]; n != 4 || outcomes(dry)[catalog.Recovered] != 4 {
		t.Errorf("recovered %d volumes of 4: %+v; the dry run said %+v", n, found, dry)
	}
	w.check(e.write(w.ctx, 0, "a zombie's")) // it did not look for the fence
	_, err = w.store.Head(w.ctx, v.Container, chunks.FenceName(1), swift.HeadOptions{Newest: true})
	w.check(err)
	w.want(w.Published(w.ctx, e.report()), catalog.ErrFenced)
	w.want(w.Closed(w.ctx, e.report()), catalog.ErrFenced)

	again, err := w.CreateVolume(w.ctx, spec)
	w.check(err)
	if again.ID != v.ID || again.Size != v.Size || !again.Created.Equal(v.Created) || again.Opening.Epoch.Number != 1+1024 {
		t.Errorf("recovered as %+v, was %+v", again, v)
	}
	if r := again.Recovered; r == nil || r.Newest.IsZero() || !again.Opening.Lost {
		t.Errorf("the volume does not say what it lost: %+v", again)
	}
	w.holds(again.Head, map[uint64]string{0: "newest"})
	w.holds(w.snapshot("snap", v.ID).Root, map[uint64]string{0: "snapshot"})
	want := map[uint64]string{0: "snapshot", 1: "clone"}
	for _, c := range []authority.Volume{clone, grandchild} {
		got, err := w.GetVolume(w.ctx, c.ID)
		w.check(err)
		w.holds(got.Head, want)
		if got.Recovered != nil {
			t.Errorf("%s was closed, and is told to have lost something: %+v", c.Name, got.Recovered)
		}
	}
	// What the clones need stays when the rest goes, and goes with them.
	w.check(w.DeleteSnapshot(w.ctx, s.ID))
	w.check(w.DeleteVolume(w.ctx, v.ID))
	w.check(w.DeleteVolume(w.ctx, clone.ID))
	w.sweep()
	w.collect()
	w.holds(w.clone(from("of a grandchild", grandchild.ID)).Head, want)
	e = w.attach(blank.ID, "n3")
	w.check(e.write(w.ctx, 0, "x"))
	w.deleteAll()
	w.empty()
}

// TestRecoverTwice changes nothing the second time, nor where nothing was lost.
func TestRecoverTwice(t *testing.T) {
	w := newWorld(t)
	e := w.attach(w.volume("open").ID, "n1")
	w.check(e.write(w.ctx, 0, "a"))
	w.snapshot("snap", e.volume)
	w.clone(from("clone", e.volume))
	w.volume("blank")
	w.check(w.Published(w.ctx, e.report()))
	for _, lost := range []bool{false, true} {
		if lost {
			w.loseAuthority()
			w.recover()
		}
		before, objects := w.records(), len(w.objects())
		if found := outcomes(w.recover()); found[catalog.Known] != 3 || len(found) != 1 {
			t.Errorf("found %v", found)
		}
		if after := w.records(); !slices.Equal(after, before) || len(w.objects()) != objects {
			t.Errorf("records %v, were %v; %d objects, were %d", after, before, len(w.objects()), objects)
		}
	}
	w.deleteAll()
	w.empty()
}

// records lists the versions of all records.
func (w *world) records() []string {
	w.t.Helper()
	return slices.Concat(versions(w, w.authority.Volumes()), versions(w, w.authority.Snapshots()),
		versions(w, w.authority.Claims()), versions(w, w.authority.Pins()))
}

func versions[T any](w *world, table authority.Table[T]) (list []string) {
	w.t.Helper()
	for row, err := range authority.All(w.ctx, table) {
		w.check(err)
		list = append(list, row.Key+" "+string(row.Version))
	}
	return list
}

// TestOldAuthority puts an old copy of the authority back: until the recovery no
// epoch is given out, and nothing that the copy does not know is erased.
func TestOldAuthority(t *testing.T) {
	w := newWorld(t)
	w.volume("stays as it is")
	e := w.attach(w.volume("moved").ID, "n1")
	w.check(e.write(w.ctx, 0, "old"))
	dead := w.snapshot("deleted later", e.volume)
	erased := w.volume("erased later")
	source := w.volume("source")
	copied := w.authority.(*authoritytest.Memory).Copy()

	w.detach(e)
	e = w.attach(e.volume, "n2")
	w.check(e.write(w.ctx, 0, "new"))
	w.detach(e)
	w.check(w.DeleteSnapshot(w.ctx, dead.ID))
	w.check(w.DeleteVolume(w.ctx, erased.ID))
	w.sweep()
	w.collect()
	writer := w.attach(source.ID, "n1")
	w.check(writer.write(w.ctx, 0, "source"))
	later := w.snapshot("later", source.ID)
	clone := w.clone(from("clone", source.ID))
	w.detach(writer)

	w.replaceAuthority(copied)
	_, err := w.nodes.open(w.ctx, w.Catalog, e.volume, "n1", "a new journal")
	w.want(err, catalog.ErrRolledBack)
	w.check(w.DeleteVolume(w.ctx, source.ID))
	_, err = w.Sweep(w.ctx)
	w.want(err, catalog.ErrRolledBack)
	_, err = w.Collect(w.ctx, catalog.CollectOptions{})
	w.want(err, catalog.ErrRolledBack)

	found := outcomes(w.recover())
	if found[catalog.Missing] != 1 || found[catalog.Recovered] != 2 || found[catalog.Known] != 2 {
		t.Errorf("found %v", found)
	}
	got, err := w.GetVolume(w.ctx, e.volume)
	w.check(err)
	w.holds(got.Head, map[uint64]string{0: "new"})
	_, err = w.GetSnapshot(w.ctx, dead.ID)
	w.want(err, catalog.ErrNotFound)
	_, err = w.GetVolume(w.ctx, source.ID)
	w.want(err, catalog.ErrNotFound) // deleted is deleted
	w.check(w.DeleteVolume(w.ctx, erased.ID))
	w.sweep()
	w.collect()
	s, err := w.GetSnapshot(w.ctx, later.ID)
	w.check(err)
	child, err := w.GetVolume(w.ctx, clone.ID)
	w.check(err)
	w.holds(s.Root, map[uint64]string{0: "source"})
	w.holds(child.Head, map[uint64]string{0: "source"})
	w.deleteAll()
	w.empty()
}

// TestOldAuthorityErasesNoParent: what was made from a volume since an old copy was taken is in
// Swift only, and no epoch of the volume tells of it.
func TestOldAuthorityErasesNoParent(t *testing.T) {
	for name, derive := range map[string]func(w *world, source authority.Volume) *authority.Root{
		"clone":    func(w *world, source authority.Volume) *authority.Root { return w.clone(from("clone", source.ID)).Head },
		"snapshot": func(w *world, source authority.Volume) *authority.Root { return w.snapshot("snap", source.ID).Root },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			source := w.volume("source")
			e := w.attach(source.ID, "n1")
			w.check(e.write(w.ctx, 0, "a"))
			w.detach(e)
			copied := w.authority.(*authoritytest.Memory).Copy()
			made := derive(w, source)
			w.replaceAuthority(copied)
			w.check(w.DeleteVolume(w.ctx, source.ID))
			w.later()
			_, err := w.Sweep(w.ctx)
			w.want(err, catalog.ErrRolledBack)
			w.holds(made, map[uint64]string{0: "a"})
		})
	}
}

// TestOldAuthorityOfRecoveredVolumes: the authority that was thought lost is still
// at work after the volumes were recovered into another one.
func TestOldAuthorityOfRecoveredVolumes(t *testing.T) {
	for name, c := range map[string]struct {
		cluster string
		want    error
	}{
		"SameCluster":    {cluster, catalog.ErrRolledBack},
		"AnotherCluster": {"cluster-b", catalog.ErrForeign},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			v, old := w.volume("pvc"), w.Catalog
			fresh := catalog.New(catalog.Config{
				Authority: &authoritytest.Memory{}, Store: w.store, Prefix: w.prefix, Cluster: c.cluster, SearchPause: 1,
			})
			o := catalog.RecoverOptions{}
			if c.cluster != cluster {
				found, err := fresh.Recover(w.ctx, o)
				w.check(err)
				if outcomes(found)[catalog.Foreign] != 1 || found[0].Cluster != cluster {
					t.Errorf("found %+v", found)
				}
				_, err = fresh.GetVolume(w.ctx, v.ID)
				w.want(err, catalog.ErrNotFound)
				o.From = cluster
			}
			found, err := fresh.Recover(w.ctx, o)
			w.check(err)
			if outcomes(found)[catalog.Recovered] != 1 {
				t.Errorf("found %+v", found)
			}
			_, err = old.Publish(w.ctx, v.ID, "n1", catalog.Write)
			w.check(err)
			_, err = w.nodes.open(w.ctx, old, v.ID, "n1", "journal")
			w.want(err, c.want)
			w.check(old.Abandon(w.ctx, v.ID))
			w.check(old.DeleteVolume(w.ctx, v.ID))
			_, err = old.Sweep(w.ctx)
			w.want(err, c.want)
			if len(w.containers()) != 1 {
				t.Error("the old authority erased the volume")
			}
		})
	}
}

// TestRecoverWhatHadOneName: a volume was deleted, and kept by its clone, when
// another one took its name. Both come back, and the name means the later one. What
// a call that died has left of a clone does not come back.
func TestRecoverWhatHadOneName(t *testing.T) {
	w := newWorld(t)
	first := w.attach(w.volume("image").ID, "n1")
	w.check(first.write(w.ctx, 0, "first"))
	w.detach(first)
	clone := w.clone(from("clone", first.volume))
	w.check(w.DeleteVolume(w.ctx, first.volume))
	w.sweep()
	w.later()
	second := w.volume("image")
	dying, crash := w.dying(6, false) // after its pin
	_, err := dying.CreateVolume(w.ctx, from("half", clone.ID))
	if err == nil || !crash.Happened() {
		t.Fatalf("CreateVolume = %v", err)
	}

	w.loseAuthority()
	nameless := 0
	for _, f := range w.recover() {
		if f.Nameless {
			nameless++
			if f.Volume != first.volume {
				t.Errorf("volume %s lost its name", f.Volume)
			}
		}
	}
	if again := w.volume("image"); nameless != 1 || again.ID != second.ID {
		t.Errorf("the name means %s, want %s; %d have no name", again.ID, second.ID, nameless)
	}
	v, err := w.GetVolume(w.ctx, first.volume)
	w.check(err)
	w.holds(v.Head, map[uint64]string{0: "first"})
	w.count(3, 0)
	w.deleteAll()
	w.removeIncomplete(w.recover())
	w.empty()
}

// removeIncomplete removes the containers that recovery leaves to the administrator.
func (w *world) removeIncomplete(found []catalog.Finding) {
	w.t.Helper()
	for _, f := range found {
		if f.Outcome != catalog.Incomplete || f.Snapshot != "" {
			continue
		}
		container := w.prefix + string(f.Volume)
		err := swift.ErrNotEmpty // as long as rows are late
		for errors.Is(err, swift.ErrNotEmpty) {
			list, errList := w.store.List(w.ctx, container, "", "", 0)
			w.check(errList)
			for _, o := range list {
				if err := w.store.Delete(w.ctx, container, o.Name); !errors.Is(err, swift.ErrNotFound) {
					w.check(err)
				}
			}
			err = w.store.DeleteContainer(w.ctx, container)
		}
		w.check(err)
	}
}

// TestRecoverInAnotherAccount: that Swift holds nothing at all is no reason to give
// up every volume.
func TestRecoverInAnotherAccount(t *testing.T) {
	w := newWorld(t)
	e := w.attach(w.volume("pvc").ID, "n1")
	_, err := w.controller(w.authority, swifttest.NewStore(t)).Recover(w.ctx, catalog.RecoverOptions{})
	w.want(err, catalog.ErrInvalid)
	w.check(e.write(w.ctx, 0, "a"))
	w.check(w.Published(w.ctx, e.report()))
}

// TestRecoverLeavesTombstones: what an old copy knows to be deleted stays deleted.
func TestRecoverLeavesTombstones(t *testing.T) {
	w := newWorld(t)
	e := w.attach(w.volume("pvc").ID, "n1")
	w.check(e.write(w.ctx, 0, "a"))
	s := w.snapshot("snap", e.volume)
	w.detach(e)
	clone := w.clone(from("clone", s.ID))
	w.check(w.DeleteSnapshot(w.ctx, s.ID))
	w.check(w.DeleteVolume(w.ctx, e.volume))
	if found := outcomes(w.recover()); found[catalog.Known] != 2 || len(found) != 1 {
		t.Errorf("found %v", found)
	}
	_, err := w.GetVolume(w.ctx, e.volume)
	w.want(err, catalog.ErrNotFound)
	_, err = w.GetSnapshot(w.ctx, s.ID)
	w.want(err, catalog.ErrNotFound)
	w.holds(clone.Head, map[uint64]string{0: "a"})
	w.deleteAll()
	w.empty()
}
