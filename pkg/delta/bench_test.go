package delta

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkFlushedWrites compares flushed random 4 KiB writes through the
// journal with pwrite and fdatasync in a sparse file, in one run: a batch of
// concurrent writes, then a flush. The ratio is what counts.
func BenchmarkFlushedWrites(b *testing.B) {
	const size = 1 << 30
	for _, batch := range []int{1, 32} {
		name := map[int]string{1: "batch=1", 32: "batch=32"}[batch]
		b.Run("journal/"+name, func(b *testing.B) {
			cfg := Config{Dir: filepath.Join(b.TempDir(), "journal"), Quota: 1 << 30, IdleWatermark: time.Hour, AllowAnyFS: true}
			j := mustCreate(b, cfg, testIdentity(), size)
			ctx := context.Background()
			flushed(b, batch, size, func(off int64, p []byte) error { return j.Write(ctx, off, p, false) },
				func() error { return j.Sync(ctx) })
			if s := j.Stats(); s.Fill > 0.9 {
				b.Logf("log %.0f %% full: figures include delays", 100*s.Fill)
			}
		})
		b.Run("sparse/"+name, func(b *testing.B) {
			f, err := os.Create(filepath.Join(b.TempDir(), "sparse"))
			check(b, err)
			defer f.Close()
			check(b, f.Truncate(size))
			flushed(b, batch, size, func(off int64, p []byte) error { _, err := f.WriteAt(p, off); return err },
				func() error { return unix.Fdatasync(int(f.Fd())) })
		})
	}
}

// flushed runs b.N writes in batches, each from goroutines of its own.
func flushed(b *testing.B, batch int, size int64, write func(int64, []byte) error, flush func() error) {
	blocks := make([][]byte, batch)
	for i := range blocks {
		blocks[i] = pattern(uint64(i), Block)
	}
	r := rand.New(rand.NewPCG(1, 2))
	b.SetBytes(Block)
	b.ResetTimer()
	for done := 0; done < b.N; done += batch {
		var wg sync.WaitGroup
		for _, p := range blocks {
			off := r.Int64N(size/Block) * Block
			wg.Go(func() {
				if err := write(off, p); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
		if err := flush(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "IOPS")
}
