package catalog_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// TestFamily: a disk image of Debian packages is imported by a process that is killed
// in the middle, and by another one that goes on; it is exported again. Snapshots and
// clones of clones of it are made while two volumes are written, and deleted in random
// order. After each deletion everything that is left is held to the checksums of all its
// bytes (see reading). The authority is lost and recovered in between. At the end no
// container is left.
func TestFamily(t *testing.T) {
	disk := os.Getenv("SWIFTBLOCK_DISK")
	if disk == "" {
		t.Skip("no image: SWIFTBLOCK_DISK is not set (test/catalog/disk.sh makes one; make catalog-swift does all of it)")
	}
	snapshots := 5
	if n, err := strconv.Atoi(os.Getenv("SWIFTBLOCK_SNAPSHOTS")); err == nil {
		snapshots = n
	}
	f := &family{world: newWorld(t), things: map[string]*thing{}}
	f.reading.world = f.world
	f.importDisk(disk)
	f.exportDisk()
	var stop []func() int
	for _, name := range []string{"writer-1", "writer-2"} {
		f.clone(name, "debian")
		f.attachThing(name)
		stop = append(stop, f.things[name].member.writeOn())
	}
	f.grow(snapshots)
	f.verify()
	f.shrink(func(name string, left int) bool { return f.things[name].member == nil && name != "debian" && left > 6 })
	writes := 0
	for i, name := range []string{"writer-1", "writer-2"} {
		writes += stop[i]()
		f.detachThing(name)
	}
	f.recover()
	f.shrink(func(string, int) bool { return true })
	f.empty()
	t.Logf("counted: %d snapshots and %d clones of a real image deleted in random order during %d writes to two volumes; "+
		"%d disks checked, %d MiB read for it, every byte right; no container left (real Swift)",
		f.snapshots, f.clones, writes, f.reading.disks, f.reading.bytes>>20)
}

// family is a disk image and what was made of it.
type family struct {
	*world
	raw     string // the image
	whole   sum    // of it
	content sums
	things  map[string]*thing

	snapshots, clones, verified int
	reading                     reading
}

// thing is a volume or a snapshot.
type thing struct {
	volume   ident.Volume   // either
	snapshot ident.Snapshot // or
	holds    sums
	member   *member // while it is attached
}

// importDisk imports the image as qcow2, by a process that is killed.
func (f *family) importDisk(raw string) {
	t := f.t
	t.Helper()
	var err error
	f.raw = raw
	f.content, f.whole, err = sumsOf(raw)
	f.check(err)
	qcow2 := f.qcow2()
	f.qemu("convert", "-f", "raw", "-O", "qcow2", raw, qcow2)

	first := f.command("image", "import", "--name", "debian", qcow2)
	f.check(first.Start())
	enough := len(f.content) * (20 + f.random.IntN(50)) / 100
	container := ""
	for container == "" || len(f.chunkObjects(container)) < enough {
		time.Sleep(5 * time.Millisecond)
		if names, err := f.store.Containers(f.ctx, f.prefix, "", 1); err == nil && len(names) == 1 {
			container = names[0]
		}
	}
	f.check(first.Process.Kill())
	if err := first.Wait(); err == nil {
		t.Fatal("the import came to its end before it could be killed")
	}
	before := f.settled(container)

	var result struct {
		Volume  ident.Volume
		Reused  int
		Objects int
		Bytes   int64
		Seconds float64
	}
	f.run(&result, "image", "import", "--name", "debian", qcow2)
	after := f.chunkObjects(container)
	var kept, all int64
	for name, size := range after {
		all += size
		if _, ok := before[name]; ok {
			kept += size
		}
	}
	if result.Reused != len(before) || len(after) != len(f.content) {
		t.Errorf("%d chunks were stored when the import was killed, %d were used again; %d of %d are stored",
			len(before), result.Reused, len(after), len(f.content))
	}
	t.Logf("counted: image of %d MiB, %d of them data; import killed (kill -9) after %d of %d chunks, the next one uploads "+
		"%d MiB and none of the %d MiB a second time, in %.1f s",
		f.size()>>20, int64(len(f.content))*8, len(before), len(f.content), (all-kept)>>20, kept>>20, result.Seconds)
	v, err := f.GetVolume(f.ctx, result.Volume)
	f.check(err)
	f.things["debian"] = &thing{volume: v.ID, holds: f.content}
}

