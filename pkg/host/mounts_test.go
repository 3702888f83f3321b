package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// loopDevice returns a block device over a sparse file, and skips the test
// where there can be none.
func loopDevice(t *testing.T, size int64) (device, file string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root for loop devices and mounts")
	}
	file = filepath.Join(t.TempDir(), "disk")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, size)); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "--find", "--show", file).Output()
	if err != nil {
		t.Skipf("no loop device: losetup: %v", err)
	}
	device = strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if err := exec.Command("losetup", "--detach", device).Run(); err != nil {
			t.Errorf("losetup --detach %s: %v", device, err)
		}
	})
	return device, file
}

// written is how much of a sparse file is there, in bytes.
func written(t *testing.T, file string) int64 {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Stat(file, &stat); err != nil {
		t.Fatal(err)
	}
	return stat.Blocks * 512
}

func TestFilesystemFromFormatToGrowth(t *testing.T) {
	for _, fsType := range []FSType{Ext4, XFS} {
		t.Run(string(fsType), func(t *testing.T) {
			if _, err := exec.LookPath("mkfs." + string(fsType)); err != nil {
				t.Skipf("mkfs.%s is not installed", fsType)
			}
			ctx := t.Context()
			device, file := loopDevice(t, 1<<30)
			f, m := Filesystems{Exec{}}, Mounts{Run: Exec{}}
			if _, err := f.Type(ctx, device); !errors.Is(err, ErrNoFilesystem) {
				t.Errorf("Type of a blank device: %v", err)
			}
			if err := f.Make(ctx, device, fsType); err != nil {
				t.Fatal(err)
			}
			if err := f.Flush(ctx, device); err != nil {
				t.Error(err)
			}
			// mkfs.xfs zeroes its log by BLKZEROOUT, for which a file allocates.
			if have := written(t, file); have > 4<<20 && fsType == Ext4 {
				t.Errorf("mkfs of 1 GiB wrote %d bytes: the volume is not thin", have)
			}
			if have, err := f.Type(ctx, device); have != fsType || err != nil {
				t.Errorf("Type = %q, %v", have, err)
			}
			if err := errors.Join(f.Check(ctx, device, fsType), m.Idle(device)); err != nil {
				t.Error(err)
			}
			mountAndGrow(t, f, m, device, file, fsType)
		})
	}
}

func mountAndGrow(t *testing.T, f Filesystems, m Mounts, device, file string, fsType FSType) {
	ctx := t.Context()
	staging, pod := filepath.Join(t.TempDir(), "staging"), filepath.Join(t.TempDir(), "pod")
	if err := m.MountDevice(ctx, device, staging, fsType, []string{"noatime"}, false); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(m.Remove(context.Background(), pod), m.Remove(context.Background(), staging)); err != nil {
			t.Error(err)
		}
	})
	if err := m.BindDirectory(ctx, staging, pod, true); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(staging, "file"), []byte("content"), 0o600); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(filepath.Join(pod, "file")); string(text) != "content" {
		t.Errorf("through the bind mount: %q, %v", text, err)
	}
	if err := os.WriteFile(filepath.Join(pod, "file"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("writing through a read-only bind mount: %v", err)
	}
	mounts, err := m.Of(device)
	points := []string{}
	for _, mount := range mounts {
		points = append(points, mount.Point)
		if mount.FSType != fsType || !mount.Filesystem() || mount.ReadOnly != (mount.Point == pod) {
			t.Errorf("mount %+v", mount)
		}
	}
	if want := []string{staging, pod}; err != nil || !slices.Equal(points, want) {
		t.Errorf("Of = %q, %v; want %q", points, err, want)
	}

	if err := m.Idle(device); !errors.Is(err, ErrInUse) {
		t.Errorf("Idle of a mounted device: %v", err)
	}

	before, err := NewStatfs(time.Minute).Usage(ctx, staging)
	if err != nil || before.Bytes.Total < 900<<20 || before.Bytes.Used <= 0 || before.Inodes.Used <= 0 {
		t.Errorf("Usage = %+v, %v", before, err)
	}
	if err := errors.Join(os.Truncate(file, 2<<30), exec.Command("losetup", "--set-capacity", device).Run()); err != nil {
		t.Fatal(err)
	}
	switch err := f.Grow(ctx, device, staging, fsType); {
	case fsType == Ext4 && !mayResize():
		t.Log("online growth of ext4 not tried: this machine withholds CAP_SYS_RESOURCE")
		return
	case err != nil:
		t.Fatal(err)
	}
	if after, err := NewStatfs(time.Minute).Usage(ctx, staging); err != nil || after.Bytes.Total < 1900<<20 {
		t.Errorf("Usage after growth = %+v, %v", after, err)
	}
	if err := f.Grow(ctx, device, staging, fsType); err != nil {
		t.Errorf("Grow again: %v", err)
	}
}

