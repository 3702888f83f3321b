package delta

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

const mib = 1 << 20

func testIdentity() Identity {
	return Identity{Volume: ident.NewVolume(), Epoch: ident.NewEpoch(1)}
}

func testConfig(t testing.TB) Config {
	return Config{
		Dir:           filepath.Join(t.TempDir(), "journal"),
		SegmentSize:   256 << 10,
		Quota:         64 * 256 << 10,
		IdleWatermark: time.Hour,
		AllowAnyFS:    true,
	}
}

func mustCreate(t testing.TB, cfg Config, id Identity, size int64) *Journal {
	t.Helper()
	j, err := Create(cfg, id, State{Size: size})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func mustOpen(t testing.TB, cfg Config, id Identity) *Journal {
	t.Helper()
	j, err := Open(cfg, id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pattern returns n bytes that differ with seed.
func pattern(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

// contents reads the whole journal; holes are 0xEE.
func contents(t testing.TB, j *Journal, off, n int64) []byte {
	t.Helper()
	p := make([]byte, n)
	holes, err := j.Read(context.Background(), p, off)
	check(t, err)
	for _, h := range holes {
		fill(p[h.Off-off:][:h.Len], 0xEE)
	}
	return p
}

func fill(p []byte, b byte) {
	for i := range p {
		p[i] = b
	}
}

// image is a volume as the test expects it; holes are 0xEE.
type image []byte

func newImage(n int) image { m := make(image, n); fill(m, 0xEE); return m }

func TestReadsFindWhatWasWritten(t *testing.T) {
	ctx := context.Background()
	cfg, id := testConfig(t), testIdentity()
	const size = 20 * mib
	j := mustCreate(t, cfg, id, size)
	want := newImage(size)
	put := func(off, n int64, seed uint64) {
		p := pattern(seed, int(n))
		check(t, j.Write(ctx, off, p, seed%3 == 0))
		copy(want[off:], p)
	}
	zero := func(off, n int64) {
		check(t, j.Zero(ctx, off, n, false))
		clear(want[off : off+n])
	}
	put(0, 4096, 1)
	put(512, 512, 2)
	put(3*512, 7*512, 3)          // crosses a block, partly on both sides
	put(8*mib-1024, 2*mib+512, 4) // crosses chunks and records
	zero(9*mib+512, 3*512)
	put(1*mib, 64<<10, 5)
	zero(1*mib+4096, 8192)
	_, err := j.Seal(ctx, "", false)
	check(t, err)
	put(1*mib+512, 512, 6)
	zero(4*mib+512, 13*mib) // whole chunks and ragged ends
	put(9*mib, 4096, 7)
	put(size-512, 512, 8)
	compare(t, j, want)
	check(t, j.Close())
	compare(t, mustOpen(t, cfg, id), want)
}

func compare(t testing.TB, j *Journal, want image) {
	t.Helper()
	got := contents(t, j, 0, int64(len(want)))
	for s := 0; s < len(want); s += Sector {
		if !bytes.Equal(got[s:s+Sector], want[s:s+Sector]) {
			t.Fatalf("sector %d differs: has %x..., want %x...", s/Sector, got[s:s+4], want[s:s+4])
		}
	}
}

func TestSealedLayerIsTheCut(t *testing.T) {
	ctx := context.Background()
	cfg, id := testConfig(t), testIdentity()
	j := mustCreate(t, cfg, id, 32*mib)
	check(t, j.Write(ctx, 8*mib+512, pattern(1, 8192), false))
	check(t, j.Zero(ctx, 16*mib, 8*mib, false))
	check(t, j.SetState(ctx, State{Size: 64 * mib, Formatted: Formatting}))
	snapshot := ident.NewSnapshot()
	l, err := j.Seal(ctx, snapshot, true)
	check(t, err)
	check(t, j.Write(ctx, 8*mib+512, pattern(2, 4096), false))

	verify := func(l *Layer) {
		t.Helper()
		if l.Gen() != 1 || l.Snapshot() != snapshot || !l.Clean() || l.State() != (State{64 * mib, Formatting}) {
			t.Fatalf("layer: %+v", l)
		}
		if got := slices.Collect(l.Chunks()); !slices.Equal(got, []uint64{1, 2}) {
			t.Fatalf("chunks %v", got)
		}
		if got := l.Extents(1); !slices.Equal(got, []Extent{{8*mib + 512, 8192, false}}) {
			t.Fatalf("extents %v", got)
		}
		if got := l.Extents(2); !slices.Equal(got, []Extent{{16 * mib, 8 * mib, true}}) {
			t.Fatalf("extents %v", got)
		}
		p := make([]byte, 8192)
		check(t, l.ReadAt(ctx, p, 8*mib+512))
		if !bytes.Equal(p, pattern(1, 8192)) {
			t.Fatal("the layer changed after its seal")
		}
		if err := l.ReadAt(ctx, p, 8*mib); !errors.Is(err, ErrInvalid) {
			t.Fatalf("read outside the extents: %v", err)
		}
	}
	verify(l)
	check(t, j.Close())
	j = mustOpen(t, cfg, id)
	cut := l.Sealed()
	if l = j.Sealed()[0]; !l.Sealed().Equal(cut) || cut.IsZero() {
		t.Fatalf("sealed at %v, after recovery %v", cut, l.Sealed())
	}
	if n := len(j.Sealed()); n != 1 || j.Active() != 2 || !j.Dirty() || j.Retired() != 0 {
		t.Fatalf("%d sealed layers, generation %d after recovery", n, j.Active())
	}
	verify(j.Sealed()[0])
}

func TestRetiredSegmentsAreUsedAgain(t *testing.T) { // B9
	ctx, cancel := context.WithTimeout(context.Background(), 45*time.Second) // of holding, were it for ever
	defer cancel()
	cfg, id := testConfig(t), testIdentity()
	cfg.Quota = 6 * cfg.SegmentSize
	j := mustCreate(t, cfg, id, 16*mib)
	for gen := uint64(1); gen <= 40; gen++ { // 40 × 200 KiB through 1.5 MiB of log
		p := pattern(gen, 200<<10)
		check(t, j.Write(ctx, 0, p, false))
		l, err := j.Seal(ctx, "", false)
		check(t, err)
		check(t, j.SaveRoot(gen, p[:100]))
		check(t, j.SaveRoot(gen, p[:100]))
		if err := j.SaveRoot(gen, p[:99]); !errors.Is(err, ErrInvalid) {
			t.Fatalf("another root for the same generation: %v", err)
		}
		if gen%7 == 0 {
			check(t, j.Close())
			j = mustOpen(t, cfg, id)
			l = j.Sealed()[0]
			if root, ok := j.SavedRoot(gen); !ok || !bytes.Equal(root, p[:100]) {
				t.Fatalf("root of generation %d is lost", gen)
			}
		}
		got := make([]byte, len(p))
		check(t, l.ReadAt(ctx, got, 0))
		if l.Gen() != gen || !bytes.Equal(got, p) {
			t.Fatalf("generation %d reads wrong", gen)
		}
		check(t, j.Retire(ctx, gen))
		check(t, j.Retire(ctx, gen))
		if err := l.ReadAt(ctx, got, 0); !errors.Is(err, ErrRetired) {
			t.Fatalf("read of a retired layer: %v", err)
		}
		if _, ok := j.SavedRoot(gen); ok {
			t.Fatal("root kept after its generation was retired")
		}
		holes, err := j.Read(ctx, got, 0)
		check(t, err)
		if !slices.Equal(holes, []Span{{0, 200 << 10}}) {
			t.Fatalf("holes %v", holes)
		}
	}
	if err := j.Retire(ctx, 41); !errors.Is(err, ErrNotSealed) {
		t.Fatalf("retire of the active generation: %v", err)
	}
}

// Writes that nobody flushes cost no sync, and one flush serves them all.
func TestWritesDoNotSync(t *testing.T) { // B15
	ctx := context.Background()
	j := mustCreate(t, testConfig(t), testIdentity(), mib)
	before := j.Stats().Syncs
	for i := range int64(10) {
		check(t, j.Write(ctx, i*Block, pattern(1, Block), false))
	}
	if n := j.Stats().Syncs - before; n != 0 {
		t.Errorf("%d syncs for 10 writes", n)
	}
	check(t, j.Sync(ctx))
	if n := j.Stats().Syncs - before; n != 1 {
		t.Errorf("%d syncs for 10 writes and a flush", n)
	}
}

func TestOverlappingWritesEndAsOneAndTheSameAfterRecovery(t *testing.T) { // B1, B11
	ctx := context.Background()
	cfg, id := testConfig(t), testIdentity()
	j := mustCreate(t, cfg, id, 4*mib)
	for round := range 30 { // in most of them a record takes several writes
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				n := int64(1+w%3) * 33 * Sector
				p := make([]byte, n)
				fill(p, byte(round*8+w))
				if err := j.Write(ctx, int64(w%2)*Sector, p, w == 3); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		common := contents(t, j, Sector, 32*Sector) // all writes cover it
		for i := range common {
			if common[i] != common[0] {
				t.Fatalf("bytes of two writes are mixed: %d and %d", common[0], common[i])
			}
		}
		all := contents(t, j, 0, 100*Sector)
		check(t, j.Close())
		j = mustOpen(t, cfg, id)
		if got := contents(t, j, 0, 100*Sector); !bytes.Equal(got, all) {
			t.Fatalf("round %d: recovery found another order than the running journal had", round)
		}
	}
}

func TestCreateAndOpenRefuse(t *testing.T) {
	cfg, id := testConfig(t), testIdentity()
	if _, err := Open(cfg, id); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no journal: %v", err)
	}
	j := mustCreate(t, cfg, id, mib)
	if _, err := Open(cfg, id); !errors.Is(err, ErrLocked) { // B5
		t.Errorf("second opening: %v", err)
	}
	check(t, j.Close())
	if _, err := Create(cfg, id, State{Size: mib}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("create over a journal: %v", err)
	}
	if _, err := Open(cfg, testIdentity()); !errors.Is(err, ErrForeign) {
		t.Errorf("other identity: %v", err)
	}
	if err := j.Write(context.Background(), 0, make([]byte, 512), false); !errors.Is(err, ErrClosed) {
		t.Errorf("write after close: %v", err)
	}
	if _, err := j.Read(context.Background(), make([]byte, 512), 0); !errors.Is(err, ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
	j = mustOpen(t, cfg, id)
	for _, r := range []struct{ off, n int64 }{{1, 512}, {0, 511}, {-512, 512}, {mib, 512}, {mib - 512, 1024}} {
		if err := j.Write(context.Background(), r.off, make([]byte, r.n), false); !errors.Is(err, ErrInvalid) {
			t.Errorf("write of %d at %d: %v", r.n, r.off, err)
		}
	}
	check(t, j.Destroy())
	if _, err := Open(cfg, id); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Destroy: %v", err)
	}
	cfg.AllowAnyFS = false
	cfg.Dir = "/dev/shm/csi-swiftblock-test"
	if _, err := Create(cfg, id, State{Size: mib}); !errors.Is(err, ErrUnfit) {
		t.Errorf("journal on tmpfs: %v", err)
	}
}

// fullFS has room for a few files only.
type fullFS struct {
	FS
	room int
}

func (f *fullFS) Create(name string) (File, error) {
	file, err := f.FS.Create(name)
	return fullFile{file, f}, err
}

type fullFile struct {
	File
	fs *fullFS
}

func (f fullFile) Allocate(size int64) error {
	if f.fs.room--; f.fs.room < 0 {
		return ErrFull
	}
	return f.File.Allocate(size)
}

func TestFailedCreateLeavesNothing(t *testing.T) {
	cfg := testConfig(t)
	cfg.FS = &fullFS{FS: osFS{}, room: 5}
	if _, err := Create(cfg, testIdentity(), State{Size: mib}); !errors.Is(err, ErrFull) {
		t.Fatalf("create without space: %v", err)
	}
	if names, err := cfg.FS.ReadDir(filepath.Dir(cfg.Dir)); err != nil || len(names) != 0 {
		t.Errorf("left behind: %v, %v", names, err)
	}
}

// A journal of a later format is neither taken for a damaged one nor touched.
func TestNewerJournalIsRefused(t *testing.T) {
	cfg, id := testConfig(t), testIdentity()
	check(t, mustCreate(t, cfg, id, mib).Close())
	name := filepath.Join(cfg.Dir, anchorName)
	p, err := os.ReadFile(name)
	check(t, err)
	for at := 0; at < len(p); at += Block {
		binary.LittleEndian.PutUint16(p[at+8:], encryptedVersion+1)
		binary.LittleEndian.PutUint32(p[at+crcAt:], checksum(p[at:at+crcAt]))
	}
	check(t, os.WriteFile(name, p, 0o600))
	if _, err := Open(cfg, id); !errors.Is(err, ErrNewer) || errors.Is(err, ErrDamaged) {
		t.Errorf("a newer journal: %v", err)
	}
	if now, err := os.ReadFile(name); err != nil || !bytes.Equal(now, p) {
		t.Error("a newer journal was changed")
	}
}