// settled lists the full chunks in a container when nothing has come for three seconds:
// what was on its way has arrived, or never will.
func (f *family) settled(container string) map[string]int64 {
	f.t.Helper()
	now := f.chunkObjects(container)
	for since := time.Now(); time.Since(since) < 3*time.Second; time.Sleep(100 * time.Millisecond) {
		if next := f.chunkObjects(container); len(next) != len(now) {
			now, since = next, time.Now()
		}
	}
	return now
}

func (f *family) size() int64 {
	info, err := os.Stat(f.raw)
	f.check(err)
	return info.Size()
}

func (f *family) qcow2() string { return filepath.Join(f.dir, "debian.qcow2") }

// qemu runs qemu-img.
func (f *family) qemu(args ...string) {
	f.t.Helper()
	if out, err := exec.CommandContext(f.ctx, "qemu-img", args...).CombinedOutput(); err != nil {
		f.t.Fatalf("qemu-img %v: %v\n%s", args, err, out)
	}
}

// exportDisk writes the volume to a file: byte for byte the image, and what qemu
// reads in the image that was imported.
func (f *family) exportDisk() {
	f.t.Helper()
	out := filepath.Join(f.dir, "exported.raw")
	began := time.Now()
	f.run(nil, "image", "export", "debian", out)
	seconds := time.Since(began).Seconds()
	_, whole, err := sumsOf(out)
	f.check(err)
	if whole != f.whole {
		f.t.Fatalf("exported: sha256 %x, the image has %x", whole, f.whole)
	}
	f.qemu("compare", "-f", "raw", "-F", "qcow2", out, f.qcow2())
	f.t.Logf("counted: exported in %.1f s, sha256 %x as the image; qemu-img compare agrees", seconds, whole[:8])
	f.check(os.Remove(out))
	f.check(os.Remove(f.qcow2()))
}

