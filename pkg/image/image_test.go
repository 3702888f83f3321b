package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// noise returns n bytes that depend on seed alone.
func noise(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// readBySpans reads an image as an import does: zeros but for the spans.
func readBySpans(t *testing.T, path string) (content []byte, spans []Span) {
	t.Helper()
	img, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	content = make([]byte, img.Size)
	end := int64(0)
	for s, err := range img.Spans() {
		if err != nil {
			t.Fatal(err)
		}
		if s.Off < end || s.Len <= 0 || s.Off+s.Len > img.Size {
			t.Fatalf("span %+v after %d in %d bytes", s, end, img.Size)
		}
		end = s.Off + s.Len
		if err := img.ReadFull(content[s.Off:end], s.Off); err != nil {
			t.Fatal(err)
		}
		spans = append(spans, s)
	}
	return content, spans
}

func TestRaw(t *testing.T) {
	want := make([]byte, 30<<20+512)
	copy(want[1<<20:], noise(1, 100_000))
	copy(want[len(want)-1000:], noise(2, 1000))
	path := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(int64(len(want))); err != nil {
		t.Fatal(err)
	}
	f.WriteAt(want[1<<20:2<<20], 1<<20)
	f.WriteAt(want[len(want)-1000:], int64(len(want)-1000))
	got, spans := readBySpans(t, path)
	if !bytes.Equal(got, want) {
		t.Error("it reads otherwise than it was written")
	}
	if hole, err := f.Seek(0, unix.SEEK_HOLE); err == nil && hole == 0 {
		read := int64(0)
		for _, s := range spans {
			read += s.Len
		}
		if len(spans) != 2 || read > 2<<20 {
			t.Errorf("holes were read: %v", spans)
		}
	}
}

func TestRawWithoutHoles(t *testing.T) {
	want := noise(1, 1<<20)
	if got, spans := readBySpans(t, write(t, want)); !bytes.Equal(got, want) || len(spans) != 1 {
		t.Errorf("spans %v", spans)
	}
}

func TestQcow2(t *testing.T) {
	q := sample()
	got, spans := readBySpans(t, write(t, q.bytes(t)))
	if !bytes.Equal(got, q.image()) {
		t.Error("it reads otherwise than it was drawn")
	}
	want := []Span{{0, 2 * clusterSize}, {5 * clusterSize, clusterSize}, {127 * clusterSize, clusterSize}, {320 * clusterSize, 512}}
	if len(spans) != len(want) {
		t.Fatalf("spans %v, want %v", spans, want)
	}
	for i := range want {
		if spans[i] != want[i] {
			t.Errorf("span %v, want %v", spans[i], want[i])
		}
	}
}

// What qemu-img makes of an image reads as that image.
func TestQcow2OfQemu(t *testing.T) {
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Skip("qemu-img is not installed (package qemu-utils); TestQcow2 reads a file drawn by hand")
	}
	want := make([]byte, 9<<20)
	copy(want[100_000:], noise(1, 300_000))
	copy(want[5<<20:], bytes.Repeat([]byte("compressible "), 100_000))
	source := write(t, want)
	for name, args := range map[string][]string{
		"plain":              nil,
		"old":                {"-o", "compat=0.10"},
		"compressed":         {"-c"},
		"compressed, small":  {"-c", "-o", "cluster_size=4096"},
		"compressed, large":  {"-c", "-o", "cluster_size=2M"},
		"compressed by zstd": {"-c", "-o", "compression_type=zstd"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "image.qcow2")
			args := append(append([]string{"convert", "-f", "raw", "-O", "qcow2"}, args...), source, path)
			if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
				t.Skipf("qemu-img %v: %s", args, out)
			}
			if got, _ := readBySpans(t, path); !bytes.Equal(got, want) {
				t.Error("it reads otherwise than its source")
			}
		})
	}
}

// sparse is write for a file that goes on with a hole.
func sparse(t *testing.T, body []byte, size int64) string {
	t.Helper()
	path := write(t, body)
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOpenRefuses(t *testing.T) {
	whole := sample().bytes(t)
	with := func(off int, value any) []byte {
		b := bytes.Clone(whole)
		if _, err := binary.Encode(b[off:], binary.BigEndian, value); err != nil {
			t.Fatal(err)
		}
		return b
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path, want string
	}{
		"absent":            {"/absent/image", "no such file"},
		"directory":         {t.TempDir(), "neither a file nor a block device"},
		"pipe":              {fifo, "neither a file nor a block device"},
		"character device":  {"/dev/zero", "neither a file nor a block device"},
		"empty":             {write(t, nil), "empty"},
		"cut raw":           {write(t, noise(1, 100_001)), "no multiple of 512"},
		"gzip":              {write(t, append([]byte("\x1f\x8b\x08\x00"), noise(1, 508)...)), "gzip"},
		"vmdk":              {write(t, append([]byte("KDMV\x01\x00\x00\x00"), noise(1, 504)...)), "vmdk images are not read"},
		"header only":       {write(t, whole[:60]), "cut short"},
		"no L1":             {write(t, whole[:clusterSize]), "table of contents is missing"},
		"part of L1":        {write(t, whole[:clusterSize+4]), "table of contents is missing"},
		"version":           {write(t, with(4, uint32(9))), "version 9"},
		"backing file":      {write(t, with(8, uint64(1024))), "backing file"},
		"external data":     {write(t, with(72, uint64(4))), "in another file"},
		"encrypted":         {write(t, with(32, uint32(2))), "encrypted"},
		"dirty":             {write(t, with(72, uint64(1))), "qemu-img check"},
		"unknown feature":   {write(t, with(72, uint64(1<<40))), "feature"},
		"clusters":          {write(t, with(20, uint32(60))), "clusters of 2^60"},
		"L1 beyond the end": {write(t, with(36, uint32(maxTable/8))), "table of contents is missing"},
		"L1 without bounds": {sparse(t, with(36, uint32(1<<31)), 32<<30), "table of contents has 2147483648 entries"},
		"L1 far away":       {write(t, with(40, uint64(1<<63))), "table of contents is missing"},
		"too large":         {write(t, with(24, uint64(1<<62))), "a volume has at most"},
		"odd size":          {write(t, with(24, uint64(1000))), "no multiple of 512"},
	} {
		t.Run(name, func(t *testing.T) {
			img, err := Open(c.path)
			if err == nil {
				img.Close()
			}
			if !errors.Is(err, ErrImage) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.path) {
				t.Errorf("%v, want it to say %q and name the file", err, c.want)
			}
		})
	}
}

// A file that was cut short is noticed when the missing part is read, wherever it
// was cut.
func TestCutQcow2(t *testing.T) {
	whole := sample().bytes(t)
	for _, length := range []int{clusterSize + 8, 2 * clusterSize, 3*clusterSize - 1, 4*clusterSize + 100, len(whole) - clusterSize} {
		img, err := Open(write(t, whole[:length]))
		if err == nil {
			for s, e := range img.Spans() {
				if err = e; err == nil {
					err = img.ReadFull(make([]byte, s.Len), s.Off)
				}
				if err != nil {
					break
				}
			}
			img.Close()
		}
		if !errors.Is(err, ErrImage) {
			t.Errorf("cut to %d of %d bytes: %v", length, len(whole), err)
		}
	}
}
