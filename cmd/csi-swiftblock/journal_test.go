package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// leaveJournal makes the journal of a volume, with one write, as an export
// process leaves it, and returns its name.
func (a *admin) leaveJournal(volume ident.Volume, epoch ident.Epoch, prefix string, size, off int64, data []byte) string {
	a.Helper()
	folder := filepath.Join(a.dir, "state", string(volume))
	if err := os.MkdirAll(folder, 0o700); err != nil {
		a.Fatal(err)
	}
	j, err := delta.Create(delta.Config{
		Dir: filepath.Join(folder, prefix+epoch.String()), SegmentSize: 1 << 20, Quota: 16 << 20, Prewrite: -1, AllowAnyFS: true, Key: a.key,
	}, delta.Identity{Volume: volume, Epoch: epoch}, delta.State{Size: size})
	if err == nil {
		err = j.Write(a.Context(), off, data, false)
	}
	if err == nil {
		err = j.Close()
	}
	if err != nil {
		a.Fatal(err)
	}
	return string(volume) + "/" + epoch.String()
}

// What a lost journal holds is listed, rescued over the version that it continued
// and alone, and discarded; one that is not lost is left alone.
func TestJournals(t *testing.T) {
	a := newAdmin(t)
	content := disk()
	var v importView
	a.json(&v, "image", "import", "--name", "v", a.file("disk.raw", content))
	data := noise(9, 4096)
	const off = 1 << 20
	lost := a.leaveJournal(v.Volume, ident.NewEpoch(2), "lost-", v.Size, off, data)
	live := a.leaveJournal(v.Volume, ident.NewEpoch(3), "", v.Size, off, data)
	state := []string{"--state", filepath.Join(a.dir, "state")}
	command := func(args ...string) []string { return append(append([]string{"journal"}, args...), state...) }

	var list []journalView
	a.json(&list, command("ls")...)
	out := a.run(command("ls")...)
	if len(list) != 2 || !strings.Contains(out, lost) || !strings.Contains(out, live) {
		t.Fatalf("%+v\n%s", list, out)
	}

	for _, only := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "rescued.raw")
		want := make([]byte, len(content))
		args := command("export", lost, path)
		if only {
			args = append(args, "--only")
		} else {
			copy(want, content)
		}
		copy(want[off:], data)
		var s salvageView
		a.json(&s, args...)
		if len(s.Extents) != 1 || s.Extents[0] != (extent{off, 4096}) || s.Held != 4096 || (s.Base == "") != only {
			t.Errorf("%+v", s)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("only %v: %d bytes differ: %v", only, len(got), err)
		}
		args[slices.Index(args, path)] = stdio
		if got := a.run(args...); got != string(want) {
			t.Errorf("only %v: %d bytes came through the pipe", only, len(got))
		}
	}

	a.refused("is not lost", command("export", live, "out.raw")...)
	// Nobody can serve it, as its record is torn, and all of it is rescued.
	if err := os.WriteFile(filepath.Join(a.dir, "state", string(v.Volume), "record.json"), []byte(`{"format": 1, `), 0o600); err != nil {
		t.Fatal(err)
	}
	whole, path := bytes.Clone(content), filepath.Join(t.TempDir(), "rescued.raw")
	copy(whole[off:], data)
	a.run(command("export", "--damaged", live, path)...)
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, whole) {
		t.Errorf("beside a torn record: %d bytes differ: %v", len(got), err)
	}
	a.refused("only lost journals can be discarded", command("discard", live)...)
	a.refused("no journal in", command("discard", lost+"0")...)
	a.run(command("discard", lost)...)
	if a.json(&list, command("ls")...); len(list) != 1 || list[0].Journal != live {
		t.Errorf("left: %+v", list)
	}
	a.refused("by --state", "journal", "ls", "--state", "/absent")
}

// Of a damaged journal, which no export process opens, what precedes the damage is rescued,
// and nothing in its directory is changed.
func TestDamagedJournal(t *testing.T) {
	a := newAdmin(t)
	content := disk()
	var v importView
	a.json(&v, "image", "import", "--name", "v", a.file("disk.raw", content))
	epoch := ident.NewEpoch(2)
	dir := filepath.Join(a.dir, "state", string(v.Volume), epoch.String())
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	j, err := delta.Create(delta.Config{Dir: dir, SegmentSize: 1 << 20, Quota: 16 << 20, Prewrite: -1, AllowAnyFS: true},
		delta.Identity{Volume: v.Volume, Epoch: epoch}, delta.State{Size: v.Size})
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Clone(content)
	for i := range 3 { // records at blocks 1, 3 and 5 of the log, each durable
		data := noise(byte(9+i), 4096)
		if err := j.Write(t.Context(), int64(i)<<20, data, true); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			copy(want, data)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	segment := filepath.Join(dir, "segment.00000")
	log, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	log[4*4096+99] ^= 1 // of the second write
	if err := os.WriteFile(segment, log, 0o600); err != nil {
		t.Fatal(err)
	}
	name, state := string(v.Volume)+"/"+epoch.String(), filepath.Join(a.dir, "state")
	path := filepath.Join(a.dir, "before.raw")
	a.refused("give --damaged", "journal", "export", name, path, "--state", state)
	var s salvageView
	a.json(&s, "journal", "export", "--damaged", name, path, "--state", state)
	if len(s.Extents) != 1 || s.Extents[0] != (extent{0, 4096}) || !strings.Contains(s.Damage, "journal damaged") {
		t.Errorf("%+v", s)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("not what preceded the damage: %v", err)
	}
	if after, err := os.ReadFile(segment); err != nil || !bytes.Equal(after, log) {
		t.Errorf("the log was changed: %v", err)
	}
	lost := filepath.Join(filepath.Dir(dir), "lost-"+epoch.String())
	if err := os.Rename(dir, lost); err != nil {
		t.Fatal(err)
	}
	a.refused("--damaged writes what was there before", "journal", "export", name, path, "--force", "--state", state)
}
