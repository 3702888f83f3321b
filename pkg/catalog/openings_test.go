package catalog_test

import (
	"errors"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

func TestPublishBindsToOneNode(t *testing.T) {
	w := newWorld(t)
	v := w.volume("pvc")
	for range 2 {
		_, err := w.Publish(w.ctx, v.ID, "n1", catalog.Write)
		w.check(err)
	}
	_, err := w.Publish(w.ctx, v.ID, "n2", catalog.Write)
	w.want(err, catalog.ErrInUse)
	_, err = w.Publish(w.ctx, v.ID, "n1", catalog.ReadAlone)
	w.want(err, catalog.ErrConflict)
	_, err = w.Publish(w.ctx, v.ID, "", catalog.Write)
	w.want(err, catalog.ErrInvalid)
	_, err = w.Publish(w.ctx, ident.NewVolume(), "n1", catalog.Write)
	w.want(err, catalog.ErrNotFound)
	w.want(w.DeleteVolume(w.ctx, v.ID), catalog.ErrInUse)

	w.check(w.Unpublish(w.ctx, v.ID, "n2")) // it is not there
	_, err = w.Publish(w.ctx, v.ID, "n2", catalog.Write)
	w.want(err, catalog.ErrInUse)
	w.check(w.Unpublish(w.ctx, v.ID, "n1"))
	w.check(w.Unpublish(w.ctx, v.ID, "n1"))
	_, err = w.Publish(w.ctx, v.ID, "n2", catalog.ReadAlone)
	w.check(err)
	w.check(w.Unpublish(w.ctx, v.ID, ""))
	w.check(w.Unpublish(w.ctx, ident.NewVolume(), "n1"))
	w.check(w.DeleteVolume(w.ctx, v.ID))
	w.empty()
}

func (w *world) confirm(id ident.Volume, node, journal string) (catalog.Opening, error) {
	return w.Confirm(w.ctx, catalog.Confirmation{Volume: id, Node: node, Endpoint: node, Journal: journal})
}

func TestEpochIsOneLifeOfOneJournal(t *testing.T) {
	w := newWorld(t)
	v := w.volume("pvc")
	_, err := w.confirm(v.ID, "n1", "j1")
	w.want(err, catalog.ErrInUse) // not published
	_, err = w.Publish(w.ctx, v.ID, "n1", catalog.Write)
	w.check(err)
	_, err = w.confirm(v.ID, "n2", "j1")
	w.want(err, catalog.ErrInUse)

	first, err := w.confirm(v.ID, "n1", "j1")
	w.check(err)
	again, err := w.confirm(v.ID, "n1", "j1")
	w.check(err)
	if first.Epoch.Number != 1 || again.Epoch != first.Epoch || first.Head != nil || first.Size != v.Size {
		t.Errorf("openings %+v and %+v", first, again)
	}
	mark, err := w.store.Get(w.ctx, v.Container, chunks.EpochName(1), swift.GetOptions{})
	w.check(err)
	if string(mark.Body) != first.Epoch.String() {
		t.Errorf("e/1 says %q, want %q", mark.Body, first.Epoch)
	}
	w.want(w.Unpublish(w.ctx, v.ID, "n1"), catalog.ErrBusy)

	closing := catalog.Report{Volume: v.ID, Node: "n1", Journal: "j1"}
	w.check(w.Closed(w.ctx, closing))
	w.check(w.Closed(w.ctx, closing)) // the answer was lost
	w.want(w.Published(w.ctx, closing), catalog.ErrFenced)
	_, err = w.confirm(v.ID, "n1", "j1")
	w.want(err, catalog.ErrClosed)

	second, err := w.confirm(v.ID, "n1", "j2")
	w.check(err)
	if second.Epoch.Number != 2 {
		t.Errorf("epoch %v after 1 was closed", second.Epoch)
	}
	w.check(w.Closed(w.ctx, closing)) // once more, very late
	w.want(w.Published(w.ctx, closing), catalog.ErrFenced)
	if now, err := w.GetVolume(w.ctx, v.ID); err != nil || !now.Opening.Open || now.Opening.Epoch != second.Epoch {
		t.Errorf("volume %+v, %v; want epoch 2 open", now, err)
	}
	_, err = w.confirm(v.ID, "n1", "j1")
	w.want(err, catalog.ErrClosed)
}

// TestUnconfirmedJournalCloses: a node gives a volume up again before the
// controller has answered its first Confirm, which arrives later.
func TestUnconfirmedJournalCloses(t *testing.T) {
	w := newWorld(t)
	v := w.volume("pvc")
	_, err := w.Publish(w.ctx, v.ID, "n1", catalog.Write)
	w.check(err)
	report := catalog.Report{Volume: v.ID, Node: "n1", Journal: "j1"}
	w.check(w.Closed(w.ctx, report))
	_, err = w.confirm(v.ID, "n1", "j1")
	w.want(err, catalog.ErrClosed)
	report.Journal, report.Root = "j2", &authority.Root{Container: v.Container}
	w.want(w.Closed(w.ctx, report), catalog.ErrFenced) // it held something
	// Nor does it end the epoch of another one.
	_, err = w.confirm(v.ID, "n1", "j3")
	w.check(err)
	w.check(w.Closed(w.ctx, catalog.Report{Volume: v.ID, Node: "n1", Journal: "j4"}))
	w.want(w.Unpublish(w.ctx, v.ID, "n1"), catalog.ErrBusy)
	w.check(w.Closed(w.ctx, catalog.Report{Volume: v.ID, Node: "n1", Journal: "j3"}))
	w.check(w.Unpublish(w.ctx, v.ID, "n1"))
	w.check(w.DeleteVolume(w.ctx, v.ID))
	report.Root = nil
	w.check(w.Closed(w.ctx, report))
	w.empty()
}

func TestReportsMoveTheHeadForward(t *testing.T) {
	w := newWorld(t)
	e := w.attach(w.volume("pvc").ID, "n1")
	w.check(e.write(w.ctx, 0, "a"))
	early := e.report()
	w.check(e.write(w.ctx, 0, "b"))
	w.check(w.Published(w.ctx, e.report()))
	w.check(w.Published(w.ctx, early)) // overtaken
	v, err := w.GetVolume(w.ctx, e.volume)
	w.check(err)
	w.holds(v.Head, map[uint64]string{0: "b"})

	foreign := e.report()
	root := *foreign.Root
	root.Epoch.Tag++
	foreign.Root = &root
	w.want(w.Published(w.ctx, foreign), catalog.ErrInvalid)
	foreign = e.report()
	foreign.Journal = "another"
	w.want(w.Published(w.ctx, foreign), catalog.ErrFenced)

	w.detach(e)
	e = w.attach(e.volume, "n2")
	if e.opening.Epoch.Number != 2 || e.content[0] != "b" {
		t.Errorf("opened %+v with content %v", e.opening, e.content)
	}
	w.detach(e)
	w.check(w.DeleteVolume(w.ctx, e.volume))
	w.empty()
}

// TestJournalLost: a node comes back with another journal, having published more
// than the controller has recorded.
func TestJournalLost(t *testing.T) {
	w := newWorld(t)
	e := w.attach(w.volume("pvc").ID, "n1")
	for _, text := range []string{"a", "b", "c"} {
		w.check(e.write(w.ctx, 1, text))
		if text == "a" {
			w.check(w.Published(w.ctx, e.report()))
		}
	}
	o, err := w.confirm(e.volume, "n1", "another")
	w.check(err)
	w.holds(o.Head, map[uint64]string{1: "c"})
	v, err := w.GetVolume(w.ctx, e.volume)
	w.check(err)
	if o.Epoch.Number != 2 || v.Recovered == nil || v.Recovered.Epoch != e.opening.Epoch || v.Recovered.Newest.IsZero() {
		t.Errorf("opening %+v, recovery %+v", o, v.Recovered)
	}
	if _, err := w.store.Head(w.ctx, v.Container, chunks.FenceName(1), swift.HeadOptions{}); err != nil {
		t.Errorf("the lost epoch is not fenced: %v", err)
	}
	for range 2 { // the old journal turns up again: the new one stays open
		_, err = w.confirm(e.volume, "n1", e.journal)
		w.want(err, catalog.ErrFenced)
		w.check(w.Published(w.ctx, catalog.Report{Volume: e.volume, Node: "n1", Journal: "another"}))
	}
}

func TestAbandonAdoptsTheNewestRoot(t *testing.T) {
	for _, published := range []int{0, 1, 5} {
		w := newWorld(t)
		parent := w.attach(w.volume("parent").ID, "n1")
		w.check(parent.write(w.ctx, 0, "parent's"))
		w.detach(parent)
		e := w.attach(w.clone(from("pvc", parent.volume)).ID, "n1")
		want := map[uint64]string{0: "parent's"}
		for i := range published {
			want[uint64(i)] = "child's"
			w.check(e.write(w.ctx, uint64(i), "child's"))
		}
		w.nodes.setDown("n1", true)
		w.check(w.Abandon(w.ctx, e.volume))
		w.check(w.Abandon(w.ctx, e.volume))
		v, err := w.GetVolume(w.ctx, e.volume)
		w.check(err)
		if v.Binding != nil || v.Opening.Open || !v.Opening.Lost {
			t.Errorf("volume %+v", v)
		}
		w.holds(v.Head, want)

		// The zombie wakes up.
		w.check(e.write(w.ctx, 0, "too late"))
		w.want(w.Published(w.ctx, e.report()), catalog.ErrFenced)
		w.want(w.Closed(w.ctx, e.report()), catalog.ErrFenced)
		next := w.attach(e.volume, "n2")
		if next.opening.Epoch.Number != 2 || next.content[0] != want[0] {
			t.Errorf("opened %+v with %v", next.opening, next.content)
		}
		w.detach(next)
	}
}

func TestAbandonedNodeThatAnswersHandsOver(t *testing.T) {
	w := newWorld(t)
	e := w.attach(w.volume("pvc").ID, "n1")
	w.check(e.write(w.ctx, 3, "kept"))
	w.check(w.Abandon(w.ctx, e.volume))
	v, err := w.GetVolume(w.ctx, e.volume)
	w.check(err)
	if v.Binding != nil || v.Opening.Lost || v.Recovered != nil {
		t.Errorf("volume %+v", v)
	}
	w.holds(v.Head, map[uint64]string{3: "kept"})
}

// A node that is not given up keeps what it has not handed over (R6).
func TestReclaim(t *testing.T) {
	for name, c := range map[string]struct {
		down, empty, fenced, givenUp bool
		want                         error
		lost                         bool
	}{
		"answers":                      {},
		"answers, given up":            {givenUp: true},
		"silent":                       {down: true, want: catalog.ErrUnreachable},
		"silent, given up":             {down: true, givenUp: true, lost: true},
		"without journal":              {empty: true, want: catalog.ErrUnreachable},
		"without journal, given up":    {empty: true, givenUp: true, lost: true},
		"fenced by an earlier attempt": {empty: true, fenced: true, lost: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			e := w.attach(w.volume("pvc").ID, "n1")
			w.check(e.write(w.ctx, 0, "a"))
			w.nodes.setDown("n1", c.down)
			w.nodes.setEmpty("n1", c.empty)
			if c.fenced {
				_, err := w.store.Put(w.ctx, e.opening.Container, chunks.FenceName(1), []byte(e.opening.Epoch.String()), swift.PutOptions{})
				w.check(err)
			}
			w.check(w.Reclaim(w.ctx, e.volume, "n2", c.givenUp)) // which does not have it
			if v, err := w.GetVolume(w.ctx, e.volume); err != nil || v.Binding == nil {
				t.Fatalf("taken from a node that was not named: %+v, %v", v, err)
			}
			w.want(w.Reclaim(w.ctx, e.volume, "n1", c.givenUp), c.want)
			v, err := w.GetVolume(w.ctx, e.volume)
			w.check(err)
			if kept := c.want != nil; (v.Binding != nil) != kept || v.Opening.Open != kept || v.Opening.Lost != c.lost {
				t.Errorf("volume %+v", v)
			}
		})
	}
}

