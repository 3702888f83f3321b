package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/swifttest"
)

// store is a client of the administrator's account.
func (a *admin) store() swift.Store {
	return swifttest.NewClient(a, swifttest.Credentials(a.swift))
}

// objects lists everything in the account.
func (a *admin) objects() []string {
	a.Helper()
	list, store := []string{}, a.store()
	containers, err := store.Containers(a.Context(), "", "", 0)
	if err != nil {
		a.Fatal(err)
	}
	for _, container := range containers {
		list = append(list, container)
		rows, err := store.List(a.Context(), container, "", "", 0)
		if err != nil {
			a.Fatal(err)
		}
		for _, row := range rows {
			list = append(list, container+"/"+row.Name)
		}
	}
	return list
}

// records lists the records of volumes and snapshots, tombstones included.
func (a *admin) records() []string {
	a.Helper()
	records, err := authority.OpenFile(filepath.Join(a.dir, "authority"))
	if err != nil {
		a.Fatal(err)
	}
	list := []string{}
	for row, err := range authority.All(a.Context(), records.Volumes()) {
		if err != nil {
			a.Fatal(err)
		}
		list = append(list, "volume "+row.Key)
	}
	for row, err := range authority.All(a.Context(), records.Snapshots()) {
		if err != nil {
			a.Fatal(err)
		}
		list = append(list, "snapshot "+row.Key)
	}
	return list
}

// nothingOf holds what there is, once the garbage is gone, to what there was.
func (a *admin) nothingOf(what string, objects, records []string) {
	a.Helper()
	a.run("gc", "--grace", "0s")
	if now := a.objects(); !slices.Equal(now, objects) {
		a.Errorf("%s: in Swift are %q instead of %q", what, now, objects)
	}
	if now := a.records(); !slices.Equal(now, records) {
		a.Errorf("%s: the authority has %q instead of %q", what, now, records)
	}
}

// gate stands before the store and answers requests itself.
type gate struct {
	store http.Handler
	// answer is a status, or 0 to let the request through.
	answer atomic.Pointer[func(*http.Request) int]
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if answer := g.answer.Load(); answer != nil {
		if status := (*answer)(r); status != 0 {
			w.WriteHeader(status)
			return
		}
	}
	g.store.ServeHTTP(w, r)
}

// gated puts a gate before the administrator's store.
func (a *admin) gated() *gate {
	a.Helper()
	behind, err := url.Parse(swifttest.Credentials(a.swift).AuthURL)
	if err != nil {
		a.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: behind.Scheme, Host: behind.Host})
	proxy.ErrorLog = log.New(io.Discard, "", 0) // of clients that go away
	g := &gate{store: proxy}
	server := httptest.NewServer(g)
	a.Cleanup(server.Close)
	a.Setenv("ST_AUTH", server.URL+behind.Path)
	return g
}

// onPut makes the gate answer PUTs of objects whose names begin with prefix; ""
// stands for containers.
func (g *gate) onPut(prefix string, answer func() int) {
	f := func(r *http.Request) int {
		_, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v1/"), "/swiftblock_")
		_, object, isObject := strings.Cut(path, "/")
		if r.Method == http.MethodPut && (prefix == "" && !isObject || prefix != "" && isObject && strings.HasPrefix(object, prefix)) {
			return answer()
		}
		return 0
	}
	g.answer.Store(&f)
}

func (g *gate) open() { g.answer.Store(nil) }

// qcow2Header is the begin of a qcow2 file whose rest was cut off.
func qcow2Header() []byte {
	h := make([]byte, 112)
	copy(h, "QFI\xfb")
	be := binary.BigEndian
	be.PutUint32(h[4:], 3)
	be.PutUint32(h[20:], 16)     // clusters of 64 KiB
	be.PutUint64(h[24:], 1<<30)  // bytes
	be.PutUint32(h[36:], 2)      // entries of the first table,
	be.PutUint64(h[40:], 0x3000) // which begins here
	be.PutUint32(h[100:], 104)
	return h
}

