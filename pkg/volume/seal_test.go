package volume

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/delta/crashfs"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
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

// A close that was given up may have published its clean generation all the same,
// and the volume goes on. The next close meets a seal, by age, that is being synced:
// what was written in between is neither in the active layer nor durably sealed, but
// it is to be published before the volume is closed.
func TestCloseWaitsForASealThatIsBeingSynced(t *testing.T) {
	disk := &slowDisk{FS: crashfs.New(rand.New(rand.NewPCG(1, 1)))}
	r := &rig{t: t, ctx: t.Context(), store: &spy{Store: newStore(t)}, root: "/", fs: disk, size: 32 * mib}
	r.start(nil)
	r.write(0, noise(1, 4096))
	gen, err := r.publisher.seal(r.ctx, "", true) // what is left of the close
	r.must(err)
	_, err = r.Published(r.ctx, gen)
	r.must(err)
	waitFor(t, func() bool { return r.journal.Retired() >= gen })
	r.write(8*mib, noise(2, 4096))
	r.must(r.Flush(r.ctx))

	disk.syncs.Lock()
	sealed, closed := make(chan error, 1), make(chan error, 1)
	go func() { _, err := r.Seal(context.Background(), ""); sealed <- err }()
	waitFor(t, func() bool { return r.journal.Active() == gen+2 })
	var root *snapshots.Root
	go func() {
		var err error
		root, err = r.Close(context.Background())
		closed <- err
	}()
	time.Sleep(100 * time.Millisecond)
	disk.syncs.Unlock()
	r.must(<-closed)
	<-sealed
	if root.Ref.Gen <= gen {
		t.Errorf("closed with generation %d, though %d holds what was written since", root.Ref.Gen, gen+1)
	}
}

// Of two closes one is given up: what the other returns holds all that was
// acknowledged all the same.
func TestClosesDoNotOpenForEachOther(t *testing.T) {
	r := newRig(t, 32*mib, nil)
	r.write(0, noise(1, 4096))
	r.store.set(func(s *spy) {
		s.before = func(op, _ string) error {
			if op == "put" {
				return swift.ErrUnavailable
			}
			return nil
		}
	})
	hurried, cancel := context.WithTimeout(r.ctx, 200*time.Millisecond)
	defer cancel()
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { _, err := r.Close(hurried); first <- err }()
	time.Sleep(50 * time.Millisecond)
	var root *snapshots.Root
	go func() {
		var err error
		root, err = r.Close(context.Background())
		second <- err
	}()
	wantIs(t, <-first, context.DeadlineExceeded)
	content := noise(3, 4096)
	short, cancel := context.WithTimeout(r.ctx, 200*time.Millisecond)
	defer cancel()
	acknowledged := r.WriteAt(short, content, 8*mib, true) == nil
	r.store.set(func(s *spy) { s.before = nil })
	r.must(<-second)
	r.head, r.recorded = root, &recorded{}
	r.nextEpoch()
	if got := r.read(8*mib, 4096); acknowledged && !bytes.Equal(got, content) {
		t.Error("an acknowledged write is not in the root that the close returned")
	}
}

// While Swift is away a volume is closed again and again: one clean generation waits for it,
// and another one only if something was written since.
func TestClosesThatGiveUpCutOnce(t *testing.T) {
	r := newRig(t, 32*mib, nil)
	r.store.set(func(s *spy) { s.before = func(string, string) error { return swift.ErrUnavailable } })
	giveUp := func(times int) uint64 {
		t.Helper()
		for range times {
			ctx, cancel := context.WithCancel(r.ctx)
			defer cancel()
			closed := make(chan error, 1)
			go func() { _, err := r.Close(ctx); closed <- err }()
			waitFor(t, func() bool { last := r.publisher.lastSealed(); return last != nil && last.Clean() })
			time.Sleep(50 * time.Millisecond) // for another cut, if one was there before
			cancel()
			wantIs(t, <-closed, context.Canceled)
		}
		return r.journal.Active()
	}
	r.write(0, noise(1, 4096))
	first := giveUp(1)
	if again := giveUp(3); again != first {
		t.Errorf("three more closes have cut %d generations", again-first)
	}
	r.write(0, noise(2, 4096))
	if again := giveUp(2); again != first+1 {
		t.Errorf("after a write two closes have cut %d generations", again-first)
	}
	r.store.set(func(s *spy) { s.before = nil })
	root, err := r.Close(r.ctx)
	r.must(err)
	if !root.State.Clean || root.Ref.Gen != first {
		t.Errorf("closed as %+v", root.Ref)
	}
}

// A volume that is closed while a seal waits for its turn is not sealed once more: what says
// that the close was clean is its last generation.
func TestNoSealAfterAClose(t *testing.T) {
	r := newRig(t, 16*mib, nil)
	r.store.set(func(s *spy) { s.before = func(string, string) error { return errAway } })
	p := r.publisher
	r.write(0, noise(1, 4096))
	p.sealing <- struct{}{} // a close has the turn
	waits := make(chan struct{})
	go func() { defer close(waits); p.sealDue(r.ctx) }()
	time.Sleep(20 * time.Millisecond)
	if _, err := p.push(r.ctx, "", true); err != nil {
		t.Fatal(err)
	}
	<-p.sealing
	<-waits
	if sealed := r.journal.Sealed(); len(sealed) != 1 || !sealed[0].Clean() {
		t.Errorf("%d generations wait, want the one of the close", len(sealed))
	}
}