// mayResize reports whether the process has CAP_SYS_RESOURCE, which ext4 asks for.
func mayResize() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	err := unix.Capget(&header, &data[0])
	return err == nil && data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}

func TestDamagedFilesystem(t *testing.T) {
	device, file := loopDevice(t, 64<<20)
	f := Filesystems{Exec{}}
	if err := f.Make(t.Context(), device, Ext4); err != nil {
		t.Fatal(err)
	}
	// Zeros over the group descriptors and bitmaps of the first group.
	disk, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := disk.WriteAt(make([]byte, 256<<10), 4096); err != nil {
		t.Fatal(err)
	}
	disk.Close()
	if err := f.Check(t.Context(), device, Ext4); !errors.Is(err, ErrDamagedFilesystem) {
		t.Errorf("Check = %v, want ErrDamagedFilesystem", err)
	}
}

func TestWipe(t *testing.T) {
	device, _ := loopDevice(t, 64<<20)
	f := Filesystems{Exec{}}
	if err := f.Make(t.Context(), device, Ext4); err != nil {
		t.Fatal(err)
	}
	if err := f.Wipe(t.Context(), device); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Type(t.Context(), device); !errors.Is(err, ErrNoFilesystem) {
		t.Errorf("Type of a wiped device: %v", err)
	}
}

func TestBlockDevice(t *testing.T) {
	device, _ := loopDevice(t, 1<<20)
	m := Mounts{Run: Exec{}}
	target := filepath.Join(t.TempDir(), "pods", "disk")
	if err := m.BindDevice(t.Context(), device, target, false); err != nil {
		t.Fatal(err)
	}
	mounts, err := m.Of(device)
	if err != nil || len(mounts) != 1 || mounts[0].Point != target || mounts[0].Filesystem() {
		t.Errorf("Of = %+v, %v", mounts, err)
	}
	if number, err := deviceNumber(target); err != nil || number == "" {
		t.Errorf("the target is no block device: %v", err)
	}
	for range 2 {
		if err := m.Remove(t.Context(), target); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(target); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the target is still there: %v", err)
	}
}

func TestReadOnlyDevice(t *testing.T) {
	device, _ := loopDevice(t, 1<<20)
	if err := (Filesystems{Exec{}}).SetReadOnly(t.Context(), device); err != nil {
		t.Fatal(err)
	}
	// A loop device stays read-only beyond its file.
	defer exec.Command("blockdev", "--setrw", device).Run()
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err == nil {
		_, err = f.Write(make([]byte, 512))
		f.Close()
	}
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EROFS) {
		t.Errorf("writing to a read-only device: %v", err)
	}
}

// What a pod left in a directory that is not mounted is not ours to delete.
func TestRemoveKeepsWhatIsNotOurs(t *testing.T) {
	m := Mounts{Run: Exec{}}
	target := t.TempDir()
	file := filepath.Join(target, "file")
	if err := os.WriteFile(file, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{target, file, "/dev/null"} {
		if err := m.Remove(t.Context(), path); err == nil {
			t.Errorf("removed %s", path)
		}
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}

// A clone of an xfs has its source's UUID and is mounted beside it all the same.
func TestXFSWithoutUUID(t *testing.T) {
	machine := newMachine(t)
	m := Mounts{Run: machine}
	if err := m.MountDevice(t.Context(), "/dev/sdx", machine.path("staging"), XFS, []string{"noatime"}, true); err != nil {
		t.Fatal(err)
	}
	if ran := machine.ran("mount -t xfs -o noatime,nouuid,ro /dev/sdx"); len(ran) != 1 {
		t.Errorf("ran %q", ran)
	}
}

func TestMountOptions(t *testing.T) {
	for _, option := range []string{"noatime", "discard", "data=ordered", "errors=remount-ro", "uid=0", "commit=5", `context="system_u:object_r:container_file_t:s0:c1,c2"`} {
		if err := CheckMountOptions([]string{option}); err != nil {
			t.Errorf("%q: %v", option, err)
		}
	}
	for _, option := range []string{"", "-o", "a,b", "bind", "remount", "loop", "loop=/dev/loop0", "X-mount.mkdir", "x-systemd.automount", "a b", "a\nb", "dev", "logdev=/dev/sda1", "rtdev=/dev/sda1", "journal_path=/dev/sda1", "journal_dev=0x801", "$(reboot)", `context="a",bind`, `context="a`, `context="a b"`, `context=a,b`, strings.Repeat("a", 300)} {
		if err := CheckMountOptions([]string{"noatime", option}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: error %v, want ErrInvalid", option, err)
		}
	}
}

func TestPaths(t *testing.T) {
	m := Mounts{Run: newMachine(t)}
	for _, path := range []string{"", "relative", "/", "/a/../b", "/a//b", "/a\nb", "--help", "/" + strings.Repeat("a", 5000)} {
		if err := m.MountDevice(t.Context(), "/dev/null", path, Ext4, nil, false); !errors.Is(err, ErrInvalid) {
			t.Errorf("%.20q: error %v, want ErrInvalid", path, err)
		}
	}
}

// tardy is a runner whose tools take longer than a caller waits.
type tardy struct {
	begun   func()
	release chan struct{} // what has begun goes on when this is closed
	ended   chan error
}

func (r tardy) Run(ctx context.Context, tool string, args ...string) ([]byte, error) {
	r.begun()
	select {
	case <-r.release:
	case <-ctx.Done():
	}
	out, err := Exec{}.Run(ctx, tool, args...)
	r.ended <- err
	return out, err
}

// A read-only bind mount is never found without that, whenever its caller gave up: the
// next call would take it for another's.
func TestReadOnlyBindIsNeverHalfDone(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root for mounts")
	}
	source, target := t.TempDir(), filepath.Join(t.TempDir(), "pod")
	ctx, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	tools := tardy{giveUp, make(chan struct{}), make(chan error, 9)}
	m := Mounts{Run: NewLasting(tools)}
	if err := m.BindDirectory(ctx, source, target, true); !errors.Is(err, context.Canceled) {
		t.Fatalf("bind: %v", err)
	}
	close(tools.release)
	if err := <-tools.ended; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := (Mounts{Run: Exec{}}).Remove(context.Background(), target); err != nil {
			t.Error(err)
		}
	})
	table, err := m.table()
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range table {
		if found.Point == target && !found.ReadOnly {
			t.Errorf("found %+v", found)
		}
	}
}

