package snapshots

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

func diffOf(t interface{ Fatalf(string, ...any) }, store *memory, from, to *Root) []uint64 {
	var list []uint64
	for chunk, err := range Diff(context.Background(), store, from, to) {
		if err != nil {
			t.Fatalf("diff: %v", err)
		}
		list = append(list, chunk)
	}
	return list
}

// cut is a root with what it must say.
type cut struct {
	root *Root
	want map[uint64]Entry
}

// Between any two points of a volume and of its clone, Diff yields the chunks
// whose entries differ, in order, and no other.
func TestDiffAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		store := newMemory()
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 2))
		newOrigin := func(container string) Origin {
			return Origin{container, ident.Epoch{Number: 1, Tag: r.Uint64()}, ident.Open(r.Uint64())}
		}
		l := &lineage{origin: newOrigin("sb-0"), table: BlankTable(), state: State{Size: 100 * gib}, want: map[uint64]Entry{}}
		cuts := []cut{{nil, map[uint64]Entry{}}}
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			changes := map[uint64]Entry{}
			for range rapid.SampledFrom([]int{0, 1, 30, 1500}).Draw(t, "changes") {
				chunk := r.Uint64N(chunkCount(l.state.Size))
				changes[chunk] = l.random(r, chunk)
			}
			l.apply(t, store, changes)
			cuts = append(cuts, cut{l.root, maps.Clone(l.want)})
			if len(cuts) == 4 { // the rest is of a clone
				l.origin, l.gen = newOrigin("sb-1"), 0
				l.state.Size += 10 * gib
			}
		}
		for range 4 {
			a, b := cuts[r.IntN(len(cuts))], cuts[r.IntN(len(cuts))]
			want := map[uint64]bool{}
			for _, m := range []map[uint64]Entry{a.want, b.want} {
				for chunk := range m {
					if !reflect.DeepEqual(a.want[chunk], b.want[chunk]) {
						want[chunk] = true
					}
				}
			}
			if got := diffOf(t, store, a.root, b.root); !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
				t.Fatalf("%d chunks differ, want %d", len(got), len(want))
			}
		}
	})
}

func TestDiffOfStrangers(t *testing.T) {
	store := newMemory()
	var roots []*Root
	for _, container := range []string{"sb-1", "sb-2"} {
		l := &lineage{origin: Origin{container, ident.NewEpoch(1), ident.NewOpen()}, table: BlankTable(), state: State{Size: gib}, want: map[uint64]Entry{}}
		l.apply(t, store, map[uint64]Entry{1: {Base: ChunkRef{l.origin, 1}}})
		roots = append(roots, l.root)
	}
	for _, err := range Diff(t.Context(), store, roots[0], roots[1]) {
		if !errors.Is(err, ErrUnrelated) {
			t.Errorf("got %v", err)
		}
	}
}

// Two cuts of a full volume of 1 TiB that differ in 100 chunks all over it share
// their pages: nothing but the roots is needed. With every page rewritten, all
// are read, and it is still a matter of moments.
func TestDiffReadsWhatDiffers(t *testing.T) {
	store := newMemory()
	first := populate(t, store, tib, histories[2].entry)
	origin := Origin{"sb-1", ident.NewEpoch(2), ident.NewOpen()}
	scattered := func(n int) map[uint64]Entry {
		changes := map[uint64]Entry{}
		for i := range uint64(n) {
			changes[i*chunkCount(tib)/uint64(n)] = Entry{Base: ChunkRef{origin, 1}}
		}
		return changes
	}
	for _, c := range []struct{ changed, gets int }{
		{100, 32}, // the pages, to compare the entries that the new root overrides
		{100_000, 64},
	} {
		u, err := first.Table.Update(t.Context(), Change{Origin: origin, Gen: uint64(c.changed), State: State{Size: tib}, Entries: scattered(c.changed)})
		if err != nil {
			t.Fatal(err)
		}
		store.publish(t, u)
		store.gets = 0
		began := time.Now()
		if got := diffOf(t, store, first.Root, u.Root); len(got) != c.changed {
			t.Errorf("%d chunks differ, want %d", len(got), c.changed)
		}
		if store.gets > c.gets {
			t.Errorf("%d objects were read, want %d at most", store.gets, c.gets)
		}
		t.Logf("%d of %d chunks differ: %v, %d objects read", c.changed, chunkCount(tib), time.Since(began), store.gets)
	}
}