// Every bad input is refused in one line that says what to do, and nothing is made
// of it.
func TestBadInput(t *testing.T) {
	a := newAdmin(t)
	good := a.file("good.raw", noise(1, 9<<20))
	a.run("image", "import", "--name", "golden", good)
	a.run("snapshot", "create", "golden", "cut")
	a.run("volume", "create", "other", "--size", "1Gi")
	a.run("snapshot", "create", "golden", "gone")
	a.run("snapshot", "rm", "gone")
	a.run("volume", "create", "late", "--size", "1Gi")
	a.run("volume", "rm", "late")
	a.run("gc", "--grace", "0s")
	objects, records := a.objects(), a.records()

	for _, c := range []struct {
		want string
		args []string
	}{
		// Names, as records and as containers in Swift.
		{"1 to 128 bytes, not 0", []string{"volume", "create", "", "--size", "1Gi"}},
		{"1 to 128 bytes, not 129", []string{"volume", "create", strings.Repeat("n", 129), "--size", "1Gi"}},
		{"1 to 128 bytes, not 130", []string{"volume", "create", strings.Repeat("ü", 65), "--size", "1Gi"}},
		{"1 to 128 bytes, not 129", []string{"snapshot", "create", "golden", strings.Repeat("n", 129)}},
		{"1 to 128 bytes, not 0", []string{"image", "import", "--name", "", good}},
		{`"\xff" is not UTF-8`, []string{"volume", "create", "\xff", "--size", "1Gi"}},
		{`"a\xc3" is not UTF-8`, []string{"snapshot", "create", "golden", "a\xc3"}},
		{`"\xff" is not UTF-8`, []string{"image", "import", "--name", "\xff", good}},
		{"at most 224 bytes", []string{"volume", "create", "v", "--size", "1Gi", "--prefix", strings.Repeat("p", 225)}},
		{"without a slash", []string{"volume", "create", "v", "--size", "1Gi", "--prefix", "a/b"}},
		{"without a slash", []string{"image", "import", "--name", "v", good, "--prefix", "a/b"}},
		{"of UTF-8", []string{"volume", "ls", "--prefix", "\xff"}},
		// Names that are taken.
		{"has 1073741824 bytes: choose another name", []string{"volume", "create", "other", "--size", "2Gi"}},
		{"has another source: choose another name", []string{"volume", "create", "other", "--from", "cut", "--size", "1Gi"}},
		{"has other parameters: choose another name", []string{"volume", "create", "other", "--size", "1Gi", "--parameter", "rpo=5s"}},
		{"is of volume", []string{"snapshot", "create", "other", "cut"}},
		{"is complete; an import that was interrupted is removed by `csi-swiftblock image abort NAME`: choose another name", []string{"image", "import", "--name", "golden", good}},
		// Parents that are gone.
		{"no volume or snapshot has the id or name", []string{"volume", "create", "v", "--from", "gone"}},
		{"no volume or snapshot has the id or name", []string{"volume", "create", "v", "--from", "late"}},
		{"no volume has the id or name", []string{"snapshot", "create", "late", "s"}},
		{"no volume has the id or name", []string{"volume", "expand", "late", "--size", "2Gi"}},
		{"`csi-swiftblock snapshot ls`", []string{"snapshot", "diff", "gone", "cut"}},
		// Sizes.
		{"a volume cannot shrink", []string{"volume", "expand", "other", "--size", "512Mi"}},
		{"cannot be smaller than what it is made from", []string{"volume", "create", "v", "--from", "cut", "--size", "1Mi"}},
		{"cannot be smaller than what it is made from", []string{"volume", "create", "v", "--from", "golden", "--size", "1Mi"}},
		{"cannot be smaller than its image", []string{"image", "import", "--name", "v", good, "--size", "1Mi"}},
		{"at most 17592186044416 bytes", []string{"volume", "expand", "other", "--size", "17Ti"}},
		{"whole sectors", []string{"volume", "expand", "other", "--size", "-1Gi"}},
		{"whole sectors", []string{"volume", "create", "v", "--size", "99999999999Ti"}},
		// Images.
		{"it is empty", []string{"image", "import", "--name", "v", a.file("empty", nil)}},
		{"it was cut short", []string{"image", "import", "--name", "v", a.file("odd", noise(1, 1000))}},
		{"it was cut short: its table of contents is missing", []string{"image", "import", "--name", "v", a.file("cut.qcow2", qcow2Header())}},
		{"qcow2 header: cut short", []string{"image", "import", "--name", "v", a.file("shorter.qcow2", qcow2Header()[:40])}},
		{"packed with gzip: unpack it first", []string{"image", "import", "--name", "v", a.file("disk.gz", append([]byte("\x1f\x8b"), make([]byte, 1022)...))}},
		{"convert it with `qemu-img convert -O qcow2`", []string{"image", "import", "--name", "v", a.file("disk.vmdk", append([]byte("KDMV\x01\x00\x00\x00"), make([]byte, 2040)...))}},
		{"convert it with `qemu-img convert -O qcow2`", []string{"image", "import", "--name", "v", a.file("disk.vhdx", append([]byte("vhdxfile"), make([]byte, 2040)...))}},
		{"neither a file nor a block device", []string{"image", "import", "--name", "v", a.dir}},
		{"neither a file nor a block device", []string{"image", "export", "golden", "/dev/full", "--force"}},
		{"no such file or directory", []string{"image", "export", "golden", filepath.Join(a.dir, "absent", "out.raw")}},
	} {
		a.refused(c.want, c.args...)
		a.nothingOf(strings.Join(c.args, " "), objects, records)
	}
}

