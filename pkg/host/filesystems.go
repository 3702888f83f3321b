package host

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// FSType is a file system that volumes can be formatted with.
type FSType string

// The file systems there are. Btrfs is refused: a clone of one has the same
// fsid, and the kernel confuses two that are mounted at once.
const (
	Ext4 FSType = "ext4"
	XFS  FSType = "xfs"
)

// MinSize is the smallest device that mkfs accepts, in bytes.
func (t FSType) MinSize() int64 {
	if t == XFS {
		return 300 << 20 // mkfs.xfs 5.19 and later
	}
	return 1 << 20
}

// ParseFSType accepts the names of the file systems there are; "" is ext4.
func ParseFSType(name string) (FSType, error) {
	switch t := FSType(name); t {
	case "":
		return Ext4, nil
	case Ext4, XFS:
		return t, nil
	}
	if name == "btrfs" {
		return "", fmt.Errorf("file system btrfs: %w: the kernel confuses a clone with its source when both are mounted; want %s or %s", ErrInvalid, Ext4, XFS)
	}
	return "", fmt.Errorf("file system %.32q: %w: want %s or %s", name, ErrInvalid, Ext4, XFS)
}

var (
	// ErrNoFilesystem says that a device holds nothing that can be mounted.
	ErrNoFilesystem = errors.New("the device holds no file system")
	// ErrDamagedFilesystem says that fsck found what it does not repair unasked.
	ErrDamagedFilesystem = errors.New("the file system is damaged; repair it by hand")
)

// Exit codes of the tools.
const (
	blkidNothing     = 2 // blkid(8): nothing found
	fsckRepaired     = 1 // fsck(8): errors corrected
	fsckRepairedRoot = 2 // the same, asking for a reboot if it were the root
	fsckUncorrected  = 4
)

// Filesystems runs the host's file system tools on devices that are not mounted,
// except for Grow.
type Filesystems struct{ Run Runner }

// Make makes an empty file system on a device that reads as zeros throughout.
//
// The options keep it thin. Nothing is discarded, there is nothing there. The
// journal and the inode tables are not written: a 100 GiB ext4 so costs 5 MiB of
// writes instead of 1.6 GiB. assume_storage_prezeroed also saves the kernel from
// zeroing the tables in the background (65 GiB of zeros on 4 TiB); e2fsprogs
// before 1.47 refuse it before they write anything, and then leave it to the
// kernel. No blocks are reserved for root: pods run as root anyway.
func (f Filesystems) Make(ctx context.Context, device string, t FSType) error {
	if err := checkPath(device); err != nil {
		return err
	}
	if t == XFS {
		_, err := f.Run.Run(ctx, "mkfs.xfs", "-q", "-f", "-K", device)
		return err
	}
	ext4 := func(extended string) error {
		_, err := f.Run.Run(ctx, "mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", "-E", extended, device)
		return err
	}
	err := ext4("nodiscard,lazy_journal_init=1,assume_storage_prezeroed=1")
	if exitCode(err) == 1 {
		err = ext4("nodiscard,lazy_journal_init=1,lazy_itable_init=1")
	}
	return err
}

// Wipe makes the whole device read as zeros. On a thin device that is metadata.
func (f Filesystems) Wipe(ctx context.Context, device string) error {
	if err := checkPath(device); err != nil {
		return err
	}
	_, err := f.Run.Run(ctx, "blkdiscard", "--zeroout", device)
	return err
}

// SetReadOnly makes the kernel refuse every write to the device. A read-only
// mount of a device file does not: it only protects the file.
func (f Filesystems) SetReadOnly(ctx context.Context, device string) error {
	if err := checkPath(device); err != nil {
		return err
	}
	_, err := f.Run.Run(ctx, "blockdev", "--setro", device)
	return err
}

// Flush brings what the kernel holds for the device onto the device's stable
// storage.
func (f Filesystems) Flush(ctx context.Context, device string) error {
	if err := checkPath(device); err != nil {
		return err
	}
	// fsync(2) on the device: its dirty pages, then SYNCHRONIZE CACHE.
	_, err := f.Run.Run(ctx, "sync", device)
	return err
}

// Type tells what the device holds: ErrNoFilesystem for nothing known. It is
// only asked to choose how to mount, never whether to format: a read error must
// not look like an empty device.
func (f Filesystems) Type(ctx context.Context, device string) (FSType, error) {
	if err := checkPath(device); err != nil {
		return "", err
	}
	out, err := f.Run.Run(ctx, "blkid", "-p", "-o", "value", "-s", "TYPE", device)
	if exitCode(err) == blkidNothing {
		return "", ErrNoFilesystem
	}
	if err != nil {
		return "", err
	}
	name := strings.TrimSpace(string(out))
	if name == "" {
		return "", fmt.Errorf("%w: it has a partition table", ErrNoFilesystem)
	}
	return ParseFSType(name)
}

// Check replays the journal and repairs what can be repaired without a question.
// XFS does that itself when it is mounted.
func (f Filesystems) Check(ctx context.Context, device string, t FSType) error {
	if err := checkPath(device); err != nil || t == XFS {
		return err
	}
	_, err := f.Run.Run(ctx, "fsck.ext4", "-p", device)
	switch code := exitCode(err); {
	case code == fsckRepaired, code == fsckRepairedRoot, code == fsckRepaired|fsckRepairedRoot:
		return nil
	case code > 0 && code&fsckUncorrected != 0:
		return fmt.Errorf("%w: %w", ErrDamagedFilesystem, err)
	}
	return err
}

// Grow makes the mounted file system as large as its device. One that already
// is stays as it is.
func (f Filesystems) Grow(ctx context.Context, device, mountPoint string, t FSType) error {
	if err := errors.Join(checkPath(device), checkPath(mountPoint)); err != nil {
		return err
	}
	if t == XFS {
		_, err := f.Run.Run(ctx, "xfs_growfs", "-d", mountPoint)
		return err
	}
	_, err := f.Run.Run(ctx, "resize2fs", device)
	return err
}
