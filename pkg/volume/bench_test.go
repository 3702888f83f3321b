package volume

import (
	"math/rand/v2"
	"testing"
)

func BenchmarkReadCached4K(b *testing.B) {
	r := newRig(b, 64*mib, func(c *Config) { c.Cache = NewCache(128 * mib); c.ReadAhead = -1 })
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

func BenchmarkReadCold(b *testing.B) {
	const size = 128 * mib
	r := newRig(b, size, nil)
	for off := int64(0); off < size; off += 16 * mib {
		r.write(off, noise(uint64(off), 16*mib))
		r.publish("")
	}
	r.head = r.close()
	b.SetBytes(size)
	p := make([]byte, mib)
	for b.Loop() {
		r.tune = func(c *Config) { c.Cache = NewCache(64 * mib) }
		r.nextEpoch()
		for off := int64(0); off < size; off += mib {
			r.must(r.ReadAt(r.ctx, p, off))
		}
		r.must(r.Stop())
	}
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
