package volume

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/swifttest"
)

// spy is a store that counts and, where a test says so, fails.
type spy struct {
	swift.Store

	mu     sync.Mutex
	puts   []put
	bodies map[string][16]byte // of everything ever put, to see that names are not used again
	reused []string
	gets   []string                    // names
	before func(op, name string) error // its error is the request's
	after  func(op, name string) error // its error hides that the request succeeded
	damage func(name string, body []byte)
	cut    func(name string, body []byte) []byte
	swap   func(name string) string // read instead
}

type put struct {
	name string
	size int64
}

func (s *spy) Put(ctx context.Context, container, name string, body []byte, o swift.PutOptions) (string, error) {
	if err := s.ask(s.before, "put", name); err != nil {
		return "", err
	}
	etag, err := s.Store.Put(ctx, container, name, body, o)
	if err == nil {
		s.mu.Lock()
		s.puts = append(s.puts, put{name, int64(len(body))})
		if sum, ok := s.bodies[container+name]; ok && sum != md5.Sum(body) {
			s.reused = append(s.reused, name)
		}
		if s.bodies == nil {
			s.bodies = map[string][16]byte{}
		}
		s.bodies[container+name] = md5.Sum(body)
		s.mu.Unlock()
		err = s.ask(s.after, "put", name)
	}
	return etag, err
}

func (s *spy) Get(ctx context.Context, container, name string, o swift.GetOptions) (swift.Object, error) {
	if err := s.ask(s.before, "get", name); err != nil {
		return swift.Object{}, err
	}
	from := name
	s.set(func(s *spy) {
		if s.swap != nil {
			from = s.swap(name)
		}
	})
	obj, err := s.Store.Get(ctx, container, from, o)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.gets = append(s.gets, name)
		obj.Body = bytes.Clone(obj.Body)
		if s.damage != nil {
			s.damage(name, obj.Body)
		}
		if s.cut != nil {
			obj.Body = s.cut(name, obj.Body)
		}
	}
	return obj, err
}

func (s *spy) Head(ctx context.Context, container, name string, o swift.HeadOptions) (swift.Info, error) {
	if err := s.ask(s.before, "head", name); err != nil {
		return swift.Info{}, err
	}
	return s.Store.Head(ctx, container, name, o)
}

func (s *spy) ask(hook func(op, name string) error, op, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook(op, name)
}

// set changes a hook while requests run.
func (s *spy) set(change func(*spy)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// reset forgets what was counted.
func (s *spy) reset() {
	s.set(func(s *spy) { s.puts, s.gets = nil, nil })
}

// put returns the names and the bytes of what was put since the reset, fences
// and the like excepted.
func (s *spy) put() (names []string, total int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.puts {
		names = append(names, p.name)
		total += p.size
	}
	return names, total
}

// got returns the names that were read since the reset, looks for fences excepted.
func (s *spy) got() (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range s.gets {
		if !strings.HasPrefix(name, chunks.FencePrefix) {
			names = append(names, name)
		}
	}
	return names
}

// rig is a volume and what it stands on, over openings, epochs and nodes.
type rig struct {
	*Volume
	t         testing.TB
	ctx       context.Context
	store     *spy
	id        ident.Volume
	container string
	epoch     ident.Epoch
	dir       string // of the journal
	head      *snapshots.Root
	size      int64
	tune      func(*Config)
}

// newRig opens a blank volume of size bytes.
func newRig(t testing.TB, size int64, tune func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, ctx: t.Context(), store: &spy{Store: swifttest.NewStore(t)}, size: size, tune: tune}
	return r.start(nil)
}

// start opens the first epoch of a new volume that continues head.
func (r *rig) start(head *snapshots.Root) *rig {
	r.t.Helper()
	r.id, r.head = ident.NewVolume(), head
	r.container = "sb-" + string(r.id)
	r.must(r.store.CreateContainer(r.ctx, r.container))
	r.nextEpoch()
	return r
}

// clone opens a new volume that continues root.
func (r *rig) clone(root *snapshots.Root) *rig {
	r.t.Helper()
	c := &rig{t: r.t, ctx: r.ctx, store: r.store, size: r.size, tune: r.tune}
	return c.start(root)
}

// nextEpoch opens the volume with a new journal, as another node would.
func (r *rig) nextEpoch() {
	r.t.Helper()
	r.epoch = ident.NewEpoch(r.epoch.Number + 1)
	r.dir = filepath.Join(r.t.TempDir(), r.epoch.String())
	r.open()
}

// open opens the volume with the journal that is there, or a new one.
func (r *rig) open() {
	r.t.Helper()
	r.must(r.tryOpen())
}

func (r *rig) tryOpen() error {
	r.t.Helper()
	cfg := delta.Config{Dir: r.dir, SegmentSize: 1 << 20, Quota: 64 << 20, AllowAnyFS: true}
	id := delta.Identity{Volume: r.id, Epoch: r.epoch}
	journal, err := delta.Open(cfg, id)
	if errors.Is(err, fs.ErrNotExist) {
		journal, err = delta.Create(cfg, id, InitialState(r.head, r.size))
	}
	r.must(err)
	config := Config{
		Journal: journal, Store: r.store, Container: r.container, Head: r.head, RPO: time.Hour,
		Missing: 50 * time.Millisecond, pause: backoff{first: time.Millisecond, most: 20 * time.Millisecond},
		OnPublished: func(_ context.Context, p Published) error { r.head = p.Root; return nil },
	}
	if r.tune != nil {
		r.tune(&config)
	}
	v, err := Open(r.ctx, config)
	if err != nil {
		journal.Close()
		return err
	}
	r.Volume = v
	r.t.Cleanup(func() { v.Stop() })
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

// publish seals and waits until that is in Swift.
func (r *rig) publish(s ident.Snapshot) *snapshots.Root {
	r.t.Helper()
	gen, err := r.Seal(r.ctx, s)
	r.must(err)
	root, err := r.Published(r.ctx, gen)
	r.must(err)
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
func within(t testing.TB, f func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("timed out")
		return nil
	}
}

func wantIs(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}