// Names may be as long as Swift and the records allow, and hold anything that is
// text.
func TestNamesAtTheLimit(t *testing.T) {
	a := newAdmin(t)
	for _, name := range []string{
		strings.Repeat("n", 128), strings.Repeat("ü", 64), "--", "-x", " ", "\n\t\x00", "../../etc/passwd", `'"$(reboot)"'`, "a/b", "💾", "\u202edlo",
		string(ident.NewVolume()), "%2f?#",
	} {
		var made, same volumeView
		a.json(&made, "volume", "create", "--size", "1Mi", "--", name)
		a.json(&same, "volume", "create", "--size", "1Mi", "--", name)
		var i inspection
		a.json(&i, "volume", "inspect", "--", name)
		if made.ID != same.ID || i.ID != made.ID || i.Name != name {
			t.Errorf("%q: made %s, found %s and %s, %q", name, made.ID, same.ID, i.ID, i.Name)
		}
		a.run("snapshot", "create", "--", name, name)
		a.run("snapshot", "rm", "--", name)
		a.run("volume", "rm", "--", name)
	}
	long := strings.Repeat("p", 224)
	a.run("volume", "create", "v", "--size", "1Mi", "--prefix", long)
	a.run("volume", "rm", "v", "--prefix", long)
	a.run("gc", "--grace", "0s", "--prefix", long)
	a.nothingOf("all", []string{}, []string{})
}

// What is named as another's id is never taken for that.
func TestNameLikeAnID(t *testing.T) {
	a := newAdmin(t)
	var victim, impostor volumeView
	a.json(&victim, "volume", "create", "victim", "--size", "1Mi")
	// Ids are random: one of a few volumes comes before the victim's in the list.
	for range 5 {
		a.json(&impostor, "volume", "create", string(victim.ID), "--size", "2Mi")
		if impostor.ID < victim.ID {
			break
		}
		a.run("volume", "rm", string(impostor.ID))
	}
	a.run("volume", "rm", string(victim.ID))
	for _, v := range a.volumes() {
		if v.ID == victim.ID {
			t.Error("another volume was deleted than the one with the id")
		}
	}
}

