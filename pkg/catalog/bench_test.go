package catalog_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/embedded"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/swifttest"
)

// BenchmarkCreateVolume makes empty volumes with the file authority and the
// embedded store, both durable, by 16 callers. It also reports what the disk
// does: one caller that writes 1 KiB and syncs.
func BenchmarkCreateVolume(b *testing.B) {
	a, err := authority.OpenFile(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	store, _ := swifttest.NewServer(b, embedded.Options{})
	c := catalog.New(catalog.Config{Authority: a, Store: store, Prefix: prefix, Cluster: cluster})
	syncs := syncsPerSecond(b)
	var n atomic.Int64
	b.SetParallelism(16 / runtime.GOMAXPROCS(0))
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			spec := catalog.VolumeSpec{Name: fmt.Sprint(n.Add(1)), Required: mib}
			if _, err := c.CreateVolume(b.Context(), spec); err != nil {
				b.Error(err)
			}
		}
	})
	b.StopTimer()
	creates := float64(b.N) / b.Elapsed().Seconds()
	b.ReportMetric(creates, "creates/s")
	b.ReportMetric(syncs, "syncs/s")
	b.ReportMetric(creates/syncs, "creates/sync")
}

// syncsPerSecond measures the disk of the temporary directory for a second.
func syncsPerSecond(b *testing.B) float64 {
	f, err := os.Create(filepath.Join(b.TempDir(), "syncs"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	start, n := time.Now(), 0
	for ; time.Since(start) < time.Second; n++ {
		if _, err := f.Write(make([]byte, 1024)); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	return float64(n) / time.Since(start).Seconds()
}

// BenchmarkListVolumes lists all volumes in pages of 1000, as the file authority
// holds them; time per volume must not grow with their number.
func BenchmarkListVolumes(b *testing.B) {
	for _, count := range []int{1000, 10000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			a, err := authority.OpenFile(memoryDir(b))
			if err != nil {
				b.Fatal(err)
			}
			for i := range count {
				id := ident.NewVolume()
				_, err := a.Volumes().Create(b.Context(), string(id), authority.Volume{
					ID: id, Name: fmt.Sprintf("pvc-%d", i), Container: prefix + string(id), Size: mib, State: authority.Ready,
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			c := catalog.New(catalog.Config{Authority: a, Store: nil})
			b.ReportAllocs()
			for b.Loop() {
				seen := 0
				for after := ident.Volume(""); ; {
					page, next, err := c.ListVolumes(b.Context(), after, 1000)
					if err != nil {
						b.Fatal(err)
					}
					seen += len(page)
					if after = next; next == "" {
						break
					}
				}
				if seen != count {
					b.Fatalf("listed %d of %d", seen, count)
				}
			}
			b.ReportMetric(b.Elapsed().Seconds()/float64(b.N*count)*1e6, "µs/volume")
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			b.ReportMetric(float64(m.Sys)/mib, "MiB-sys")
		})
	}
}

// memoryDir is a directory where syncs cost nothing, if there is one.
func memoryDir(b *testing.B) string {
	dir, err := os.MkdirTemp("/dev/shm", "catalog")
	if err != nil {
		return b.TempDir()
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
