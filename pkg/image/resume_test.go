package image

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/swifttest"
)

// chunksPut counts the chunk objects that a store has taken.
func chunksPut(c *swifttest.Counter) (n int) {
	for _, call := range c.Calls() {
		if call.Op == "put" && strings.HasPrefix(call.Name, "c/") {
			n++
		}
	}
	return n
}

// until is a store that is away from the n-th chunk on.
func until(s swift.Store, n int) swift.Store {
	return swifttest.Observe(s, func(_ context.Context, c swifttest.Call) error {
		if c.Op == "put" && strings.HasPrefix(c.Name, "c/") {
			if n--; n < 0 {
				return &swift.Error{Op: "put", Kind: swift.ErrUnavailable}
			}
		}
		return nil
	})
}

// An interrupted import goes on where it was, whatever it reads from by then; what
// has changed in the image meanwhile is stored anew.
func TestResume(t *testing.T) {
	_, content := rawSample(t) // three chunks of data
	for name, c := range map[string]struct {
		change func(t *testing.T, path string)
		from   func(t *testing.T) *Image
		reused int
	}{
		"same image": {func(*testing.T, string) {}, nil, 2},
		"pipe":       {func(*testing.T, string) {}, func(t *testing.T) *Image { return pipe(t, content, int64(len(content))) }, 2},
		"changed image of the same size and date": {func(t *testing.T, path string) {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			info, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt([]byte{content[77] ^ 1}, 77); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(path, time.Time{}, info.ModTime()); err != nil {
				t.Fatal(err)
			}
		}, nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			path := write(t, content)
			_, err := Import(t.Context(), Config{Store: until(w, 2), Volumes: w, Image: openImage(t, path), Name: "v", Parallel: 1})
			if !errors.Is(err, ErrInterrupted) || w.aborted != 0 || len(w.complete) != 0 {
				t.Fatalf("%v, aborted %d times, complete %v", err, w.aborted, w.complete)
			}
			c.change(t, path)
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			img := openImage(t, path)
			if c.from != nil {
				img = c.from(t)
			}
			count := swifttest.Count(w)
			result, err := Import(t.Context(), Config{Store: count, Volumes: w, Image: img, Name: "v"})
			if err != nil {
				t.Fatal(err)
			}
			if put := chunksPut(count); result.Reused != c.reused || put != 3-c.reused {
				t.Errorf("%d chunks were used again and %d put, want %d again", result.Reused, put, c.reused)
			}
			if got, _ := w.read(t, "v"); !bytes.Equal(got, want) {
				t.Error("the volume differs from the image")
			}
		})
	}
}

// A listing may show what no object server has: that is stored anew.
func TestResumeProvesWhatIsListed(t *testing.T) {
	_, content := rawSample(t)
	w := newWorld(t)
	path := write(t, content)
	if _, err := Import(t.Context(), Config{Store: until(w, 2), Volumes: w, Image: openImage(t, path), Name: "v", Parallel: 1}); err == nil {
		t.Fatal("not interrupted")
	}
	absent := swifttest.Observe(w, func(_ context.Context, c swifttest.Call) error {
		if c.Op == "head" && strings.HasPrefix(c.Name, "c/000000") {
			return &swift.Error{Op: "head", Kind: swift.ErrNotFound}
		}
		return nil
	})
	result, err := Import(t.Context(), Config{Store: absent, Volumes: w, Image: openImage(t, path), Name: "v"})
	if err != nil || result.Reused != 1 {
		t.Errorf("%+v, %v", result, err)
	}
	if got, _ := w.read(t, "v"); !bytes.Equal(got, content) {
		t.Error("the volume differs from the image")
	}
}

// What another epoch has stored is not this import's: it may be removed.
func TestResumeOfAnotherEpoch(t *testing.T) {
	_, content := rawSample(t)
	w := newWorld(t)
	path := write(t, content)
	if _, err := Import(t.Context(), Config{Store: until(w, 2), Volumes: w, Image: openImage(t, path), Name: "v", Parallel: 1}); err == nil {
		t.Fatal("not interrupted")
	}
	target := w.volumes["v"]
	target.Epoch = ident.NewEpoch(2)
	w.volumes["v"] = target
	result, err := Import(t.Context(), Config{Store: w, Volumes: w, Image: openImage(t, path), Name: "v"})
	if err != nil || result.Reused != 0 {
		t.Errorf("%+v, %v", result, err)
	}
}