// names lists the things of which ok says so, in an order that only the seed decides.
func (f *family) names(ok func(name string, t *thing) bool) []string {
	var names []string
	for name, t := range f.things {
		if ok(name, t) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (f *family) pick(ok func(name string, t *thing) bool) string {
	names := f.names(ok)
	return names[f.random.IntN(len(names))]
}

func anything(string, *thing) bool { return true }

func isVolume(_ string, t *thing) bool { return t.volume != "" }

// grow makes n snapshots, and clones of whatever there is, every third of which gets
// something of its own.
func (f *family) grow(n int) {
	f.t.Helper()
	for i := range n {
		f.snap(fmt.Sprintf("snapshot-%d", i), f.pick(isVolume))
		if i%2 == 0 {
			name := fmt.Sprintf("clone-%d", i)
			f.clone(name, f.pick(anything))
			if f.random.IntN(3) == 0 {
				f.attachThing(name)
				for range 5 {
					f.check(f.things[name].member.write(f.ctx))
				}
				f.detachThing(name)
			}
		}
	}
}

// still calls do while nobody writes to a thing, and returns what it holds then.
func (t *thing) still(do func()) sums {
	if t.member != nil {
		return t.member.still(do)
	}
	do()
	return t.holds
}

func (f *family) snap(name, of string) {
	f.t.Helper()
	source := f.things[of]
	var s authority.Snapshot
	var err error
	holds := source.still(func() { s, err = f.CreateSnapshot(f.ctx, name, source.volume) })
	f.check(err)
	f.things[name] = &thing{snapshot: s.ID, holds: holds}
	f.snapshots++
}

func (f *family) clone(name, of string) {
	f.t.Helper()
	source := f.things[of]
	spec := catalog.VolumeSpec{Name: name, Source: &authority.Origin{Volume: source.volume, Snapshot: source.snapshot}}
	var v authority.Volume
	var err error
	holds := source.still(func() { v, err = f.CreateVolume(f.ctx, spec) })
	f.check(err)
	f.things[name] = &thing{volume: v.ID, holds: holds}
	f.clones++
}

func (f *family) attachThing(name string) {
	f.t.Helper()
	t := f.things[name]
	t.member = f.attach(t.volume, t.holds)
}

func (f *family) detachThing(name string) {
	f.t.Helper()
	t := f.things[name]
	t.holds = t.member.detach()
	t.member = nil
}

// shrink deletes things as long as there is one that may go, in random order, collects
// after each, and checks all that is left.
func (f *family) shrink(may func(name string, left int) bool) {
	f.t.Helper()
	for {
		victims := f.names(func(name string, _ *thing) bool { return may(name, len(f.things)) })
		if len(victims) == 0 {
			return
		}
		name := victims[f.random.IntN(len(victims))]
		victim := f.things[name]
		delete(f.things, name)
		if victim.snapshot != "" {
			f.check(f.DeleteSnapshot(f.ctx, victim.snapshot))
		} else {
			f.check(f.DeleteVolume(f.ctx, victim.volume))
		}
		collected := f.collect()
		disks, read := f.reading.disks, f.reading.bytes
		f.verify()
		f.t.Logf("%s deleted: %d objects collected; %d disks checked, %d MiB read for it",
			name, collected.Objects, f.reading.disks-disks, (f.reading.bytes-read)>>20)
	}
}

// anew is how often everything is read anew.
const anew = 8

// verify checks all bytes of everything that there is.
func (f *family) verify() {
	f.t.Helper()
	r := &f.reading
	r.begin(f.verified%anew == 0)
	f.verified++
	for _, name := range slices.Sorted(maps.Keys(f.things)) {
		switch t := f.things[name]; {
		case t.member != nil:
			root, holds := t.member.cut()
			r.disk(name, root, holds)
		case t.snapshot != "":
			s, err := f.GetSnapshot(f.ctx, t.snapshot)
			f.check(err)
			r.recorded(name, s.Root, t.holds)
		default:
			v, err := f.GetVolume(f.ctx, t.volume)
			f.check(err)
			r.recorded(name, v.Head, t.holds)
		}
	}
}

// recover loses the authority and rebuilds it from Swift by the program: everything
// that there was comes back, and nothing else.
func (f *family) recover() {
	f.t.Helper()
	for range 2 { // of what was deleted nothing is left to come back
		time.Sleep(grace + time.Second)
		f.collect()
	}
	f.open(filepath.Join(f.dir, "recovered"))
	f.verified = 0 // read everything
	var found []struct {
		Volume   ident.Volume
		Snapshot ident.Snapshot
		Name     string
		Outcome  catalog.Outcome
	}
	f.run(&found, "volume", "recover")
	recovered := 0
	for _, one := range found {
		t := f.things[one.Name]
		switch {
		case one.Outcome == catalog.Gone: // deleted, and kept for what was made of it
		case one.Outcome != catalog.Recovered || t == nil:
			f.t.Errorf("recovery found %+v", one)
		case t.snapshot != one.Snapshot || t.volume != "" && t.volume != one.Volume:
			f.t.Errorf("%s was recovered as %+v, was %s%s", one.Name, one, t.volume, t.snapshot)
		default:
			recovered++
		}
	}
	if recovered != len(f.things) {
		f.t.Errorf("%d of %d were recovered: %+v", recovered, len(f.things), found)
	}
	f.verify()
	f.t.Logf("counted: authority lost, %d volumes and snapshots recovered from the real Swift, every byte right", recovered)
}