// Of two volumes with one name, which recovery can bring about, neither is meant.
func TestAmbiguousName(t *testing.T) {
	a := newAdmin(t)
	var first, second volumeView
	a.json(&first, "volume", "create", "twin", "--size", "1Mi")
	lost := filepath.Join(a.dir, "authority")
	if err := os.Rename(lost, lost+".lost"); err != nil {
		t.Fatal(err)
	}
	a.json(&second, "volume", "create", "twin", "--size", "1Mi")
	a.run("volume", "recover")
	for _, args := range [][]string{
		{"volume", "rm", "twin"},
		{"volume", "inspect", "twin"},
		{"snapshot", "create", "twin", "s"},
		{"volume", "create", "v", "--from", "twin"},
	} {
		a.refused("2 volumes have the name \"twin\": give the id, one of", args...)
	}
	a.run("volume", "rm", string(first.ID))
	a.run("volume", "rm", "twin")
	if list := a.volumes(); len(list) != 0 {
		t.Errorf("left: %+v", list)
	}
}

// Another cluster's containers are left alone, and it is said whose they are.
func TestOtherCluster(t *testing.T) {
	a := newAdmin(t)
	a.run("volume", "create", "v", "--size", "1Mi")
	a.run("image", "import", "--name", "w", a.file("disk.raw", noise(1, 1<<20)))
	objects := a.objects()

	// With the same authority it is a mistake of the command line.
	a.run("volume", "rm", "v", "w", "--cluster", "theirs")
	a.refused(`is of cluster "standalone": the container belongs to another cluster: give the cluster that owns it by --cluster`,
		"gc", "--grace", "0s", "--cluster", "theirs")
	if now := a.objects(); !slices.Equal(now, objects) {
		t.Errorf("in Swift are %q instead of %q", now, objects)
	}

	// With an authority of its own the other cluster sees them and takes none.
	lost := filepath.Join(a.dir, "authority")
	if err := os.Rename(lost, lost+".theirs"); err != nil {
		t.Fatal(err)
	}
	if text := a.run("volume", "recover", "--cluster", "theirs"); strings.Count(text, "of cluster standalone") != 2 {
		t.Errorf("recovered:\n%s", text)
	}
	if list := a.volumes(); len(list) != 0 {
		t.Errorf("taken: %+v", list)
	}
	a.nothingOf("recover", objects, []string{})
}

// A quota that is reached, whatever is being stored then, ends the command and
// leaves nothing.
func TestQuota(t *testing.T) {
	a := newAdmin(t)
	g := a.gated()
	path := a.file("disk.raw", noise(1, 5*chunks.Size))
	a.run("image", "import", "--name", "golden", path)
	objects, records := a.objects(), a.records()
	for _, c := range []struct {
		kind  string // of the object that is too much
		after int64  // of that kind
		args  []string
	}{
		{"", 0, []string{"volume", "create", "v", "--size", "1Gi"}},
		{"volume.", 0, []string{"volume", "create", "v", "--size", "1Gi"}},
		{"ref/", 0, []string{"volume", "create", "v", "--from", "golden"}},
		{"", 0, []string{"image", "import", "--name", "v", path}},
		{"e/", 0, []string{"image", "import", "--name", "v", path}},
		{"c/", 0, []string{"image", "import", "--name", "v", path}},
		{"c/", 3, []string{"image", "import", "--name", "v", path}},
		{"r/", 0, []string{"image", "import", "--name", "v", path}},
		{"volume.", 0, []string{"image", "import", "--name", "v", path}},
	} {
		what := strings.Join(c.args, " ") + ", quota at " + c.kind
		var puts atomic.Int64
		g.onPut(c.kind, func() int {
			if puts.Add(1) > c.after {
				return http.StatusRequestEntityTooLarge
			}
			return 0
		})
		a.refused("quota exceeded (HTTP status 413); delete data or have the quota raised", c.args...)
		if puts.Load() <= c.after {
			t.Errorf("%s: never reached", what)
		}
		g.open()
		if list := a.volumes(); len(list) != 1 {
			t.Errorf("%s: visible are %+v", what, list)
		}
		a.nothingOf(what, objects, records)
	}
	a.run("image", "import", "--name", "v", path) // the name is free
}

