package volume

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
)

// Writers, each the only one of its sectors, readers, seals, restored clones and
// uploads at once; the journal is so small that it fills and empties many times.
// Each sector must read as what was acknowledged last.
func TestConcurrentUse(t *testing.T) {
	const writers, sectors = 4, 64 // each writer owns every writers-th sector of a region
	r := newRig(t, 64*mib, func(c *Config) { c.RPO = 20 * time.Millisecond })
	const enough = 5 // generations
	stop, cancel := context.WithCancel(t.Context())
	defer cancel()
	began := time.Now()
	var busy sync.WaitGroup
	var writes, reads atomic.Int64
	for w := range writers {
		busy.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(w)))
			acked := make([]uint32, sectors)
			for id := uint32(1); stop.Err() == nil; id++ {
				k := rng.IntN(sectors)
				sector := (k*writers + w) + k%8*(chunks.Size/512)
				p := make([]byte, 512)
				switch rng.IntN(8) {
				case 0:
					if err := r.Discard(t.Context(), int64(sector)*512, 512); err != nil {
						t.Error(err)
						return
					}
					acked[k] = 0
				default:
					encode(p, id, sector)
					if err := r.WriteAt(t.Context(), p, int64(sector)*512, id%64 == 0); err != nil {
						t.Error(err)
						return
					}
					acked[k] = id
				}
				writes.Add(1)
				k = rng.IntN(sectors)
				sector = (k*writers + w) + k%8*(chunks.Size/512)
				if err := r.ReadAt(t.Context(), p, int64(sector)*512); err != nil {
					t.Error(err)
					return
				}
				want := make([]byte, 512)
				encode(want, acked[k], sector)
				if string(p) != string(want) {
					t.Errorf("writer %d: sector %d is not from write %d", w, sector, acked[k])
					return
				}
				reads.Add(1)
			}
		})
	}
	busy.Go(func() {
		for stop.Err() == nil {
			gen, err := r.Seal(t.Context(), "")
			if err == nil {
				_, err = r.Published(t.Context(), gen)
			}
			if err != nil {
				t.Error(err)
				cancel()
				return
			}
			if took := time.Since(began); gen >= enough && took > 3*time.Second || took > patience {
				cancel()
			}
		}
	})
	busy.Wait()
	root := r.close()
	t.Logf("%d writes, %d reads, %d generations", writes.Load(), reads.Load(), root.Ref.Gen)
	if root.Ref.Gen < enough {
		t.Error("hardly anything was published meanwhile")
	}
}

// Many readers of one cold slot cost one GET; one sequential reader costs few.
func TestReadsAreShared(t *testing.T) {
	r := newRig(t, 64*mib, nil)
	r.write(0, noise(1, 32*mib))
	r.head = r.close()

	r.nextEpoch()
	r.store.reset()
	var busy sync.WaitGroup
	for i := range int64(32) {
		busy.Go(func() {
			p := make([]byte, 4096) // with gaps, so that no order of them looks sequential
			if err := r.ReadAt(t.Context(), p, 9*mib+i*2*4096); err != nil {
				t.Error(err)
			}
		})
	}
	busy.Wait()
	if gets := data(r.store.got()); len(gets) != 2 {
		t.Errorf("32 readers of one slot: %d GETs, want a footer and a slot: %v", len(gets), gets)
	}
	r.must(r.Stop())

	for _, size := range []int{64 << 10, mib} {
		r.tune = func(c *Config) { c.Cache = NewCache(64 * mib) }
		r.nextEpoch()
		r.store.reset()
		want := noise(1, 32*mib)
		for off := 0; off < len(want); off += size {
			r.want(int64(off), want[off:off+size])
		}
		gets := data(r.store.got())
		if len(gets) > 20 {
			t.Errorf("32 MiB in reads of %d KiB: %d GETs", size>>10, len(gets))
		}
		if fetched := r.Stats().Fetched; fetched > 34*mib {
			t.Errorf("32 MiB in reads of %d KiB: fetched %d bytes", size>>10, fetched)
		}
		t.Logf("32 MiB in reads of %d KiB: %d GETs", size>>10, len(gets))
	}
}

// A small object is read whole, with its footer.
func TestSmallObjectsTakeOneGet(t *testing.T) {
	r := newRig(t, 64*mib, nil)
	for i := range int64(8) {
		r.write(i*8*mib+i*mib, noise(uint64(i), 4096))
	}
	r.head = r.close()
	r.nextEpoch()
	r.store.reset()
	for i := range int64(8) {
		r.want(i*8*mib+i*mib, noise(uint64(i), 4096))
	}
	if gets := r.store.got(); len(gets) != 1 {
		t.Errorf("8 blocks of one pack of 32 KiB: %v", gets)
	}
}

// data keeps the names of chunks and packs.
func data(names []string) (kept []string) {
	for _, n := range names {
		if strings.HasPrefix(n, chunks.ChunkPrefix) || strings.HasPrefix(n, chunks.PackPrefix) {
			kept = append(kept, n)
		}
	}
	return kept
}

// A random reader is not read ahead for.
func TestReadAheadOnlyWhenSequential(t *testing.T) {
	a := &readAhead{limit: 32 * mib}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		if pieces := a.after(rng.Int64N(1<<40/4096)*4096, 4096, 1<<40); len(pieces) > 0 {
			t.Fatalf("random reads: %v", pieces)
		}
	}
	const from, size = 100 * mib, 200 * mib
	ahead := int64(0)
	for off := int64(from); off < size; off += 4096 {
		for _, p := range a.after(off, 4096, size) {
			if p.from != max(ahead, p.from) || p.from/chunks.Size != (p.to-1)/chunks.Size || p.to > size || p.to > off+4096+a.limit {
				t.Fatalf("at %d: piece %v after %d", off, p, ahead)
			}
			if ahead > 0 && p.from != ahead {
				t.Fatalf("at %d: a gap before %v", off, p)
			}
			ahead = p.to
			a.done()
		}
	}
	if ahead != size {
		t.Errorf("read ahead to %d of %d", ahead, size)
	}
	if a.flying != 0 {
		t.Errorf("%d pieces are under way", a.flying)
	}
}
