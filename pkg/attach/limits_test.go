package attach

import (
	"crypto/rand"
	"path/filepath"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/class"
	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/swifttest"
	"github.com/swiftblock/csi-swiftblock/pkg/volume"
)

// Volumes that may upload little per second do not slow others down.
func TestUploadBandwidthHoldsUpNoOtherVolume(t *testing.T) {
	store := swifttest.NewStore(t)
	traffic := volume.NewTraffic(0)
	open := func(p class.Mutable) *volume.Volume {
		t.Helper()
		id, epoch := ident.NewVolume(), ident.NewEpoch(1)
		if err := store.CreateContainer(t.Context(), string(id)); err != nil {
			t.Fatal(err)
		}
		j, err := delta.Create(delta.Config{
			Dir: filepath.Join(t.TempDir(), "j"), SegmentSize: 4 << 20, Quota: 256 << 20, AllowAnyFS: true, Prewrite: -1,
		}, delta.Identity{Volume: id, Epoch: epoch}, delta.State{Size: 64 << 20})
		if err != nil {
			t.Fatal(err)
		}
		l := newLimits()
		l.set(p)
		if p.UploadBandwidth > 0 { // as after it has uploaded for a while
			l.uploads.AllowN(time.Now(), most)
		}
		uploads := throttled{store, l.uploads, newMetrics().uploaded.WithLabelValues(string(id))}
		v, err := volume.Open(t.Context(), volume.Config{
			Journal: j, Container: string(id), Traffic: traffic, RPO: time.Hour,
			Store: uploads, Await: uploads.await,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { v.Stop() })
		return v
	}
	seal := func(v *volume.Volume, chunks, bytes int) uint64 {
		t.Helper()
		p := make([]byte, bytes)
		rand.Read(p)
		for c := range chunks {
			if err := v.WriteAt(t.Context(), p, int64(c)*8<<20, false); err != nil {
				t.Fatal(err)
			}
		}
		gen, err := v.Seal(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		return gen
	}
	for range 2 {
		seal(open(class.Mutable{UploadBandwidth: class.MinBandwidth}), 4, 4<<20)
	}
	time.Sleep(500 * time.Millisecond) // they upload
	other := open(class.Mutable{})
	began := time.Now()
	gen := seal(other, 1, 4096)
	if _, err := other.Published(t.Context(), gen); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 3*time.Second { // an object of the others takes four
		t.Errorf("4 KiB of a volume without a limit took %v", took)
	}
}