// Ctrl-C at any moment ends a command at once with one line, and leaves nothing.
func TestInterrupted(t *testing.T) {
	a := newAdmin(t)
	g := a.gated()
	path := a.file("disk.raw", noise(1, 5*chunks.Size))
	a.run("image", "import", "--name", "golden", path)
	objects, records := a.objects(), a.records()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		kind string // of the object that is under way
		args []string
	}{
		{"", []string{"volume", "create", "v", "--size", "1Gi"}},
		{"volume.", []string{"volume", "create", "v", "--size", "1Gi"}},
		{"ref/", []string{"volume", "create", "v", "--from", "golden"}},
		{"", []string{"image", "import", "--name", "v", path}},
		{"c/", []string{"image", "import", "--name", "v", path}},
		{"r/", []string{"image", "import", "--name", "v", path}},
	} {
		what := strings.Join(c.args, " ") + ", interrupted at " + c.kind
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		child := exec.CommandContext(ctx, program, a.args(c.args...)...)
		child.Env = append(os.Environ(), asProgram+"=1")
		var says bytes.Buffer
		child.Stdout, child.Stderr = &says, &says
		reached, going := make(chan struct{}), make(chan struct{})
		var once atomic.Bool
		g.onPut(c.kind, func() int {
			if once.CompareAndSwap(false, true) {
				close(reached)
			}
			<-going // the request hangs until the command has ended
			return http.StatusServiceUnavailable
		})
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-reached:
		case <-ctx.Done():
			t.Errorf("%s: never reached", what)
		}
		child.Process.Signal(syscall.SIGINT)
		err := child.Wait()
		close(going)
		g.open()
		cancel()
		text := strings.TrimSpace(says.String())
		if err == nil || child.ProcessState.ExitCode() != 1 || strings.Contains(text, "\n") || !strings.Contains(text, "the command was interrupted, and can be given again") {
			t.Errorf("%s: %v, says %q", what, err, text)
		}
		a.nothingOf(what, objects, records)
	}
}

// A full disk is said to be full, and nothing stays on it.
func TestFullDisk(t *testing.T) {
	a := newAdmin(t)
	small := t.TempDir()
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("a small file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(small, 0); err != nil {
			t.Error(err)
		}
	})
	a.run("image", "import", "--name", "golden", a.file("disk.raw", noise(1, 3<<20)))
	a.refused("no space left on device: make room on that disk", "image", "export", "golden", filepath.Join(small, "out.raw"))
	if left, err := os.ReadDir(small); err != nil || len(left) != 0 {
		t.Errorf("left on the disk: %v, %v", left, err)
	}

	// The authority's disk.
	objects := a.objects()
	a.dir = small
	a.run("volume", "create", "there", "--size", "1Mi")
	before, records := a.objects(), a.records()
	filler, err := os.Create(filepath.Join(small, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = filler.Write(make([]byte, 4096))
	}
	filler.Close()
	a.refused("no space left on device: make room on that disk", "volume", "create", "v", "--size", "1Mi")
	a.refused("no space left on device: make room on that disk", "volume", "rm", "there")
	if list := a.volumes(); len(list) != 1 {
		t.Errorf("visible are %+v", list)
	}
	if err := os.Remove(filler.Name()); err != nil {
		t.Fatal(err)
	}
	a.nothingOf("a full disk", before, records)
	a.run("volume", "rm", "there")
	a.nothingOf("all", objects, []string{})
}
