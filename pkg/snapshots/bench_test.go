package snapshots

import (
	"context"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// volumes of 2,097,152 chunks of data, by their history.
var histories = []struct {
	name  string
	entry func(r *rand.Rand, origins []Origin) Entry
}{
	{"one generation", func(_ *rand.Rand, o []Origin) Entry {
		return Entry{Base: ChunkRef{o[0], 1}}
	}},
	{"10,000 generations in 3 openings", func(r *rand.Rand, o []Origin) Entry {
		return Entry{Base: ChunkRef{o[r.IntN(3)], 1 + r.Uint64N(10000)}}
	}},
	{"half of them patched", func(r *rand.Rand, o []Origin) Entry {
		e := Entry{Base: ChunkRef{o[0], 1}}
		if r.IntN(2) == 0 {
			e.Patches = []PackRef{{o[1+r.IntN(2)], 1 + r.Uint64N(10000), r.Uint64N(4)}}
		}
		return e
	}},
	{"8 patches each", func(r *rand.Rand, o []Origin) Entry {
		e := Entry{Base: ChunkRef{o[0], 1}}
		for i := range uint64(MaxPatches) {
			e.Patches = append(e.Patches, PackRef{o[1+r.IntN(2)], 1000*i + r.Uint64N(1000), r.Uint64N(4)})
		}
		return e
	}},
}

// populate publishes a volume of size bytes, all of it written, in steps that
// write whole pages.
func populate(t testing.TB, store *memory, size int64, entry func(*rand.Rand, []Origin) Entry) *Update {
	t.Helper()
	r := rand.New(rand.NewPCG(7, 7))
	var origins []Origin
	for range 3 {
		origins = append(origins, Origin{"sb-1", ident.Epoch{Number: 1, Tag: r.Uint64()}, ident.Open(r.Uint64())})
	}
	u := &Update{Table: BlankTable()}
	const step = 8 * PageChunks
	for start := uint64(0); start < chunkCount(size); start += step {
		changes := make(map[uint64]Entry, step)
		for chunk := start; chunk < min(start+step, chunkCount(size)); chunk++ {
			changes[chunk] = entry(r, origins)
		}
		var err error
		u, err = u.Table.Update(t.Context(), Change{Origin: origins[0], Gen: 1 + start/step, State: State{Size: size}, Entries: changes})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range u.Pages {
			store.objects[p.Location] = p.Body
		}
	}
	store.objects[u.RootObject.Location] = u.RootObject.Body
	return u
}

// bytes returns the size of everything stored.
func (m *memory) bytes() (n int64) {
	for _, object := range m.objects {
		n += int64(len(object))
	}
	return n
}

func BenchmarkTableOf16TiB(b *testing.B) {
	for _, h := range histories {
		b.Run(h.name, func(b *testing.B) {
			var store *memory
			for b.Loop() {
				store = newMemory()
				populate(b, store, MaxSize, h.entry)
			}
			b.ReportMetric(float64(store.bytes()), "B/table")
			b.ReportMetric(float64(store.bytes())/float64(chunkCount(MaxSize)), "B/entry")
		})
	}
}

// TestMemoryOfATable holds the bound of 16 MiB for a populated TiB after one
// read in every page.
func TestMemoryOfATable(t *testing.T) {
	const size = 128 * gib
	for _, h := range histories {
		store := newMemory()
		ref := populate(t, store, size, h.entry).Root.Ref
		before := heap()
		root, err := LoadRoot(t.Context(), store, "sb-1", ref)
		if err != nil {
			t.Fatal(err)
		}
		table := OpenTable(store, root)
		for chunk := uint64(0); chunk < chunkCount(size); chunk += PageChunks {
			if _, err := table.Entry(t.Context(), chunk); err != nil {
				t.Fatal(err)
			}
		}
		perTiB := (heap() - before) * (tib / size)
		t.Logf("%s: %d KiB for a TiB", h.name, perTiB>>10)
		if perTiB > 16<<20 {
			t.Errorf("%s: %d MiB for a TiB", h.name, perTiB>>20)
		}
		runtime.KeepAlive(table)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// load is a history of writes of 4 KiB each to random places.
type load struct {
	generations, writes int // writes of each generation
}

// cost applies a load to a volume and returns what its pages and roots take,
// measured by what was written, and how many objects a generation makes.
func (l load) cost(t testing.TB, u *Update) (ratio, objects float64) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 1))
	size := u.Root.State.Size
	bytes, count := 0, 0
	for g := range uint64(l.generations) {
		change := Change{Origin: goldenOrigin, Gen: 1000 + g, State: State{Size: size}, Entries: make(map[uint64]Entry)}
		for range l.writes {
			chunk := r.Uint64N(chunkCount(size))
			e, err := u.Table.Entry(t.Context(), chunk)
			if err != nil {
				t.Fatal(err)
			}
			kept := e.Patches[max(0, len(e.Patches)-MaxPatches+1):]
			change.Entries[chunk] = Entry{Base: e.Base, Patches: append(kept, PackRef{goldenOrigin, change.Gen, 0})}
		}
		var err error
		if u, err = u.Table.Update(t.Context(), change); err != nil {
			t.Fatal(err)
		}
		for _, o := range append(u.Pages, u.RootObject) {
			bytes, count = bytes+len(o.Body), count+1
		}
	}
	return float64(bytes) / float64(l.generations*l.writes*chunks.BlockSize), float64(count) / float64(l.generations)
}

func TestTablesCostLittle(t *testing.T) {
	for _, l := range []load{{1, 10000}, {60, 167}} {
		blank, err := BlankTable().Update(t.Context(), Change{Origin: goldenOrigin, Gen: 1, State: State{Size: 100 * gib}})
		if err != nil {
			t.Fatal(err)
		}
		ratio, objects := l.cost(t, blank)
		t.Logf("%d writes in each of %d generations on 100 GiB: tables take %.4f of what was written, %.1f objects a generation",
			l.writes, l.generations, ratio, objects)
		if ratio > 0.02 {
			t.Errorf("tables take %.3f of what was written", ratio)
		}
	}
}

func BenchmarkScatteredWritesOn16TiB(b *testing.B) {
	full := populate(b, newMemory(), MaxSize, histories[1].entry)
	for b.Loop() {
		ratio, objects := load{20, 1000}.cost(b, full)
		b.ReportMetric(ratio, "table-B/written-B")
		b.ReportMetric(objects, "objects/generation")
	}
	b.ReportMetric(float64(len(full.RootObject.Body)), "B/root")
}

func BenchmarkEntry(b *testing.B) {
	store := newMemory()
	table := populate(b, store, 100*gib, histories[2].entry).Table
	r := rand.New(rand.NewPCG(1, 1))
	for b.Loop() {
		if _, err := table.Entry(context.Background(), r.Uint64N(12800)); err != nil {
			b.Fatal(err)
		}
	}
}
