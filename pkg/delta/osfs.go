package delta

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/swiftblock/csi-swiftblock/pkg/ballast"
	"github.com/swiftblock/csi-swiftblock/pkg/durable"
)

// osFS is the operating system's file system.
type osFS struct{ ballast *ballast.File }

func (o osFS) Within(bytes int, write func() error) error { return o.ballast.Within(bytes, write) }

func (osFS) Mkdir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

func (osFS) Create(name string) (File, error) {
	return openFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
}

func (osFS) Open(name string) (File, error) { return openFile(name, os.O_RDWR) }

func openFile(name string, flags int) (File, error) {
	f, err := os.OpenFile(name, flags, 0o600)
	if err != nil {
		return nil, err
	}
	return &osFile{f}, nil
}

func (osFS) Rename(from, to string) error { return os.Rename(from, to) }
func (osFS) Remove(name string) error     { return os.Remove(name) }

func (osFS) ReadDir(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

func (osFS) SyncDir(dir string) error { return durable.SyncDir(dir) }

func (osFS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrLocked
		}
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return f, nil
}

func (osFS) CheckDurable(dir string) error {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return fmt.Errorf("statfs %s: %w", dir, err)
	}
	return CheckType(dir, s.Type)
}

// CheckType returns [ErrUnfit] for a directory on a file system of that type, as
// statfs tells it, if that forgets.
func CheckType(dir string, magic int64) error {
	switch uint32(magic) {
	case unix.TMPFS_MAGIC, unix.RAMFS_MAGIC:
		return fmt.Errorf("%s is on tmpfs, which forgets at a reboot; choose a directory on a disk: %w", dir, ErrUnfit)
	case unix.OVERLAYFS_SUPER_MAGIC:
		return fmt.Errorf("%s is on overlay, which goes with its container; choose a directory on a disk: %w", dir, ErrUnfit)
	}
	return nil
}

func (osFS) MapPage(name string) (Page, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Truncate(Block); err != nil {
		return nil, err
	}
	// Touched memory that a full file system has no room for ends the process, and
	// with it all its volumes: so the room is asked for here.
	if err := unix.Fallocate(int(f.Fd()), 0, 0, Block); err != nil && err != unix.EOPNOTSUPP {
		return nil, fmt.Errorf("room for %s: %w", name, err)
	}
	p, err := unix.Mmap(int(f.Fd()), 0, Block, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", name, err)
	}
	return osPage(p), nil
}

func (osFS) BootID() (id [16]byte, err error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return id, err
	}
	b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(string(text)), "-", ""))
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("boot id %.40q is none", text)
	}
	copy(id[:], b)
	return id, nil
}

type osPage []byte

func (p osPage) Bytes() []byte { return p }
func (p osPage) Close() error  { return unix.Munmap(p) }

type osFile struct{ *os.File }

// ReadDirectAt reads with O_DIRECT; on a file system without it, it drops the
// file's clean pages and reads plainly.
func (f *osFile) ReadDirectAt(p []byte, off int64) (int, error) {
	d, err := os.OpenFile(f.Name(), os.O_RDONLY|unix.O_DIRECT, 0)
	if errors.Is(err, unix.EINVAL) {
		if err := unix.Fadvise(int(f.Fd()), off, int64(len(p)), unix.FADV_DONTNEED); err != nil {
			return 0, fmt.Errorf("drop cached pages of %s: %w", f.Name(), err)
		}
		return f.ReadAt(p, off)
	}
	if err != nil {
		return 0, err
	}
	defer d.Close()
	return d.ReadAt(p, off)
}

// zeroBlock is what ZeroAt writes; nobody changes it.
var zeroBlock = alignedBuffer(1 << 20)

func (f *osFile) ZeroAt(off, n int64) error {
	d, err := os.OpenFile(f.Name(), os.O_WRONLY|unix.O_DIRECT, 0)
	if errors.Is(err, unix.EINVAL) {
		d, err = os.OpenFile(f.Name(), os.O_WRONLY, 0)
	}
	if err != nil {
		return err
	}
	defer d.Close()
	for end := off + n; off < end; {
		k, err := d.WriteAt(zeroBlock[:min(int64(len(zeroBlock)), end-off)], off)
		if err != nil {
			return err
		}
		off += int64(k)
	}
	return fdatasync(d)
}

// Writeback is a hint: a file system that does not know it writes when it likes.
func (f *osFile) Writeback(off, n int64) {
	unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
}

func (f *osFile) Sync() error { return fdatasync(f.File) }

func fdatasync(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return err
		}
	}
}

func (f *osFile) Allocate(size int64) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, size)
	if ballast.Full(err) {
		err = fmt.Errorf("%w: %w", ErrFull, err)
	}
	if err != nil {
		return fmt.Errorf("allocate %d bytes for %s: %w", size, f.Name(), err)
	}
	return nil
}

func (f *osFile) Size() (int64, error) {
	i, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return i.Size(), nil
}

// alignedBuffer returns n bytes at an address that O_DIRECT accepts.
func alignedBuffer(n int) []byte {
	b := make([]byte, n+Block)
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (Block - 1))
	return b[skip : skip+n : skip+n]
}
