package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/swifttest"
)

// world is a store and the records of volumes, which follow the rules of
// [Volumes].
type world struct {
	swift.Store
	mu       sync.Mutex
	volumes  map[string]Target // that are being filled
	complete map[ident.Volume]snapshots.Ref
	aborted  int
}

func newWorld(t *testing.T) *world {
	return &world{Store: swifttest.NewStore(t), volumes: map[string]Target{}, complete: map[ident.Volume]snapshots.Ref{}}
}

func (w *world) Begin(ctx context.Context, name string, size int64) (Target, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, found := w.volumes[name]; !found {
		id := ident.NewVolume()
		w.volumes[name] = Target{Volume: id, Container: "v-" + string(id), Size: size, Epoch: ident.NewEpoch(1)}
	}
	return w.volumes[name], w.CreateContainer(ctx, w.volumes[name].Container)
}

func (w *world) Complete(_ context.Context, t Target, root snapshots.Ref) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.complete[t.Volume] = root
	return nil
}

func (w *world) Abort(ctx context.Context, t Target) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ctx.Err() == nil {
		w.aborted++
	}
	return ctx.Err()
}

// read reads a complete volume back, every byte through table, index and frames.
func (w *world) read(t *testing.T, name string) ([]byte, *snapshots.Root) {
	t.Helper()
	target := w.volumes[name]
	ref, found := w.complete[target.Volume]
	if !found {
		t.Fatalf("volume %q is not complete", name)
	}
	root, err := snapshots.LoadRoot(t.Context(), w, target.Container, ref)
	if err != nil {
		t.Fatal(err)
	}
	content := make([]byte, (root.State.Size+chunks.Size-1)/chunks.Size*chunks.Size)
	for e, err := range snapshots.OpenTable(w, root).Entries(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		at := e.Base.Location(e.Chunk)
		index, err := snapshots.ReadIndex(t.Context(), w, at, nil)
		if err != nil {
			t.Fatal(err)
		}
		object, err := w.Get(t.Context(), at.Container, at.Name, swift.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range index.Frames(e.Chunk, 0, chunks.Size) {
			off := int64(e.Chunk)*chunks.Size + int64(f.Off)
			if err := index.Decode(f, object.Body[f.Pos:f.Pos+int64(f.Stored)], content[off:off+int64(f.Len)]); err != nil {
				t.Fatal(err)
			}
		}
	}
	return content[:root.State.Size], root
}

func openImage(t *testing.T, path string) *Image {
	t.Helper()
	img, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { img.Close() })
	return img
}

// rawSample is a sparse file of five chunks: noise, a hole, zeros that are
// written, little data, and a short one.
func rawSample(t *testing.T) (path string, content []byte) {
	t.Helper()
	content = make([]byte, 4*chunks.Size+100*Sector)
	copy(content, noise(1, chunks.Size))
	copy(content[3*chunks.Size+4096:], "little")
	copy(content[4*chunks.Size+99*Sector:], "the end")
	path = filepath.Join(t.TempDir(), "image")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, part := range []Span{{0, chunks.Size}, {2 * chunks.Size, 1 << 20}, {3*chunks.Size + 4096, 4096}, {4*chunks.Size + 99*Sector, Sector}} {
		if _, err := f.WriteAt(content[part.Off:part.Off+part.Len], part.Off); err != nil {
			t.Fatal(err)
		}
	}
	return path, content
}

