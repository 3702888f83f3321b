package volume

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
)

// packed publishes a block in each of n chunks, in one pack, and then stores the
// first of these chunks anew, so that the pack is needed for the others alone.
func packed(r *rig, n, anew int64) (first *snapshots.Root) {
	for i := range n {
		r.write(i*chunks.Size+mib, noise(uint64(i), 4096))
	}
	first = r.publish("")
	for i := range anew {
		r.write(i*chunks.Size, noise(uint64(100+i), chunks.Size))
	}
	r.publish("")
	return first
}

// packsOf returns the packs that a root needs.
func packsOf(r *rig, root *snapshots.Root) (packs []chunks.Location) {
	r.t.Helper()
	r.must(snapshots.Reach(r.ctx, r.store.Store, root, func(at chunks.Location) error {
		if strings.HasPrefix(at.Name, chunks.PackPrefix) {
			packs = append(packs, at)
		}
		return nil
	}))
	return packs
}

// A pack of which less than 2/5 is needed is written anew by itself, and is still
// there for roots that need it (R8); one of which more is needed is left alone.
func TestSparsePacksAreCompacted(t *testing.T) {
	for _, c := range []struct {
		anew      int64
		compacted bool
	}{{4, false}, {5, true}} {
		r := newRig(t, 64*mib, nil)
		first := packed(r, 8, c.anew)
		old := packsOf(r, first)[0]
		r.tune = func(c *Config) { c.compact, c.RPO = 5*time.Millisecond, 400*time.Millisecond }
		r.restart()
		if c.compacted {
			waitFor(t, func() bool { return !slices.Contains(packsOf(r, r.Stats().Head), old) })
		} else {
			time.Sleep(time.Second)
		}
		r.head = r.close()
		if packs := packsOf(r, r.head); len(packs) != 1 || (packs[0] != old) != c.compacted {
			t.Errorf("%d of 8 chunks stored anew: packs %v after %v", c.anew, packs, old)
		}
		r.tune = nil
		r.nextEpoch()
		for i := range c.anew {
			r.want(i*chunks.Size, noise(uint64(100+i), chunks.Size))
		}
		for i := c.anew; i < 8; i++ {
			r.want(i*chunks.Size+mib, noise(uint64(i), 4096))
		}
		snapshot := r.clone(first)
		for i := range int64(8) {
			snapshot.want(i*chunks.Size+mib, noise(uint64(i), 4096))
		}
	}
}

// Compaction does little in one generation, nothing in one that somebody waits
// for, and nothing for a chunk that has changed since the search.
func TestCompactionIsBounded(t *testing.T) {
	const n = maxCompact + 10
	r := newRig(t, n*chunks.Size, nil)
	for i := range int64(n) {
		r.write(i*chunks.Size, noise(uint64(i), 4096))
	}
	head := r.publish("")
	old := packsOf(r, head)[0]
	naming := func(root *snapshots.Root) (list []sparse) {
		for e, err := range snapshots.OpenTable(r.store.Store, root).Entries(r.ctx) {
			r.must(err)
			for _, p := range e.Patches {
				if p.Location() == old {
					list = append(list, sparse{e.Chunk, p})
				}
			}
		}
		return list
	}
	r.publisher.sparse.replace(naming(head))
	if left := naming(r.publish(ident.NewSnapshot())); len(left) != n {
		t.Errorf("a snapshot compacted: %d chunks of %d are left", len(left), n)
	}
	r.write(0, noise(1000, 512))
	if left := naming(r.publish("")); len(left) != n-maxCompact+1 || left[0].chunk != 0 {
		t.Errorf("%d chunks are left after one generation", len(left))
	}
	if left := naming(r.publish("")); len(left) != 1 || left[0].chunk != 0 {
		t.Errorf("%d chunks are left, want the one that had changed", len(left))
	}
	r.want(0, append(noise(1000, 512), noise(0, 4096)[512:]...))
	for i := int64(1); i < n; i++ {
		r.want(i*chunks.Size, noise(uint64(i), 4096))
	}
}

// A pack that cannot be read is no reason to stop publishing, nor to compact.
func TestDamageDoesNotStopCompaction(t *testing.T) {
	r := newRig(t, 64*mib, nil)
	packed(r, 8, 6)
	found, err := r.publisher.searchSparse(r.ctx, r.publisher.head.Load())
	r.must(err)
	if len(found) != 2 {
		t.Fatalf("found %v", found)
	}
	r.restart() // so that nothing is cached
	r.store.set(func(s *spy) {
		s.damage = func(name string, body []byte) {
			if strings.HasPrefix(name, chunks.PackPrefix) {
				clear(body)
			}
		}
	})
	again, err := r.publisher.searchSparse(r.ctx, r.publisher.head.Load())
	r.must(err)
	if len(again) > 0 {
		t.Errorf("a damaged pack was found sparse: %v", again)
	}
	r.publisher.sparse.replace(found)
	r.write(2*mib, noise(7, 4096))
	r.publish("")
	r.store.set(func(s *spy) { s.damage = nil })
	r.want(6*chunks.Size+mib, noise(6, 4096))
	r.want(2*mib, noise(7, 4096))
}
