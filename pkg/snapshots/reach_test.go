package snapshots

import (
	"errors"
	"maps"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// fullLineage is a volume of three pages with a base and a patch in each chunk.
func fullLineage(t *testing.T, store *memory) *lineage {
	t.Helper()
	l := &lineage{
		origin: Origin{"sb-1", ident.NewEpoch(1), ident.NewOpen()},
		table:  BlankTable(),
		want:   make(map[uint64]Entry),
		state:  State{Size: tib},
	}
	changes := make(map[uint64]Entry)
	for chunk := range uint64(3 * PageChunks) {
		changes[chunk] = Entry{Base: ChunkRef{l.origin, 1}, Patches: []PackRef{{l.origin, 1, chunk % 7}}}
	}
	l.apply(t, store, changes)
	if len(l.root.pages) < 2 {
		t.Fatalf("%d pages", len(l.root.pages))
	}
	return l
}

// needs returns what the newest root of l needs, by the model.
func (l *lineage) needs() map[Location]bool {
	want := map[Location]bool{l.root.Location(): true}
	for _, p := range l.root.pages {
		want[p.location()] = true
	}
	for chunk, e := range l.want {
		if !e.Base.IsZero() {
			want[e.Base.Location(chunk)] = true
		}
		for _, p := range e.Patches {
			want[p.Location()] = true
		}
	}
	return want
}

func TestReachFindsEverythingOnce(t *testing.T) {
	store := newMemory()
	l := fullLineage(t, store)
	l.apply(t, store, map[uint64]Entry{1: {}, 2: {Base: ChunkRef{l.origin, 2}}}) // hide what a page says
	root, err := LoadRoot(t.Context(), store, "sb-1", l.root.Ref)
	if err != nil {
		t.Fatal(err)
	}
	want := l.needs()
	if err := Reach(t.Context(), store, root, func(at Location) error {
		if !want[at] {
			t.Errorf("%s is reached twice, or not needed", at)
		}
		delete(want, at)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(want) > 0 {
		t.Errorf("%d objects are not reached", len(want))
	}
	stop := errors.New("stop")
	if err := Reach(t.Context(), store, root, func(Location) error { return stop }); err != stop {
		t.Errorf("the visitor's error became %v", err)
	}
}

func TestReacherReadsACommonPageOnce(t *testing.T) {
	store := newMemory()
	l := fullLineage(t, store)
	got, want := make(map[Location]bool), make(map[Location]bool)
	r := NewReacher(store, func(at Location) error {
		got[at] = true
		return nil
	})
	store.gets = 0
	for gen := range uint64(5) {
		if gen > 0 {
			l.apply(t, store, map[uint64]Entry{gen: {Base: ChunkRef{l.origin, gen + 1}}, gen - 1: {}})
		}
		if err := r.Root(t.Context(), l.root); err != nil {
			t.Fatal(err)
		}
		maps.Copy(want, l.needs())
	}
	if !maps.Equal(got, want) {
		t.Errorf("%d objects are reached, %d are needed", len(got), len(want))
	}
	if pages := len(l.root.pages); store.gets > pages {
		t.Errorf("%d GETs for %d pages", store.gets, pages)
	}
}

// A page is first seen under recent entries that hide what another root needs.
func TestReacherFindsWhatOnlyOneRootHides(t *testing.T) {
	store := newMemory()
	l := fullLineage(t, store)
	want, older := l.needs(), l.root
	l.apply(t, store, map[uint64]Entry{5: {Base: ChunkRef{l.origin, 2}}, 6: {}})
	maps.Copy(want, l.needs())
	got := make(map[Location]bool)
	r := NewReacher(store, func(at Location) error {
		got[at] = true
		return nil
	})
	for _, root := range []*Root{l.root, older} {
		if err := r.Root(t.Context(), root); err != nil {
			t.Fatal(err)
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("%d objects are reached, %d are needed", len(got), len(want))
	}
}

// What only entries need that recent ones hide must not be kept for ever.
func TestReacherDoesNotKeepWhatIsHidden(t *testing.T) {
	store := newMemory()
	l := fullLineage(t, store)
	hidden := l.want[5].Base.Location(5)
	var roots []*Root
	for range 2 {
		l.apply(t, store, map[uint64]Entry{5: {Base: ChunkRef{l.origin, l.gen + 1}}})
		roots = append(roots, l.root)
	}
	r := NewReacher(store, func(at Location) error {
		if at == hidden {
			t.Errorf("%s is reached", at)
		}
		return nil
	})
	for _, root := range roots {
		if err := r.Root(t.Context(), root); err != nil {
			t.Fatal(err)
		}
	}
}