// A journal that the record no longer remembers is not taken for a new one.
func TestForgottenJournalOpensNothing(t *testing.T) {
	w := newWorld(t)
	v := w.volume("pvc")
	first := w.attach(v.ID, "n1")
	w.detach(first)
	for range 10 {
		w.detach(w.attach(v.ID, "n1"))
	}
	now := w.attach(v.ID, "n1")
	_, err := w.Confirm(w.ctx, catalog.Confirmation{Volume: v.ID, Node: "n1", Journal: first.journal, Epoch: first.opening.Epoch})
	w.want(err, catalog.ErrFenced)
	w.check(w.Published(w.ctx, now.report()))
}

func TestSearchStopsAtWhatItCannotExplain(t *testing.T) {
	w := newWorld(t)
	e := w.attach(w.volume("pvc").ID, "n1")
	w.check(e.write(w.ctx, 0, "a"))
	w.check(w.Published(w.ctx, e.report()))
	w.nodes.setDown("n1", true)
	w.check(w.store.Delete(w.ctx, e.opening.Container, chunks.RootName(e.opening.Epoch, 1)))
	w.want(w.Abandon(w.ctx, e.volume), catalog.ErrRolledBack) // the recorded root is gone

	// A root that continues another history than the recorded one.
	e = w.attach(w.volume("pvc2").ID, "n2")
	w.check(e.write(w.ctx, 0, "a"))
	w.check(w.Published(w.ctx, e.report()))
	e.head.Hash[0]++
	w.check(e.write(w.ctx, 0, "b"))
	w.nodes.setDown("n2", true)
	if err := w.Abandon(w.ctx, e.volume); err == nil {
		t.Error("a root without the recorded parent was adopted")
	}
}

