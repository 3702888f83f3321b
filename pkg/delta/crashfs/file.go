package crashfs

import (
	"io"
	"slices"
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
	return readAt(f.node.live, p, off)
}

// ReadDirectAt reads what is on the disk, after dirty pages were written.
func (f *file) ReadDirectAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check(); err != nil {
		return 0, err
	}
	return readAt(f.node.disk(), p, off)
}

func readAt(content, p []byte, off int64) (int, error) {
	if off >= int64(len(content)) {
		return 0, io.EOF
	}
	n := copy(p, content[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
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
	w := write{off, slices.Clone(p)}
	failed := f.fs.failWrites > 0
	if failed || last {
		parts := w.sectors()
		for _, s := range parts[:f.fs.rand.IntN(len(parts)+1)] {
			f.put(s)
		}
	} else {
		f.put(w)
	}
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

func (f *file) put(w write) {
	f.node.live = w.apply(f.node.live)
	f.node.dirty = append(f.node.dirty, w)
}

// Allocate makes the file size bytes long.
func (f *file) Allocate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check(); err != nil {
		return err
	}
	if grow := size - int64(len(f.node.live)); grow > 0 {
		f.put(write{int64(len(f.node.live)), make([]byte, grow)})
	}
	return nil
}

// ZeroAt writes zeros and syncs.
func (f *file) ZeroAt(off, n int64) error {
	if _, err := f.WriteAt(make([]byte, n), off); err != nil {
		return err
	}
	return f.Sync()
}

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
		f.fs.lose(f.node)
		f.node.live = seen
		return ErrInjected
	}
	for _, w := range f.node.dirty {
		f.node.stable = w.apply(f.node.stable)
	}
	f.node.dirty = nil
	return nil
}

func (f *file) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return int64(len(f.node.live)), f.check()
}

// Close syncs nothing.
func (f *file) Close() error { return nil }
