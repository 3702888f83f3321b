package snapshots

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

const (
	gib = 1 << 30
	tib = 1 << 40
)

// lineage is a volume in the model: its newest table and what that must say.
type lineage struct {
	name   string
	origin Origin
	gen    uint64
	table  *Table
	root   *Root
	state  State
	want   map[uint64]Entry
	zeroed []uint64 // chunks that became zeros, and may have changed since
}

// apply makes the next generation of l from changes and publishes it.
func (l *lineage) apply(t interface {
	Fatalf(string, ...any)
}, store *memory, changes map[uint64]Entry,
) {
	l.gen++
	c := Change{Origin: l.origin, Gen: l.gen, State: l.state, Entries: changes}
	if l.root != nil {
		c.Parent = Parent{Container: l.root.Container, Ref: l.root.Ref}
	}
	u, err := l.table.Update(context.Background(), c)
	if err != nil {
		t.Fatalf("update: %v", err)
	}
	store.publish(t, u)
	l.table, l.root = u.Table, u.Root
	for chunk, e := range changes {
		l.want[chunk] = e
		if e.IsZero() {
			delete(l.want, chunk)
			l.zeroed = append(l.zeroed, chunk)
		}
	}
}

// check compares a table of l's newest root with the model.
func (l *lineage) check(t interface {
	Fatalf(string, ...any)
}, table *Table,
) {
	got := make(map[uint64]Entry)
	for e, err := range table.Entries(context.Background()) {
		if err != nil {
			t.Fatalf("entries: %v", err)
		}
		got[e.Chunk] = e.Entry
	}
	if !reflect.DeepEqual(got, l.want) {
		t.Fatalf("%s: %d entries, want %d", l.name, len(got), len(l.want))
	}
	probe := slices.Collect(maps.Keys(l.want))
	slices.Sort(probe)
	probe = append(probe[:min(len(probe), 50)], l.zeroed[max(0, len(l.zeroed)-50):]...)
	for _, chunk := range append(probe, 0, 1, PageChunks, chunkCount(l.state.Size), 1<<40) {
		e, err := table.Entry(context.Background(), chunk)
		if err != nil || !reflect.DeepEqual(e, l.want[chunk]) {
			t.Fatalf("%s: entry %d is %+v, %v; want %+v", l.name, chunk, e, err, l.want[chunk])
		}
	}
}

// random draws a change of one chunk's entry.
func (l *lineage) random(r *rand.Rand, chunk uint64) Entry {
	e := l.want[chunk]
	switch n := r.IntN(8); {
	case n == 0:
		return Entry{}
	case n <= 4 && len(e.Patches) < MaxPatches:
		return Entry{Base: e.Base, Patches: append(slices.Clone(e.Patches), PackRef{l.origin, l.gen + 1, uint64(r.IntN(3))})}
	}
	return Entry{Base: ChunkRef{l.origin, l.gen + 1}}
}

func TestTableAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		store := newMemory()
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		newLineage := func(i int) *lineage {
			return &lineage{
				name:   fmt.Sprint("volume ", i),
				origin: Origin{fmt.Sprint("sb-", i), ident.Epoch{Number: 1, Tag: r.Uint64()}, ident.Open(r.Uint64())},
				want:   make(map[uint64]Entry),
			}
		}
		first := newLineage(0)
		first.table, first.state = BlankTable(), State{Size: 100*gib + 512}
		volumes := []*lineage{first}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			l := volumes[r.IntN(len(volumes))]
			switch rapid.SampledFrom([]string{"write", "write", "write", "reopen", "adopt", "clone", "grow"}).Draw(t, "step") {
			case "write":
				changes := make(map[uint64]Entry)
				for range rapid.SampledFrom([]int{0, 1, 30, 30, 30, 3000}).Draw(t, "changes") {
					chunk := r.Uint64N(chunkCount(l.state.Size))
					changes[chunk] = l.random(r, chunk)
				}
				l.apply(t, store, changes)
			case "reopen":
				if l.root == nil {
					continue
				}
				root, err := LoadRoot(context.Background(), store, l.root.Container, l.root.Ref)
				if err != nil {
					t.Fatalf("load: %v", err)
				}
				l.table = OpenTable(store, root)
				l.origin.Open = ident.Open(r.Uint64())
			case "adopt":
				l.origin.Epoch, l.gen = ident.Epoch{Number: l.origin.Epoch.Number + 1, Tag: r.Uint64()}, 0
			case "grow":
				l.state.Size += int64(r.IntN(100)) * gib
			case "clone":
				if l.root == nil {
					continue
				}
				child := newLineage(len(volumes))
				child.table, child.root, child.state, child.want = OpenTable(store, l.root), l.root, l.state, maps.Clone(l.want)
				if child.state.Size < l.root.State.Size {
					t.Fatalf("size")
				}
				before := store.count()
				child.apply(t, store, nil)
				if n := store.count() - before; n != 1 {
					t.Fatalf("a clone made %d objects", n)
				}
				volumes = append(volumes, child)
			}
		}
		for _, l := range volumes {
			table := l.table
			if l.root != nil && rapid.Bool().Draw(t, "read again") {
				root, err := LoadRoot(context.Background(), store, l.root.Container, l.root.Ref)
				if err != nil {
					t.Fatalf("load: %v", err)
				}
				table = OpenTable(store, root)
			}
			l.check(t, table)
		}
	})
}