func TestRolledBackAuthorityGivesOutNoEpoch(t *testing.T) {
	w := newWorld(t)
	v := w.volume("pvc")
	old, _, err := w.authority.Volumes().Get(w.ctx, string(v.ID))
	w.check(err)
	for range 3 {
		w.detach(w.attach(v.ID, "n1"))
	}
	_, version, err := w.authority.Volumes().Get(w.ctx, string(v.ID))
	w.check(err)
	old.Binding = &authority.Binding{Node: "n1"}
	_, err = w.authority.Volumes().Update(w.ctx, string(v.ID), old, version) // a backup is restored
	w.check(err)
	for lost := uint64(0); lost < 3; lost++ { // also if not every trace can be seen
		_, err = w.confirm(v.ID, "n1", "j")
		w.want(err, catalog.ErrRolledBack)
		now, err := w.GetVolume(w.ctx, v.ID)
		w.check(err)
		if !now.Opening.Epoch.IsZero() {
			t.Fatalf("epoch %v was given out", now.Opening.Epoch)
		}
		w.check(w.store.Delete(w.ctx, v.Container, chunks.EpochName(lost+1)))
	}
}

// A node whose epoch is later than the recorded one was not fenced: the record is an old
// copy. Told that it was, it would let go of what only its journal holds.
func TestRolledBackAuthorityEndsNoEpoch(t *testing.T) {
	w := newWorld(t)
	v := w.volume("pvc")
	w.detach(w.attach(v.ID, "n1"))
	_, err := w.Publish(w.ctx, v.ID, "n1", catalog.Write)
	w.check(err)
	old, _, err := w.authority.Volumes().Get(w.ctx, string(v.ID))
	w.check(err)
	e := w.attach(v.ID, "n1")
	w.check(e.write(w.ctx, 0, "a"))
	now, version, err := w.authority.Volumes().Get(w.ctx, string(v.ID))
	w.check(err)
	version, err = w.authority.Volumes().Update(w.ctx, string(v.ID), old, version) // a backup is restored
	w.check(err)
	_, err = w.Confirm(w.ctx, catalog.Confirmation{Volume: v.ID, Node: "n1", Endpoint: "n1", Journal: e.journal, Epoch: e.opening.Epoch})
	w.want(err, catalog.ErrRolledBack)
	w.want(w.Closed(w.ctx, e.report()), catalog.ErrRolledBack)
	w.check(w.authority.Volumes().Delete(w.ctx, string(v.ID), version)) // or all of it is lost
	_, err = w.Confirm(w.ctx, catalog.Confirmation{Volume: v.ID, Node: "n1", Endpoint: "n1", Journal: e.journal, Epoch: e.opening.Epoch})
	w.want(err, catalog.ErrRolledBack)
	w.want(w.Closed(w.ctx, e.report()), catalog.ErrRolledBack)
	_, err = w.authority.Volumes().Create(w.ctx, string(v.ID), now) // the newest copy is put back
	w.check(err)
	w.detach(e)
	w.check(w.DeleteVolume(w.ctx, v.ID))
	late := catalog.Confirmation{Volume: v.ID, Node: "n1", Endpoint: "n1", Journal: e.journal, Epoch: e.opening.Epoch}
	_, err = w.Confirm(w.ctx, late)
	w.want(err, catalog.ErrNotFound) // though Swift has it still
	w.sweep()
	_, err = w.Confirm(w.ctx, late)
	w.want(err, catalog.ErrNotFound) // it was deleted
}

// mute is an authority that answers so many times.
type mute struct{ answers int }

func (m *mute) Step(do func() error) error { return do() }

func (m *mute) Look(do func() error) error {
	if m.answers--; m.answers < 0 {
		return errSilent
	}
	return do()
}

var errSilent = errors.New("no answer")

// An authority that falls silent has not said that a volume is deleted: a node that was told
// so would let go of what only its journal holds.
func TestSilenceIsNoDeletion(t *testing.T) {
	w := newWorld(t)
	v := w.volume("pvc")
	e := w.attach(v.ID, "n1")
	w.check(e.write(w.ctx, 0, "a"))
	w.loseAuthority()
	for answers := range 2 {
		_, err := w.guarded(&mute{answers}).Confirm(w.ctx, catalog.Confirmation{Volume: v.ID, Node: "n1", Endpoint: "n1", Journal: e.journal, Epoch: e.opening.Epoch})
		w.want(err, errSilent)
		w.want(w.guarded(&mute{answers}).Closed(w.ctx, e.report()), errSilent)
	}
}
