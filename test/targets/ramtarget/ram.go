package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// ram is a device in memory. Stripes of locks keep single blocks whole under
// concurrent writes, which SCSI does not ask for but tests compare by.
type ram struct {
	data  []byte // as long as it can grow
	size  atomic.Int64
	locks [64]sync.RWMutex
	pages []atomic.Bool // which are stored: not given up by Discard, or never written
	delay time.Duration // of each read and write
}

// page is what Discard gives up, in bytes.
const page = 4 << 10

// stripe is how much of the device one lock is for, in bytes; the locks are used
// in turn.
const stripe = 1 << 20

// newRAM maps memory, of a file if one is named, which is made if need be.
func newRAM(size int64, file string) (*ram, error) {
	r := &ram{}
	r.size.Store(size)
	most := size + size/2
	r.pages = make([]atomic.Bool, (most+page-1)/page)
	if file == "" {
		r.data = make([]byte, most)
		return r, nil
	}
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Truncate(most); err != nil {
		return nil, err
	}
	r.data, err = unix.Mmap(int(f.Fd()), 0, int(most), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping %s: %w", file, err)
	}
	r.mark(0, most, true) // of an earlier process nothing is known
	return r, nil
}

func (r *ram) Size() int64 { return r.size.Load() }

func (r *ram) grow() (int64, error) {
	r.size.Store(int64(len(r.data)))
	return r.Size(), nil
}

func (r *ram) close() error { return nil }

// mark notes of the pages that n bytes at off touch that they are stored, or of those
// that lie within that they are not.
func (r *ram) mark(off, n int64, stored bool) {
	from, to := off/page, (off+n+page-1)/page
	if !stored {
		from, to = (off+page-1)/page, (off+n)/page
	}
	for i := from; i < to; i++ {
		r.pages[i].Store(stored)
	}
}

// Mapped implements [target.Mapper].
func (r *ram) Mapped(_ context.Context, off, n int64) (stored bool, length int64, err error) {
	stored = r.pages[off/page].Load()
	end := off
	for end < off+n && r.pages[end/page].Load() == stored {
		end = end/page*page + page
	}
	return stored, min(end-off, n), nil
}

func (r *ram) each(off, n int64, f func(lock *sync.RWMutex, off, end int64)) {
	for end := off + n; off < end; {
		next := min(off/stripe*stripe+stripe, end)
		f(&r.locks[off/stripe%int64(len(r.locks))], off, next)
		off = next
	}
}

// wait takes the time that the device is to take.
func (r *ram) wait() {
	if r.delay > 0 {
		time.Sleep(r.delay)
	}
}

func (r *ram) ReadAt(_ context.Context, p []byte, off int64) error {
	r.wait()
	r.each(off, int64(len(p)), func(l *sync.RWMutex, from, to int64) {
		l.RLock()
		defer l.RUnlock()
		copy(p[from-off:], r.data[from:to])
	})
	return nil
}

func (r *ram) WriteAt(_ context.Context, p []byte, off int64, _ bool) error {
	r.wait()
	r.mark(off, int64(len(p)), true)
	r.each(off, int64(len(p)), func(l *sync.RWMutex, from, to int64) {
		l.Lock()
		defer l.Unlock()
		copy(r.data[from:to], p[from-off:])
	})
	return nil
}

func (r *ram) WriteZeroes(_ context.Context, off, n int64, _ bool) error {
	r.mark(off, n, true)
	r.clear(off, n)
	return nil
}

func (r *ram) clear(off, n int64) {
	r.each(off, n, func(l *sync.RWMutex, from, to int64) {
		l.Lock()
		defer l.Unlock()
		clear(r.data[from:to])
	})
}

func (r *ram) Discard(_ context.Context, off, n int64) error {
	r.clear(off, n)
	r.mark(off, n, false)
	return nil
}

func (r *ram) Flush(context.Context) error { return nil }
