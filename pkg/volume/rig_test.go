package volume

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/swifttest"
)

// tester is what testing.T and rapid.T have in common.
type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// rig is a volume and what it stands on, over openings, epochs and nodes.
type rig struct {
	*Volume
	t         tester
	ctx       context.Context
	fs        delta.FS // nil: the machine's
	root      string   // directory for journals
	quota     int64    // of a journal; 0: 64 MiB
	store     *spy
	id        ident.Volume
	container string
	epoch     ident.Epoch
	dir       string          // of the journal
	head      *snapshots.Root // that the next opening continues
	recorded  *recorded       // by the openings of this epoch
	size      int64
	keys      keys.Set // none: not encrypted
	tune      func(*Config)
}

// recorded is the newest root that a volume has told of. It belongs to one epoch:
// a zombie's later ones do not reach the rig of the volume that moved on.
type recorded struct{ atomic.Pointer[snapshots.Root] }

// newStore returns the real Swift that ST_AUTH and so on name, or else an embedded
// one.
func newStore(t testing.TB) swift.Store {
	if os.Getenv("ST_AUTH") != "" {
		return swifttest.NewRealStore(t)
	}
	t.Log("store: embedded")
	return swifttest.NewStore(t)
}

// newRig opens a blank volume of size bytes.
func newRig(t testing.TB, size int64, tune func(*Config)) *rig {
	t.Helper()
	r := &rig{
		t: t, ctx: t.Context(), store: &spy{Store: newStore(t)}, root: t.TempDir(),
		size: size, tune: tune,
	}
	return r.start(nil)
}

// start opens the first epoch of a new volume that continues head.
func (r *rig) start(head *snapshots.Root) *rig {
	r.t.Helper()
	r.id, r.head = ident.NewVolume(), head
	r.container = "sb-" + string(r.id)
	waitFor(r.t, func() bool { return r.store.CreateContainer(r.ctx, r.container) == nil }) // faults pass
	r.nextEpoch()
	return r
}

// clone opens a new volume that continues root.
func (r *rig) clone(root *snapshots.Root) *rig {
	r.t.Helper()
	c := &rig{t: r.t, ctx: r.ctx, store: r.store, fs: r.fs, root: r.root, quota: r.quota, size: root.State.Size, tune: r.tune}
	if !r.keys.IsZero() {
		c.keys = keys.New(r.keys)
	}
	return c.start(root)
}

// nextEpoch opens the volume with a new journal, as another node would.
func (r *rig) nextEpoch() {
	r.t.Helper()
	r.epoch = ident.NewEpoch(r.epoch.Number + 1)
	r.dir = filepath.Join(r.root, r.epoch.String())
	r.recorded = &recorded{}
	r.open()
}

// open opens the volume with the journal that is there, or a new one.
func (r *rig) open() {
	r.t.Helper()
	if newest := r.recorded.Load(); newest != nil {
		r.head = newest
	}
	r.must(r.tryOpen())
}

func (r *rig) tryOpen() error {
	r.t.Helper()
	cfg := delta.Config{Dir: r.dir, FS: r.fs, SegmentSize: 1 << 20, Quota: cmp.Or(r.quota, 64<<20), AllowAnyFS: true}
	if !r.keys.IsZero() {
		secret := r.keys.Secret()
		cfg.Key = &secret
	}
	id := delta.Identity{Volume: r.id, Epoch: r.epoch}
	journal, err := delta.Open(cfg, id)
	if errors.Is(err, fs.ErrNotExist) {
		journal, err = delta.Create(cfg, id, InitialState(r.head, r.size))
	}
	r.must(err)
	told := r.recorded
	config := Config{
		Journal: journal, Store: r.store, Container: r.container, Head: r.head, Keys: r.keys, RPO: time.Hour,
		missing: 50 * time.Millisecond, pause: backoff{first: time.Millisecond, most: 20 * time.Millisecond},
		OnPublished: func(_ context.Context, p Published) error { told.Store(p.Root); return nil },
	}
	if r.tune != nil {
		r.tune(&config)
	}
	v, err := Open(r.ctx, config)
	if err != nil {
		journal.Close()
		return err
	}
	if r.Volume == nil {
		r.t.Cleanup(func() { r.Stop() }) // of whatever was opened last
	}
	r.Volume = v
	return nil
}

// restart ends the process, as far as the volume can tell, and starts another.
func (r *rig) restart() {
	r.t.Helper()
	r.must(r.Stop())
	r.open()
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) write(off int64, p []byte) {
	r.t.Helper()
	r.must(r.WriteAt(r.ctx, p, off, false))
}

func (r *rig) read(off, n int64) []byte {
	r.t.Helper()
	p := bytes.Repeat([]byte{0xa5}, int(n)) // what is left as it is must show
	r.must(r.ReadAt(r.ctx, p, off))
	return p
}

// want checks the bytes at off.
func (r *rig) want(off int64, p []byte) {
	r.t.Helper()
	if got := r.read(off, int64(len(p))); !bytes.Equal(got, p) {
		for i := range got {
			if got[i] != p[i] {
				r.t.Fatalf("byte %d is %#x instead of %#x", off+int64(i), got[i], p[i])
			}
		}
	}
}

// publish seals and waits until that is in Swift, and no longer in the journal.
func (r *rig) publish(s ident.Snapshot) *snapshots.Root {
	r.t.Helper()
	gen, err := r.Seal(r.ctx, s)
	r.must(err)
	root, err := r.Published(r.ctx, gen)
	r.must(err)
	waitFor(r.t, func() bool { return r.journal.Retired() >= gen })
	return root
}

// close closes the volume in good order.
func (r *rig) close() *snapshots.Root {
	r.t.Helper()
	root, err := r.Close(r.ctx)
	r.must(err)
	return root
}

// noise returns n bytes that do not compress, the same for the same seed.
func noise(seed uint64, n int) []byte {
	p := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24)})
	rng.Read(p)
	return p
}

// within fails the test if f does not return in good time.
func within(t tester, f func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		t.Fatal("timed out")
		return nil
	}
}

func wantIs(t tester, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}
