package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/swifttest"
)

// disk is an image of five chunks: data, a hole, data, zeros, a short one of data.
func disk() []byte {
	content := make([]byte, 4*chunks.Size+8192)
	copy(content, noise(1, 100_000))
	copy(content[2*chunks.Size:], noise(2, 100_000))
	copy(content[len(content)-1000:], noise(3, 1000))
	return content
}

// export writes a volume or snapshot to a file and reads that.
func (a *admin) export(name string) []byte {
	a.Helper()
	path := filepath.Join(a.TempDir(), "out.raw")
	a.run("image", "export", name, path)
	got, err := os.ReadFile(path)
	if err != nil {
		a.Fatal(err)
	}
	return got
}

// What goes in comes out: from and to files and pipes.
func TestImportAndExport(t *testing.T) {
	a := newAdmin(t)
	content := disk()
	var v importView
	a.json(&v, "image", "import", "--name", "file", a.file("disk.raw", content))
	if v.Size != int64(len(content)) || v.Objects != 4 || v.Reused != 0 || v.Name != "file" {
		t.Errorf("%+v", v)
	}
	if got := a.export("file"); !bytes.Equal(got, content) {
		t.Error("it came out otherwise than it went in")
	}
	a.stdin = bytes.NewReader(content)
	a.run("image", "import", "--name", "pipe", "--size", "33562624", "-")
	if got := a.run("image", "export", "pipe"); got != string(content) {
		t.Error("through pipes it came out otherwise than it went in")
	}
	var e exportView
	a.json(&e, "image", "export", "pipe", filepath.Join(a.dir, "sparse"))
	if e.Size != int64(len(content)) || e.Data > 300_000 {
		t.Errorf("%+v: zeros were written", e)
	}
}

// A disk may begin with what looks like another kind of image, and comes back as it
// was all the same.
func TestImportOfRawThatLooksOtherwise(t *testing.T) {
	a := newAdmin(t)
	for magic, refusal := range map[string]string{"QFI\xfb": "qcow2", "\x1f\x8b": "give --raw"} {
		content := append([]byte(magic), make([]byte, 1<<20-len(magic))...)
		copy(content[4096:], noise(1, 10_000))
		path := a.file("disk.raw", content)
		a.refused(refusal, "image", "import", "--name", "v", path)
		a.run("image", "import", "--raw", "--name", "v", path)
		if !bytes.Equal(a.export("v"), content) {
			t.Errorf("%q: it came out otherwise than it went in", magic)
		}
		a.stdin = bytes.NewReader(content)
		a.refused("give --raw", "image", "import", "--name", "pipe", "--size", "1Mi", "-")
		a.stdin = bytes.NewReader(content)
		a.run("image", "import", "--raw", "--name", "pipe", "--size", "1Mi", "-")
		a.run("volume", "rm", "v", "pipe")
	}
}

func TestImportOfQcow2(t *testing.T) {
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Skip("qemu-img is not installed (package qemu-utils)")
	}
	a := newAdmin(t)
	content := disk()
	qcow2 := filepath.Join(a.dir, "disk.qcow2")
	if out, err := exec.Command("qemu-img", "convert", "-c", "-O", "qcow2", a.file("disk.raw", content), qcow2).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	a.run("image", "import", "--name", "v", qcow2)
	path := filepath.Join(a.dir, "out.raw")
	a.run("image", "export", "v", path)
	if out, err := exec.Command("qemu-img", "compare", qcow2, path).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// An image is not written to a terminal, which may take it for commands.
func TestNoImageToTheTerminal(t *testing.T) {
	a := newAdmin(t)
	a.run("volume", "create", "v", "--size", "1Mi")
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	for _, args := range [][]string{{"image", "export", "v"}, {"journal", "export", "x", stdio}} {
		c := root()
		c.SetArgs(a.args(args...))
		c.SetOut(terminal)
		if err := c.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "is a terminal") {
			t.Errorf("%v: %v", args, err)
		}
	}
}

