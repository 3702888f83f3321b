package volume

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/delta/crashfs"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// slowDisk holds every sync of a file while syncs is locked.
type slowDisk struct {
	delta.FS
	syncs sync.RWMutex
}

type slowFile struct {
	delta.File
	disk *slowDisk
}

func (d *slowDisk) Create(name string) (delta.File, error) {
	f, err := d.FS.Create(name)
	return slowFile{f, d}, err
}

func (f slowFile) Sync() error {
	f.disk.syncs.RLock()
	defer f.disk.syncs.RUnlock()
	return f.File.Sync()
}

// A call that gave up while its cut was being synced has cut all the same: the
// next one for the snapshot gets that cut, once it is durable and not before (R4),
// and its record is stored without another call for it.
func TestSealThatGaveUpKeepsItsCut(t *testing.T) {
	disk := &slowDisk{FS: crashfs.New(rand.New(rand.NewPCG(1, 1)))}
	r := &rig{t: t, ctx: t.Context(), store: &spy{Store: newStore(t)}, root: "/", fs: disk, size: 32 * mib}
	r.start(nil)
	r.write(0, noise(1, 4096))
	r.must(r.Flush(r.ctx))

	disk.syncs.Lock()
	s := ident.NewSnapshot()
	cut := r.journal.Active()
	for range 2 { // the second finds the cut, and waits as well
		hurried, cancel := context.WithTimeout(r.ctx, 50*time.Millisecond)
		if gen, err := r.Seal(hurried, s); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("sealed as generation %d while nothing can be durable: %v", gen, err)
		}
		cancel()
	}
	disk.syncs.Unlock()
	gen, err := r.Seal(r.ctx, s)
	r.must(err)
	if gen != cut {
		t.Errorf("cut as generation %d and again as %d", cut, gen)
	}
	root, err := r.Published(r.ctx, gen)
	r.must(err)
	if root.Snapshot != s {
		t.Errorf("generation %d is of snapshot %q", gen, root.Snapshot)
	}
	if again, err := r.Seal(r.ctx, s); err != nil || again != cut {
		t.Errorf("after its publication: generation %d, %v", again, err)
	}
}
