package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
	"k8s.io/mount-utils"
)

// Mounts mounts devices and binds them into pods. mountinfo is its only state.
type Mounts struct {
	Run Runner
	// MountInfo is the mount table in which Run mounts; "" is this process's own.
	MountInfo string
	// Root is where this process sees the root of that table's file systems; "" is "/".
	Root string
}

// Mount is one line of the mount table.
type Mount struct {
	Point    string
	ReadOnly bool   // this mount, not the file system
	FSType   FSType // also of file systems that are not ours
	device   string // major:minor of the file system
	root     string // what of the file system is mounted
}

// Mounted reports whether anything is mounted at path.
func (m Mounts) Mounted(path string) (bool, error) {
	table, err := m.table()
	point := m.Point(path)
	return slices.ContainsFunc(table, func(mount Mount) bool { return mount.Point == point }), err
}

// Point returns where the mount table shows what is mounted at path, which need not
// exist: the symbolic links on the way there are followed. Many hosts have kubelet's
// directory on another disk.
func (m Mounts) Point(path string) string {
	at, ends := Follow(m.Root, filepath.Dir(path))
	if !ends {
		return path
	}
	return filepath.Join(at, filepath.Base(path))
}

// Of returns every mount of the device: of the file system on it, and of the
// device file itself.
func (m Mounts) Of(device string) ([]Mount, error) {
	table, err := m.table()
	if err != nil {
		return nil, err
	}
	number, err := deviceNumber(device)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(table, func(mount Mount) bool { return !mount.holds(device, number) }), nil
}

// holds reports whether m is of the device: of the file system on it, or of the
// device file, which mountinfo shows as the file "/sdb" of the file system that
// /dev is.
func (m Mount) holds(device, number string) bool {
	return m.device == number || (m.FSType == "devtmpfs" || m.FSType == "tmpfs") && m.root == "/"+filepath.Base(device)
}

// ErrInUse says that a file system still holds the device.
var ErrInUse = errors.New("the device is in use")

// Idle returns ErrInUse while a file system holds the device. The mount table
// does not tell: a mount leaves it when umount(8) begins, and what was not yet
// written is written after that, also when the process that started umount(8)
// has died. A mount in another mount namespace is not in our table either.
func (m Mounts) Idle(device string) error {
	if err := checkPath(device); err != nil {
		return err
	}
	fd, err := unix.Open(device, unix.O_RDONLY|unix.O_EXCL|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%s: %w", device, ErrInUse)
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", device, err)
	}
	return unix.Close(fd)
}

// Filesystem tells a mounted file system from a device file.
func (m Mount) Filesystem() bool { return m.FSType == Ext4 || m.FSType == XFS }

// MountDevice mounts the file system on device at the directory target.
func (m Mounts) MountDevice(ctx context.Context, device, target string, t FSType, options []string, readOnly bool) error {
	if err := errors.Join(checkPath(device), checkPath(target), CheckMountOptions(options)); err != nil {
		return err
	}
	if err := os.MkdirAll(target, 0o750); err != nil {
		return err
	}
	if t == XFS {
		// A clone or a restored snapshot has its source's UUID, and the two may
		// be mounted on one node. Our serial check does what the UUID is for.
		options = append(slices.Clone(options), "nouuid")
	}
	return m.mount(ctx, device, target, string(t), options, readOnly)
}

// BindDirectory shows the directory source at the directory target as well.
func (m Mounts) BindDirectory(ctx context.Context, source, target string, readOnly bool) error {
	if err := errors.Join(checkPath(source), checkPath(target)); err != nil {
		return err
	}
	if err := os.MkdirAll(target, 0o750); err != nil {
		return err
	}
	return m.mount(ctx, source, target, "", []string{"bind"}, readOnly)
}

// BindDevice shows the device file at the file target.
func (m Mounts) BindDevice(ctx context.Context, device, target string, readOnly bool) error {
	if err := errors.Join(checkPath(device), checkPath(target)); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return err
	}
	f, err := os.OpenFile(target, os.O_CREATE|os.O_RDONLY, 0o660)
	if err != nil {
		return err
	}
	f.Close()
	return m.mount(ctx, device, target, "", []string{"bind"}, readOnly)
}

// mount mounts by one command: one that makes a bind mount first and read-only after
// that could be cut short between the two, and nobody finds out what the half of it
// was to be.
func (m Mounts) mount(ctx context.Context, source, target, fsType string, options []string, readOnly bool) error {
	if readOnly {
		options = append(slices.Clone(options), "ro")
	}
	_, err := m.Run.Run(ctx, "mount", mount.MakeMountArgs(source, target, fsType, options)...)
	if err != nil && readOnly && fsType == "" {
		// Half done is not read-only: nobody may find it.
		err = errors.Join(err, m.Unmount(ctx, target))
	}
	return err
}

// Unmount takes everything away that is mounted at target, if anything is.
func (m Mounts) Unmount(ctx context.Context, target string) error {
	if err := checkPath(target); err != nil {
		return err
	}
	for {
		mounted, err := m.Mounted(target)
		if err != nil || !mounted {
			return err
		}
		if _, err := m.Run.Run(ctx, "umount", target); err != nil {
			return err
		}
	}
}

// Remove unmounts target and then removes it, if it is what Bind makes: an empty
// directory or an empty file. Anything else was not put there by us.
func (m Mounts) Remove(ctx context.Context, target string) error {
	if err := m.Unmount(ctx, target); err != nil {
		return err
	}
	info, err := os.Lstat(target)
	if err == nil && !info.IsDir() && (!info.Mode().IsRegular() || info.Size() > 0) {
		return fmt.Errorf("%s: %w: it is neither a directory nor an empty file", target, ErrInvalid)
	}
	if err == nil {
		err = os.Remove(target)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (m Mounts) table() ([]Mount, error) {
	path := m.MountInfo
	if path == "" {
		path = "/proc/self/mountinfo"
	}
	lines, err := mount.ParseMountInfo(path)
	if err != nil {
		return nil, err
	}
	table := make([]Mount, 0, len(lines))
	for _, line := range lines {
		table = append(table, Mount{
			Point:    line.MountPoint,
			ReadOnly: slices.Contains(line.MountOptions, "ro"),
			FSType:   FSType(line.FsType),
			device:   fmt.Sprintf("%d:%d", line.Major, line.Minor),
			root:     line.Root,
		})
	}
	return table, nil
}

// deviceNumber returns "major:minor" of a block device file.
func deviceNumber(device string) (string, error) {
	var stat unix.Stat_t
	if err := unix.Stat(device, &stat); err != nil {
		return "", fmt.Errorf("stat %s: %w", device, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFBLK {
		return "", fmt.Errorf("%s is not a block device", device)
	}
	return fmt.Sprintf("%d:%d", unix.Major(stat.Rdev), unix.Minor(stat.Rdev)), nil
}
