package volume

import (
	"math/rand/v2"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
)

// Random 4 KiB writes over a large volume upload little more than themselves,
// tables and roots included, in one generation or in many.
func TestUploadFactor(t *testing.T) {
	const size, writes = 100 << 30, 2400
	for generations, most := range map[int]float64{1: 1.05, 12: 1.5} {
		r := newRig(t, size, nil)
		rng := rand.New(rand.NewPCG(1, 2))
		block := noise(1, 4096)
		for range generations {
			for range writes / generations {
				rng.Uint64()
				block[rng.IntN(4096)]++
				r.write(rng.Int64N(size/4096)*4096, block)
			}
			r.publish("")
		}
		_, total := r.store.put()
		factor := float64(total) / (writes * 4096)
		t.Logf("%d writes in %d generations: %.3f × their bytes", writes, generations, factor)
		if factor > most {
			t.Errorf("%d generations: %.3f × the bytes written, want at most %.2f", generations, factor, most)
		}
	}
}

// The size of a volume costs nothing: the largest one is discarded as a whole,
// as mkfs does, without a GET, and restored with as many as a small one.
func TestLargestVolume(t *testing.T) {
	r := newRig(t, snapshots.MaxSize, nil)
	r.store.reset()
	r.must(r.Discard(r.ctx, 0, snapshots.MaxSize))
	last := int64(snapshots.MaxSize - 4096)
	for _, off := range []int64{0, 1 << 40, last} {
		r.write(off, noise(uint64(off), 4096))
	}
	root := r.publish("")
	if gets := r.store.got(); len(gets) > 0 {
		t.Errorf("reading %v", gets)
	}
	if names, total := r.store.put(); len(names) != 2 || total > 32<<10 {
		t.Errorf("stored %d bytes in %v", total, names)
	}
	c := r.clone(root)
	c.store.reset()
	c.want(last, noise(uint64(last), 4096))
	c.want(2<<40, make([]byte, mib))
	if gets := c.store.got(); len(gets) > 3 {
		t.Errorf("the first reads of a clone: %v", gets)
	}
}

// A discard of what was never written does nothing, wherever it begins and ends
// (B12): it reads as zeros, and only roots are stored.
func TestDiscardOfNothing(t *testing.T) {
	const size = 20*mib + 512
	r := newRig(t, size, nil)
	spans := []span{{512, 512}, {512, 4096}, {8*mib - 512, 8*mib + 512}, {size - 512, size}, {0, size}}
	for _, s := range spans {
		r.must(r.Discard(r.ctx, s.from, s.len()))
		r.must(r.WriteZeroes(r.ctx, s.from, s.len(), true))
		r.restart()
		r.publish("")
	}
	if names, _ := r.store.put(); len(names) != len(spans) {
		t.Errorf("%d discards stored %v", len(spans), names)
	}
	r.head = r.close()
	r.nextEpoch()
	r.want(0, make([]byte, size))
}
