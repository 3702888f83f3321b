package delta

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkFlushedWrites compares flushed random 4 KiB writes through the
// journal with pwrite and fdatasync in a sparse file: batches of concurrent
// writes, each followed by a flush. The two take turns, so that both meet the
// same disk; what counts is the ratio of the medians. An iteration is a batch.
func BenchmarkFlushedWrites(b *testing.B) {
	const size = 1 << 30
	for _, batch := range []int{1, 32, 128} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			ctx := context.Background()
			cfg := Config{Dir: filepath.Join(b.TempDir(), "journal"), Quota: 1 << 30, IdleWatermark: time.Hour, AllowAnyFS: true}
			j := mustCreate(b, cfg, testIdentity(), size)
			f, err := os.Create(filepath.Join(b.TempDir(), "sparse"))
			check(b, err)
			defer f.Close()
			check(b, f.Truncate(size))

			r := rand.New(rand.NewPCG(1, 2))
			var ours, plain []time.Duration
			for b.Loop() {
				ours = append(ours, flushed(b, r, batch, size,
					func(off int64, p []byte) error { return j.Write(ctx, off, p, false) },
					func() error { return j.Sync(ctx) }))
				plain = append(plain, flushed(b, r, batch, size,
					func(off int64, p []byte) error { _, err := f.WriteAt(p, off); return err },
					func() error { return unix.Fdatasync(int(f.Fd())) }))
				if j.Stats().Fill > 0.5 {
					l, err := j.Seal(ctx, "", false)
					check(b, err)
					check(b, j.Retire(ctx, l.Gen()))
				}
			}
			a, z := median(ours), median(plain)
			b.ReportMetric(float64(batch)/a.Seconds(), "journal-IOPS")
			b.ReportMetric(float64(batch)/z.Seconds(), "sparse-IOPS")
			b.ReportMetric(z.Seconds()/a.Seconds(), "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// flushed times one batch, each write from a goroutine of its own.
func flushed(b *testing.B, r *rand.Rand, batch int, size int64, write func(int64, []byte) error, flush func() error) time.Duration {
	p := pattern(1, Block)
	start := time.Now()
	var wg sync.WaitGroup
	for range batch {
		off := r.Int64N(size/Block) * Block
		wg.Go(func() {
			if err := write(off, p); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
	check(b, flush())
	return time.Since(start)
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
