package preflight

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/swiftblock/csi-swiftblock/pkg/class"
	"github.com/swiftblock/csi-swiftblock/pkg/delta"
)

// Disk is the file system below a directory.
type Disk struct {
	Type        int64 // as statfs tells it
	Size, Avail int64 // bytes
	// Direct says why a block cannot be written past the page cache; nil: it can.
	Direct error
}

// state looks at where journals will be. The directory itself may be missing, the
// export process makes it: what counts is the file system that it will be on.
func (n Node) state() Result {
	dir := n.path(n.StateDir)
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return failure("move it away", "%s is not a directory", n.StateDir)
	}
	for !exists(dir) && dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
	}
	look := n.Disk
	if look == nil {
		look = realDisk
	}
	disk, err := look(dir)
	if err != nil {
		return failure("give the process the right to write to "+n.StateDir, "%v", err)
	}
	if err := delta.CheckType(n.StateDir, disk.Type); err != nil {
		return failure("mount a disk (ext4, xfs) at "+n.StateDir, "%v", err)
	}
	if disk.Direct != nil {
		return failure("mount a file system that allows O_DIRECT (ext4, xfs) at "+n.StateDir,
			"%s cannot be written past the page cache: %v", n.StateDir, disk.Direct)
	}
	journal := cmp.Or(n.JournalSize, class.DefaultJournalSize)
	const gib = 1 << 30
	switch {
	case disk.Avail < class.MinJournalSize:
		return failure(fmt.Sprintf("make room: %d GiB for each volume that the node will have, or less with the parameter journalSize of the StorageClass", journal/gib),
			"%s has %d MiB free, less than the smallest journal takes", n.StateDir, disk.Avail>>20)
	case disk.Avail < journal:
		return warning(fmt.Sprintf("make room for %.1f GiB more, or set the parameter journalSize of the StorageClass", float64(journal-disk.Avail)/gib),
			"%s has %.1f GiB free, and one journal takes up to %.1f GiB", n.StateDir, float64(disk.Avail)/gib, float64(journal)/gib)
	}
	return ok("%s has %.1f GiB free of %.1f GiB, room for %d journals", n.StateDir, float64(disk.Avail)/gib, float64(disk.Size)/gib, disk.Avail/journal)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// directBlock is what a write past the page cache is aligned to on any disk.
const directBlock = 4096

func realDisk(dir string) (disk Disk, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return disk, fmt.Errorf("statfs %s: %w", dir, err)
	}
	disk = Disk{Type: s.Type, Size: int64(s.Blocks) * s.Bsize, Avail: int64(s.Bavail) * s.Bsize}
	f, err := os.CreateTemp(dir, ".preflight-*")
	if err != nil {
		return disk, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	disk.Direct = writeDirect(f)
	return disk, nil
}

// writeDirect writes one block to f past the page cache.
func writeDirect(f *os.File) error {
	d, err := os.OpenFile(f.Name(), os.O_WRONLY|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	block := make([]byte, 2*directBlock)
	at := (directBlock - int(uintptr(unsafe.Pointer(&block[0]))%directBlock)) % directBlock
	_, err = d.WriteAt(block[at:at+directBlock], 0)
	return errors.Join(err, d.Close())
}
