package crashfs

import (
	"fmt"
	"hash/maphash"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/swiftblock/csi-swiftblock/pkg/delta"
)

// file is an open file of one process.
type file struct {
	fs   *FS
	node *inode
	life int
}

func (f *file) check() error {
	if f.fs.dead || f.life != f.fs.life {
		return ErrCrashed
	}
	return nil
}

// ReadAt reads through the page cache.
func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check(); err != nil {
		return 0, err
	}
	return f.node.live.readAt(p, off)
}

// ReadDirectAt reads what is on the disk, after dirty pages were written. It is
// as particular as O_DIRECT.
func (f *file) ReadDirectAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check(); err != nil {
		return 0, err
	}
	if at := uintptr(unsafe.Pointer(unsafe.SliceData(p))); (at|uintptr(len(p))|uintptr(off))%delta.Block != 0 {
		return 0, fmt.Errorf("crashfs: direct read of %d bytes at %d to address %#x: %w", len(p), off, at, unix.EINVAL)
	}
	if len(f.node.dirty) == 0 {
		return f.node.stable.readAt(p, off)
	}
	return f.node.disk().readAt(p, off)
}

// WriteAt writes to the page cache. A process that dies in it, or a write that
// fails, leaves a part of it.
func (f *file) WriteAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check(); err != nil {
		return 0, err
	}
	last, err := f.fs.begin()
	if err != nil {
		return 0, err
	}
	failed := f.fs.failWrites > 0
	if failed || last {
		p = p[:min(len(p), sector*f.fs.rand.IntN(len(p)/sector+2))]
	}
	f.node.put(write{off: off, data: slices.Clone(p)})
	switch {
	case last:
		f.fs.kill()
		return 0, ErrCrashed
	case failed:
		f.fs.failWrites--
		return 0, ErrInjected
	}
	return len(p), nil
}

// put does w in the page cache.
func (n *inode) put(w write) {
	w.apply(&n.live)
	n.dirty = append(n.dirty, w)
}

// Allocate makes the file size bytes long.
func (f *file) Allocate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check(); err != nil {
		return err
	}
	if grow := size - f.node.live.size; grow > 0 {
		f.node.put(write{off: f.node.live.size, data: make([]byte, grow)})
	}
	return nil
}

// ZeroAt writes zeros and syncs. It is as particular as O_DIRECT.
func (f *file) ZeroAt(off, n int64) error {
	if (off|n)%delta.Block != 0 {
		return fmt.Errorf("crashfs: direct write of %d bytes at %d: %w", n, off, unix.EINVAL)
	}
	if _, err := f.WriteAt(make([]byte, n), off); err != nil {
		return err
	}
	return f.Sync()
}

// Writeback does nothing: whatever is dirty may be on the disk at any time.
func (f *file) Writeback(_, _ int64) {}

// Sync makes the content durable, or lies about it for ever after.
func (f *file) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check(); err != nil {
		return err
	}
	last, err := f.fs.begin()
	if err != nil {
		return err
	}
	if last {
		f.fs.kill()
		return ErrCrashed
	}
	if f.fs.failSyncs > 0 && len(f.node.dirty) > 0 {
		f.fs.failSyncs--
		seen := f.node.live
		f.fs.lose(f.node, new(maphash.Hash))
		f.node.live = seen
		return ErrInjected
	}
	for _, w := range f.node.dirty {
		w.apply(&f.node.stable)
	}
	f.node.dirty = nil
	return nil
}

func (f *file) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return f.node.live.size, f.check()
}

// Close syncs nothing.
func (f *file) Close() error { return nil }