// half is a mount that ends after its first step, with a mount table in a file.
type half struct{ table string }

func (h half) Run(_ context.Context, tool string, args ...string) ([]byte, error) {
	if tool == "umount" {
		return nil, os.WriteFile(h.table, nil, 0o600)
	}
	line := fmt.Sprintf("40 1 8:16 / %s rw - ext4 /dev/sdb rw\n", args[len(args)-1])
	return nil, errors.Join(os.WriteFile(h.table, []byte(line), 0o600), errors.New("mount failed: it is not read-only"))
}

// A read-only bind mount of which one step failed is taken away again.
func TestFailedReadOnlyBindIsTakenAway(t *testing.T) {
	dir := t.TempDir()
	m := Mounts{MountInfo: filepath.Join(dir, "mountinfo")}
	m.Run = half{m.MountInfo}
	if err := os.WriteFile(m.MountInfo, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(dir, "pod")
	if err := m.BindDirectory(t.Context(), dir, target, true); err == nil {
		t.Error("a mount that failed succeeded")
	}
	if mounted, err := m.Mounted(target); err != nil || mounted {
		t.Errorf("mounted %v, %v", mounted, err)
	}
}

// The mount table has the paths that links lead to.
func TestMountsThroughLinks(t *testing.T) {
	device, _ := loopDevice(t, 1<<20)
	m := Mounts{Run: Exec{}}
	dir := t.TempDir()
	for link, to := range map[string]string{"kubelet": "disk/kubelet", "disk": filepath.Join(dir, "data", "."), "loop": "loop"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "data", "kubelet"), 0o700); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(dir, "kubelet", "pods", "disk")
	if err := m.BindDevice(t.Context(), device, target, false); err != nil {
		t.Fatal(err)
	}
	mounts, err := m.Of(device)
	if err != nil || len(mounts) != 1 || mounts[0].Point != m.Point(target) || m.Point(target) == target {
		t.Errorf("Of = %+v, %v; want %s", mounts, err, m.Point(target))
	}
	if err := m.Remove(t.Context(), target); err != nil {
		t.Error(err)
	}
	if mounts, err := m.Of(device); err != nil || len(mounts) != 0 {
		t.Errorf("after Remove: %+v, %v", mounts, err)
	}
	for path, want := range map[string]string{
		"/absent/deep/path":               "/absent/deep/path",
		filepath.Join(dir, "loop", "x"):   filepath.Join(dir, "loop", "x"),
		filepath.Join(dir, "disk"):        filepath.Join(dir, "disk"), // what is mounted there hides it
		filepath.Join(dir, "disk", "new"): filepath.Join(dir, "data", "new"),
	} {
		if got := m.Point(path); got != want {
			t.Errorf("Point(%s) = %s, want %s", path, got, want)
		}
	}
	elsewhere := Mounts{Root: dir}
	if got := elsewhere.Point("/kubelet/pods/disk"); !strings.HasSuffix(got, "/data/kubelet/pods/disk") {
		t.Errorf("seen at another root: %s", got)
	}
}