// chunkObjects counts the chunks in all containers.
func (a *admin) chunkObjects(store swift.Store) (n int) {
	containers, err := store.Containers(a.Context(), "swiftblock_", "", 0)
	if err != nil {
		a.Fatal(err)
	}
	for _, container := range containers {
		rows, err := store.List(a.Context(), container, chunks.ChunkPrefix, "", 0)
		if err != nil {
			a.Fatal(err)
		}
		n += len(rows)
	}
	return n
}

// An import that was killed is invisible, and goes on when it is run again.
func TestImportKilled(t *testing.T) {
	a := newAdmin(t)
	content := make([]byte, 6*chunks.Size)
	for chunk := range 6 {
		copy(content[chunk*chunks.Size:], noise(byte(chunk), 50_000))
	}
	store := swifttest.NewClient(t, swifttest.Credentials(a.swift))

	// The pipe ends for the child amid its fifth chunk, and there it is killed.
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), program, a.args("image", "import", "--name", "v", "--size", "48Mi", "-")...)
	child.Env = append(os.Environ(), asProgram+"=1")
	child.Stderr = os.Stderr
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := stdin.Write(content[:4*chunks.Size+4096]); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(2 * time.Minute); a.chunkObjects(store) < 4; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the child stores nothing")
		}
	}
	child.Process.Kill()
	child.Wait()
	if list := a.volumes(); len(list) != 0 {
		t.Errorf("half a volume is visible: %+v", list)
	}

	path := a.file("disk.raw", content)
	a.refused("image abort NAME", "image", "import", "--name", "v", "--size", "1Gi", path)
	var v importView
	a.json(&v, "image", "import", "--name", "v", path)
	if v.Reused != 4 || v.Objects != 7 || a.chunkObjects(store) != 6 {
		t.Errorf("%+v, %d chunks are stored", v, a.chunkObjects(store))
	}
	if got := a.export("v"); !bytes.Equal(got, content) {
		t.Error("the volume differs from the image")
	}
}

// Ctrl-C amid an import leaves nothing, unless that is asked for; then it can be
// given up.
func TestImportInterrupted(t *testing.T) {
	a := newAdmin(t)
	for _, keep := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		a.stdin = &trap{reader: bytes.NewReader(disk()), after: chunks.Size, do: cancel}
		args := []string{"image", "import", "--name", "v", "--size", "33562624", "-"}
		if keep {
			args = append(args, "--keep")
		}
		if _, err := a.try(ctx, args...); !errors.Is(err, context.Canceled) {
			t.Errorf("keep %v: %v", keep, err)
		} else if text := explain(err); keep != strings.Contains(text, "the same command continues") {
			t.Errorf("keep %v: %s", keep, text)
		}
		if list := a.volumes(); len(list) != 0 {
			t.Errorf("keep %v: %+v is visible", keep, list)
		}
	}
	var deleted struct{ Deleted []ident.Volume }
	a.json(&deleted, "image", "abort", "v")
	if len(deleted.Deleted) != 1 {
		t.Errorf("%+v", deleted)
	}
	a.refused("no import has the name", "image", "abort", "v")
	a.run("volume", "create", "v", "--size", "1Gi") // the name is free
}

// trap does something when so many bytes have been read.
type trap struct {
	reader io.Reader
	after  int
	do     func()
}

func (r *trap) Read(p []byte) (int, error) {
	n, err := r.reader.Read(p)
	if r.after -= n; r.after <= 0 {
		r.do()
	}
	return n, err
}

// A create that fails half-way leaves nothing that is seen, and its name can be
// had again.
func TestFailedCreate(t *testing.T) {
	a := newAdmin(t)
	t.Setenv("ST_KEY", "wrong")
	a.refused("credentials refused", "volume", "create", "v", "--size", "1Gi")
	a.refused("credentials refused", "image", "import", "--name", "i", a.file("disk.raw", disk()))
	t.Setenv("ST_KEY", a.swift.Key())
	if list := a.volumes(); len(list) != 0 {
		t.Errorf("%+v", list)
	}
	a.refused("no volume has the id or name", "volume", "rm", "v")
	a.run("volume", "create", "v", "--size", "2Gi")
	a.run("image", "import", "--name", "i", filepath.Join(a.dir, "disk.raw"))
}
