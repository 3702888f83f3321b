package volume

import (
	"math/rand/v2"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

func BenchmarkReadCached4K(b *testing.B) {
	r := newRig(b, 64*mib, func(c *Config) { c.Cache = NewCache(128 * mib); c.readAhead = -1 })
	r.write(0, noise(1, 32*mib))
	r.head = r.close()
	r.nextEpoch()
	r.read(0, 32*mib)
	p := make([]byte, 4096)
	b.SetBytes(4096)
	b.ReportAllocs()
	for b.Loop() {
		if err := r.ReadAt(r.ctx, p, rand.Int64N(32*mib/4096)*4096); err != nil {
			b.Fatal(err)
		}
	}
}

// A cold sequential read, beside its peer: four parallel GETs of the same objects
// that look at nothing.
func BenchmarkReadCold(b *testing.B) {
	const size = 128 * mib
	r := newRig(b, size, nil)
	for off := int64(0); off < size; off += 16 * mib {
		r.write(off, noise(uint64(off), 16*mib))
		r.publish("")
	}
	r.head = r.close()
	objects, err := r.store.List(r.ctx, r.container, chunks.ChunkPrefix, "", 0)
	r.must(err)
	b.Run("volume", func(b *testing.B) {
		b.SetBytes(size)
		p := make([]byte, mib)
		for b.Loop() {
			b.StopTimer()
			r.tune = func(c *Config) { c.Cache, c.Store = NewCache(64*mib), r.store.Store }
			r.nextEpoch()
			b.StartTimer()
			for off := int64(0); off < size; off += mib {
				r.must(r.ReadAt(r.ctx, p, off))
			}
			b.StopTimer()
			r.must(r.Stop())
			b.StartTimer()
		}
	})
	b.Run("GETs", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			var g errgroup.Group
			g.SetLimit(4)
			for _, o := range objects {
				g.Go(func() error {
					_, err := r.store.Store.Get(r.ctx, r.container, o.Name, swift.GetOptions{})
					return err
				})
			}
			r.must(g.Wait())
		}
	})
}

func BenchmarkPublish4K(b *testing.B) {
	r := newRig(b, 64*mib, nil)
	r.write(0, noise(1, 32*mib))
	r.publish("")
	for b.Loop() {
		r.write(rand.Int64N(32*mib/4096)*4096, noise(2, 4096))
		r.publish("")
	}
}
