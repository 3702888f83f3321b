package image

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/swifttest"
)

// root is that of an import that was completed.
func (w *world) root(t *testing.T, name string) *snapshots.Root {
	t.Helper()
	target := w.volumes[name]
	root, err := snapshots.LoadRoot(t.Context(), w, target.Container, w.complete[target.Volume])
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// imported is a volume made of rawSample whose second generation patches it: data
// into a hole, zeros and data over data, with one pack for two chunks.
func imported(t *testing.T, w *world) (*snapshots.Root, []byte) {
	t.Helper()
	path, content := rawSample(t)
	if _, err := Import(t.Context(), Config{Store: w, Volumes: w, Image: openImage(t, path), Name: "v"}); err != nil {
		t.Fatal(err)
	}
	root := w.root(t, "v")
	table := snapshots.OpenTable(w, root)
	origin := snapshots.Origin{Container: root.Container, Epoch: ident.NewEpoch(2), Open: ident.NewOpen()}
	pack := snapshots.PackRef{Origin: origin, Gen: 1, N: 0}
	extents := []chunks.Extent{
		{Chunk: 0, Off: 4096, Len: 8192, Zero: true},
		{Chunk: 0, Off: 1 << 20, Len: 512, Data: noise(7, 512)},
		{Chunk: 1, Off: 0, Len: 4096, Data: noise(8, 4096)},
	}
	object, err := chunks.EncodePack(pack.Location(), extents, chunks.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Put(t.Context(), root.Container, pack.Location().Name, object, swift.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	changes := map[uint64]snapshots.Entry{}
	for _, chunk := range []uint64{0, 1} {
		e, err := table.Entry(t.Context(), chunk)
		if err != nil {
			t.Fatal(err)
		}
		e.Patches = append(e.Patches, pack)
		changes[chunk] = e
	}
	u, err := table.Update(t.Context(), snapshots.Change{
		Origin: origin, Gen: 1, State: root.State, Entries: changes,
		Parent: snapshots.Parent{Container: root.Container, Ref: root.Ref},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range extents {
		at := content[int64(e.Chunk)*chunks.Size+int64(e.Off):][:e.Len]
		clear(at)
		copy(at, e.Data)
	}
	return u.Root, content
}

// An image that was imported and written to since comes out byte for byte: to a
// file with holes, to a pipe without.
func TestExport(t *testing.T) {
	w := newWorld(t)
	root, content := imported(t, w)
	const more = 3*chunks.Size + 512 // that the volume has grown by since
	want := append(bytes.Clone(content), make([]byte, more)...)
	version := NewVersion(w, root, int64(len(want)), nil)
	for _, parallel := range []int{1, 4} {
		last := int64(0)
		x := Export{Content: version, Parallel: parallel, Progress: func(done, total int64) {
			if done < last || total != int64(len(want)) {
				t.Errorf("progress from %d to %d of %d", last, done, total)
			}
			last = done
		}}
		path := filepath.Join(t.TempDir(), "out")
		written, err := x.ToFile(t.Context(), path, false)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) || last != int64(len(want)) || written.Size != last {
			t.Errorf("the file of %d bytes differs, progress ended at %d", len(got), last)
		}
		// The full chunk less two blocks of zeros, and a block in each of the three others.
		var on unix.Stat_t
		if err := unix.Stat(path, &on); err != nil {
			t.Fatal(err)
		}
		if data := int64(chunks.Size + 4096); written.Data != data || on.Blocks*512 > data+1<<20 {
			t.Errorf("%d bytes written, %d on disk, want about %d", written.Data, on.Blocks*512, data)
		}
		last = 0
		var pipe bytes.Buffer
		if written, err = x.ToStream(t.Context(), &pipe); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(pipe.Bytes(), want) || written.Data != int64(len(want)) {
			t.Errorf("the stream of %d bytes differs", pipe.Len())
		}
	}
}

func TestExportOfBlank(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	if _, err := (Export{Content: NewVersion(newWorld(t), nil, 1<<20, nil)}).ToFile(t.Context(), path, false); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, make([]byte, 1<<20)) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// Whatever goes wrong, there is no file, whole or in part, and an older one stays.
func TestFailedExportLeavesNothing(t *testing.T) {
	w := newWorld(t)
	root, content := imported(t, w)
	gone := errors.New("gone")
	failing := swifttest.Observe(w, func(_ context.Context, c swifttest.Call) error {
		if c.Op == "get" && strings.HasPrefix(c.Name, "c/000003") {
			return gone
		}
		return nil
	})
	flipped := swifttest.Faulty(w, 1, swifttest.Faults{Flipped: 1})
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx   context.Context
		store swift.Store
		want  error
	}{
		"failing store": {t.Context(), failing, gone},
		"damage":        {t.Context(), flipped, chunks.ErrDamaged},
		"Ctrl-C":        {cancelled, w, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			x := Export{Content: NewVersion(c.store, root, 0, nil)}
			_, err := x.ToFile(c.ctx, filepath.Join(dir, "out"), false)
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if left, _ := os.ReadDir(dir); len(left) != 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
	path := write(t, []byte("precious"))
	x := Export{Content: NewVersion(w, root, 0, nil)}
	if _, err := x.ToFile(t.Context(), path, false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over an older file: %v", err)
	}
	if old, _ := os.ReadFile(path); string(old) != "precious" {
		t.Error("the older file is gone")
	}
	if _, err := x.ToFile(t.Context(), path, true); err != nil {
		t.Error(err)
	}
	if got, _ := os.ReadFile(path); !bytes.Equal(got, content) {
		t.Error("by force: it differs")
	}
}

// Damage on the way is met by reading again.
func TestExportReadsAgain(t *testing.T) {
	w := newWorld(t)
	root, content := imported(t, w)
	store := &flipper{Store: w, seen: map[string]bool{}}
	var pipe bytes.Buffer
	if _, err := (Export{Content: NewVersion(store, root, 0, nil)}).ToStream(t.Context(), &pipe); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(pipe.Bytes(), content) || len(store.seen) == 0 {
		t.Errorf("the stream differs; %d objects were damaged", len(store.seen))
	}
}

// flipper damages what is read of an object for the first time.
type flipper struct {
	swift.Store
	mu   sync.Mutex
	seen map[string]bool
}

func (f *flipper) Get(ctx context.Context, container, name string, o swift.GetOptions) (swift.Object, error) {
	object, err := f.Store.Get(ctx, container, name, o)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil && !f.seen[name] {
		f.seen[name] = true
		object.Body[len(object.Body)/2] ^= 1
	}
	return object, err
}