func TestImport(t *testing.T) {
	rawPath, rawContent := rawSample(t)
	q := sample()
	for _, c := range []struct {
		name, path string
		content    []byte
		size       int64
		objects    int // chunks and the root
	}{
		{"raw", rawPath, rawContent, 0, 4},
		{"larger", rawPath, rawContent, 100 << 20, 4},
		{"qcow2", write(t, q.bytes(t)), q.image(), 0, 3},
		{"blank", write(t, make([]byte, 1<<20)), make([]byte, 1<<20), 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			var last, total int64
			result, err := Import(t.Context(), Config{
				Store: w, Volumes: w, Image: openImage(t, c.path), Name: c.name, Size: c.size,
				Parallel: 1, // so that one buffer serves all chunks
				Progress: func(done, of int64) {
					if done <= last || done > of {
						t.Errorf("progress from %d to %d of %d", last, done, of)
					}
					last, total = done, of
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			if size := int64(len(c.content)); last != size || total != size {
				t.Errorf("progress ended at %d of %d, want %d", last, total, size)
			}
			got, root := w.read(t, c.name)
			size := max(c.size, int64(len(c.content)))
			if int64(len(got)) != size || !bytes.Equal(got[:len(c.content)], c.content) || !chunks.IsZero(got[len(c.content):]) {
				t.Errorf("the volume of %d bytes differs from the image", len(got))
			}
			if !root.State.Clean || root.State.Mark != snapshots.Formatted || root.State.Sealed.IsZero() {
				t.Errorf("root says %+v", root.State)
			}
			rows, err := w.List(t.Context(), root.Container, "", "", 0)
			if err != nil {
				t.Fatal(err)
			}
			stored := int64(0)
			for _, row := range rows {
				stored += row.Size
			}
			want := Result{Volume: w.volumes[c.name].Volume, Size: size, Objects: c.objects, Bytes: stored}
			if result != want || len(rows) != c.objects {
				t.Errorf("%+v with %d objects, want %+v", result, len(rows), want)
			}
		})
	}
}

// A failure, of whatever kind, completes nothing and aborts.
func TestFailedImportLeavesNothing(t *testing.T) {
	path, _ := rawSample(t)
	whole := sample().bytes(t)
	cut := write(t, whole[:len(whole)-clusterSize])
	full := errors.New("no room")
	fail := func(prefix string) func(context.Context, swifttest.Call) error {
		return func(_ context.Context, c swifttest.Call) error {
			if c.Op == "put" && strings.HasPrefix(c.Name, prefix) {
				return full
			}
			return nil
		}
	}
	for name, c := range map[string]struct {
		path   string
		before func(context.Context, swifttest.Call) error
		want   error
	}{
		"cut image":   {cut, fail("nothing"), ErrImage},
		"third chunk": {path, fail("c/000003"), full},
		"root":        {path, fail("r/"), full},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			_, err := Import(t.Context(), Config{Store: swifttest.Observe(w, c.before), Volumes: w, Image: openImage(t, c.path), Name: "v"})
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), fmt.Sprintf(`import of %s as volume "v"`, c.path)) {
				t.Errorf("%v", err)
			}
			if w.aborted != 1 || len(w.complete) != 0 {
				t.Errorf("aborted %d times, complete %v", w.aborted, w.complete)
			}
		})
	}
	t.Run("cancelled", func(t *testing.T) {
		w := newWorld(t)
		ctx, cancel := context.WithCancel(t.Context())
		store := swifttest.Observe(w, func(_ context.Context, c swifttest.Call) error {
			if c.Op == "put" {
				cancel()
			}
			return nil
		})
		_, err := Import(ctx, Config{Store: store, Volumes: w, Image: openImage(t, path), Name: "v"})
		if !errors.Is(err, context.Canceled) || w.aborted != 1 || len(w.complete) != 0 {
			t.Errorf("%v, aborted %d times, complete %v", err, w.aborted, w.complete)
		}
	})
}

// An import that died between its root and the record is taken over.
func TestImportTakesOver(t *testing.T) {
	path, content := rawSample(t)
	w := newWorld(t)
	died := errors.New("killed")
	crash := &crashing{world: w, err: died}
	if _, err := Import(t.Context(), Config{Store: w, Volumes: crash, Image: openImage(t, path), Name: "v"}); !errors.Is(err, died) {
		t.Fatal(err)
	}
	if _, err := Import(t.Context(), Config{Store: w, Volumes: w, Image: openImage(t, path), Name: "v"}); err != nil {
		t.Fatal(err)
	}
	got, root := w.read(t, "v")
	if !bytes.Equal(got, content) || root.Ref.Gen != 2 {
		t.Errorf("generation %d, equal %v", root.Ref.Gen, bytes.Equal(got, content))
	}
}

// crashing is a world whose process dies before the record.
type crashing struct {
	*world
	err error
}

func (c *crashing) Complete(context.Context, Target, snapshots.Ref) error { return c.err }
func (c *crashing) Abort(context.Context, Target) error                   { return nil }

// A lost answer to the root's PUT is no second writer; other bytes are.
func TestImportRootTaken(t *testing.T) {
	path, content := rawSample(t)
	w := newWorld(t)
	once := true
	store := &meddler{Store: w, put: func(ctx context.Context, container, name string, body []byte) error {
		if strings.HasPrefix(name, "r/") && once { // the client repeats a PUT that it has done
			once = false
			_, err := w.Put(ctx, container, name, body, swift.PutOptions{})
			return err
		}
		return nil
	}}
	if _, err := Import(t.Context(), Config{Store: store, Volumes: w, Image: openImage(t, path), Name: "same"}); err != nil {
		t.Fatal(err)
	}
	if got, _ := w.read(t, "same"); !bytes.Equal(got, content) {
		t.Error("the volume differs from the image")
	}
	store.put = func(ctx context.Context, container, name string, _ []byte) error {
		if strings.HasPrefix(name, "r/") {
			_, err := w.Put(ctx, container, name, []byte("another import's"), swift.PutOptions{})
			return err
		}
		return nil
	}
	_, err := Import(t.Context(), Config{Store: store, Volumes: w, Image: openImage(t, path), Name: "other"})
	if err == nil || !strings.Contains(err.Error(), "another import") || w.aborted != 0 {
		t.Errorf("%v, aborted %d times", err, w.aborted)
	}
}

// meddler does something before every Put.
type meddler struct {
	swift.Store
	put func(ctx context.Context, container, name string, body []byte) error
}

func (m *meddler) Put(ctx context.Context, container, name string, body []byte, o swift.PutOptions) (string, error) {
	if err := m.put(ctx, container, name, body); err != nil {
		return "", err
	}
	return m.Store.Put(ctx, container, name, body, o)
}