func (m *memory) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.objects)
}

func TestRootRoundTrip(t *testing.T) {
	store := newMemory()
	l := &lineage{
		origin: Origin{"sb-1", ident.NewEpoch(1), ident.NewOpen()},
		table:  BlankTable(),
		want:   make(map[uint64]Entry),
		state:  State{Size: tib, Mark: Formatting, Sealed: time.UnixMilli(1700000000123).UTC()},
	}
	l.apply(t, store, map[uint64]Entry{5: {Base: ChunkRef{l.origin, 1}}})
	l.state.Mark, l.state.Clean = Formatted, true
	parent := Parent{Container: "sb-1", Ref: l.root.Ref}
	l.apply(t, store, nil)
	got, err := LoadRoot(context.Background(), store, "sb-1", l.root.Ref)
	if err != nil {
		t.Fatal(err)
	}
	if got.State != l.state || got.Parent != parent || got.Ref != l.root.Ref || got.Container != "sb-1" ||
		!slices.Equal(got.Containers, []Container{{Name: "sb-1"}}) {
		t.Errorf("got %+v", got)
	}
	wrong := l.root.Ref
	wrong.Hash[3] ^= 1
	if _, err := LoadRoot(context.Background(), store, "sb-1", wrong); err == nil {
		t.Error("a root with another hash was accepted")
	}
}

func TestUpdateRefuses(t *testing.T) {
	o := Origin{"sb-1", ident.NewEpoch(1), ident.NewOpen()}
	good := Change{Origin: o, Gen: 1, State: State{Size: gib}}
	base := ChunkRef{o, 1}
	for what, spoil := range map[string]func(*Change){
		"no container":         func(c *Change) { c.Origin.Container = "" },
		"no epoch":             func(c *Change) { c.Origin.Epoch = ident.Epoch{} },
		"generation too large": func(c *Change) { c.Gen = maxGen + 1 },
		"smaller size":         func(c *Change) { c.State.Size = gib - 512 },
		"odd size":             func(c *Change) { c.State.Size = gib + 1 },
		"too large":            func(c *Change) { c.State.Size = MaxSize + 512 },
		"unknown mark":         func(c *Change) { c.State.Mark = 3 },
		"parent without place": func(c *Change) { c.Parent.Ref = Ref{Epoch: o.Epoch, Gen: 1} },
		"parent of no epoch":   func(c *Change) { c.Parent = Parent{Container: "sb-1", Ref: Ref{Gen: 1}} },
		"no snapshot":          func(c *Change) { c.Snapshot = "monday" },
		"chunk beyond size":    func(c *Change) { c.Entries = map[uint64]Entry{gib / chunks.Size: {Base: base}} },
		"too many patches":     func(c *Change) { c.Entries = map[uint64]Entry{0: {Patches: make([]PackRef, MaxPatches+1)}} },
		"patch of nobody":      func(c *Change) { c.Entries = map[uint64]Entry{0: {Patches: make([]PackRef, 1)}} },
		"pack number":          func(c *Change) { c.Entries = map[uint64]Entry{0: {Patches: []PackRef{{o, 1, maxPack + 1}}}} },
		"base of nobody":       func(c *Change) { c.Entries = map[uint64]Entry{0: {Base: ChunkRef{Gen: 1}}} },
	} {
		u, err := BlankTable().Update(context.Background(), good)
		if err != nil {
			t.Fatal(err)
		}
		c := good
		spoil(&c)
		if _, err := u.Table.Update(context.Background(), c); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}

// Two volumes that continue one table add to its dictionary, each for itself.
func TestChildrenDoNotShareADictionary(t *testing.T) {
	next := func(table *Table, container string) *Update {
		o := Origin{container, ident.NewEpoch(1), ident.NewOpen()}
		u, err := table.Update(t.Context(), Change{
			Origin: o, Gen: 1, State: State{Size: gib},
			Entries: map[uint64]Entry{uint64(container[0]): {Base: ChunkRef{o, 1}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	parent := BlankTable()
	for generation := range 6 { // whatever room a dictionary of that length has left
		parent = next(parent, string(rune('a'+generation))).Table
		first, second := next(parent, "y"), next(parent, "z")
		for name, u := range map[string]*Update{"y": first, "z": second} {
			if c := u.Root.Containers; len(c) != generation+2 || c[generation+1].Name != name {
				t.Errorf("%s has the dictionary %v", name, c)
			}
			if e, err := u.Table.Entry(t.Context(), uint64(name[0])); err != nil || e.Base.Origin.Container != name {
				t.Errorf("%s has the entry %+v, %v", name, e, err)
			}
		}
	}
}
