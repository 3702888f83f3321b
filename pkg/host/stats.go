package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// ErrSlow says that a file system did not answer in time.
var ErrSlow = errors.New("the file system does not answer")

// Usage is how full a file system is.
type Usage struct {
	Bytes, Inodes Amounts
}

// Amounts add up: what is neither used nor available is reserved.
type Amounts struct{ Total, Used, Available int64 }

// Statfs asks file systems how full they are, and survives those that do not
// answer: their calls sleep in the kernel where nothing can end them, so each
// has a goroutine that is left behind, and there are never more than a few.
type Statfs struct {
	slots   chan struct{}
	timeout time.Duration
}

// NewStatfs bounds how many calls may be under way, and how long one is waited
// for.
func NewStatfs(calls int, timeout time.Duration) *Statfs {
	return &Statfs{slots: make(chan struct{}, calls), timeout: timeout}
}

// Usage returns how full the file system at path is, or ErrSlow.
func (s *Statfs) Usage(ctx context.Context, path string) (Usage, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	type result struct {
		stat unix.Statfs_t
		err  error
	}
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return Usage{}, fmt.Errorf("statfs %s: %w: all %d calls allowed are waiting", path, ErrSlow, cap(s.slots))
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-s.slots }()
		var r result
		r.err = unix.Statfs(path, &r.stat)
		done <- r
	}()
	select {
	case <-ctx.Done():
		return Usage{}, fmt.Errorf("statfs %s: %w", path, ErrSlow)
	case r := <-done:
		if r.err != nil {
			return Usage{}, fmt.Errorf("statfs %s: %w", path, r.err)
		}
		return usage(r.stat), nil
	}
}

func usage(s unix.Statfs_t) Usage {
	return Usage{
		Bytes: Amounts{
			Total:     int64(s.Blocks) * s.Bsize,
			Used:      int64(s.Blocks-s.Bfree) * s.Bsize,
			Available: int64(s.Bavail) * s.Bsize,
		},
		Inodes: Amounts{
			Total:     int64(s.Files),
			Used:      int64(s.Files - s.Ffree),
			Available: int64(s.Ffree),
		},
	}
}
