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
	delay time.Duration // of each read and write
}

// stripe is how much of the device one lock is for, in bytes; the locks are used
// in turn.
const stripe = 1 << 20

// newRAM maps memory, of a file if one is named, which is made if need be.
func newRAM(size int64, file string) (*ram, error) {
	r := &ram{}
	r.size.Store(size)
	most := size + size/2
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
	return r, nil
}

func (r *ram) Size() int64 { return r.size.Load() }

// grow makes the device as large as it can be and returns its size.
func (r *ram) grow() int64 {
	r.size.Store(int64(len(r.data)))
	return r.Size()
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