func TestKeep(t *testing.T) {
	path, _ := rawSample(t)
	w := newWorld(t)
	full := swifttest.Observe(w, func(_ context.Context, c swifttest.Call) error {
		if c.Op == "put" && strings.HasPrefix(c.Name, "c/000003") {
			return &swift.Error{Op: "put", Kind: swift.ErrQuota}
		}
		return nil
	})
	c := Config{Store: full, Volumes: w, Image: openImage(t, path), Name: "v", Keep: true}
	if _, err := Import(t.Context(), c); !errors.Is(err, ErrInterrupted) || !errors.Is(err, swift.ErrQuota) || w.aborted != 0 {
		t.Errorf("%v, aborted %d times", err, w.aborted)
	}
	c.Keep = false
	if _, err := Import(t.Context(), c); errors.Is(err, ErrInterrupted) || !errors.Is(err, swift.ErrQuota) || w.aborted != 1 {
		t.Errorf("%v, aborted %d times", err, w.aborted)
	}
}

// A file that is written while it is read is a mixture, and refused.
func TestImportOfMovingImage(t *testing.T) {
	path, _ := rawSample(t)
	w := newWorld(t)
	store := swifttest.Observe(w, func(_ context.Context, c swifttest.Call) error {
		if c.Op == "put" {
			return os.Chtimes(path, time.Time{}, time.Now().Add(time.Hour))
		}
		return nil
	})
	_, err := Import(t.Context(), Config{Store: store, Volumes: w, Image: openImage(t, path), Name: "v"})
	if !errors.Is(err, ErrImage) || !strings.Contains(err.Error(), "changed while it was read") || w.aborted != 1 {
		t.Errorf("%v, aborted %d times", err, w.aborted)
	}
}

// pipe is an image that comes through a pipe and should have size bytes.
func pipe(t *testing.T, content []byte, size int64) *Image {
	t.Helper()
	r, w := io.Pipe()
	go func() {
		w.Write(content)
		w.Close()
	}()
	t.Cleanup(func() { r.Close() })
	img, err := OpenStream(r, "standard input", size)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestImportOfPipe(t *testing.T) {
	_, content := rawSample(t)
	w := newWorld(t)
	if _, err := Import(t.Context(), Config{Store: w, Volumes: w, Image: pipe(t, content, int64(len(content))), Name: "v"}); err != nil {
		t.Fatal(err)
	}
	if got, _ := w.read(t, "v"); !bytes.Equal(got, content) {
		t.Error("the volume differs from what came through the pipe")
	}
}

func TestImportRefusesPipe(t *testing.T) {
	_, content := rawSample(t)
	for name, c := range map[string]struct {
		content []byte
		size    int
		want    string
	}{
		"cut":    {content[:chunks.Size+9], len(content), "ended after 8388617 of 33605632 bytes"},
		"longer": {content, len(content) - 512, "goes on after the 33605120 bytes"},
		"qcow2":  {sample().bytes(t), len(content), "qcow2"},
		"packed": {append([]byte("\x1f\x8b"), make([]byte, chunks.Size)...), chunks.Size, "packed with gzip"},
		"empty":  {nil, 4096, "ended after 0 of 4096"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			_, err := Import(t.Context(), Config{Store: w, Volumes: w, Image: pipe(t, c.content, int64(c.size)), Name: "v"})
			if !errors.Is(err, ErrImage) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if w.aborted != 1 || len(w.complete) != 0 {
				t.Errorf("aborted %d times, complete %v", w.aborted, w.complete)
			}
		})
	}
	for _, size := range []int64{0, 513} {
		if _, err := OpenStream(bytes.NewReader(content), "-", size); !errors.Is(err, ErrImage) {
			t.Errorf("size %d: %v", size, err)
		}
	}
}
