package main

import (
	"context"
	"sync"
)

// ram is a device in memory. Stripes of locks keep single blocks whole under
// concurrent writes, which SCSI does not ask for but tests compare by.
type ram struct {
	data  []byte
	locks [64]sync.RWMutex
}

// stripe is how much of the device one lock is for, in bytes; the locks are used
// in turn.
const stripe = 1 << 20

func newRAM(size int64) *ram { return &ram{data: make([]byte, size)} }

func (r *ram) Size() int64 { return int64(len(r.data)) }

func (r *ram) each(off, n int64, f func(lock *sync.RWMutex, off, end int64)) {
	for end := off + n; off < end; {
		next := min(off/stripe*stripe+stripe, end)
		f(&r.locks[off/stripe%int64(len(r.locks))], off, next)
		off = next
	}
}

func (r *ram) ReadAt(_ context.Context, p []byte, off int64) error {
	r.each(off, int64(len(p)), func(l *sync.RWMutex, from, to int64) {
		l.RLock()
		defer l.RUnlock()
		copy(p[from-off:], r.data[from:to])
	})
	return nil
}

func (r *ram) WriteAt(_ context.Context, p []byte, off int64, _ bool) error {
	r.each(off, int64(len(p)), func(l *sync.RWMutex, from, to int64) {
		l.Lock()
		defer l.Unlock()
		copy(r.data[from:to], p[from-off:])
	})
	return nil
}

func (r *ram) WriteZeroes(_ context.Context, off, n int64, _ bool) error {
	r.each(off, n, func(l *sync.RWMutex, from, to int64) {
		l.Lock()
		defer l.Unlock()
		clear(r.data[from:to])
	})
	return nil
}

func (r *ram) Discard(ctx context.Context, off, n int64) error {
	return r.WriteZeroes(ctx, off, n, false)
}

func (r *ram) Flush(context.Context) error { return nil }
