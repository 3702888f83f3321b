package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/singleflight"
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
// has a goroutine that is left behind, and there is never more than one for a path.
type Statfs struct {
	calls   singleflight.Group
	timeout time.Duration
	statfs  func(path string, s *unix.Statfs_t) error
}

// NewStatfs bounds how long a call is waited for.
func NewStatfs(timeout time.Duration) *Statfs {
	return &Statfs{timeout: timeout, statfs: unix.Statfs}
}

// Usage returns how full the file system at path is, or ErrSlow.
func (s *Statfs) Usage(ctx context.Context, path string) (Usage, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	done := s.calls.DoChan(path, func() (any, error) {
		var stat unix.Statfs_t
		err := s.statfs(path, &stat)
		return usage(stat), err
	})
	select {
	case <-ctx.Done():
		return Usage{}, fmt.Errorf("statfs %s: %w", path, ErrSlow)
	case r := <-done:
		if r.Err != nil {
			return Usage{}, fmt.Errorf("statfs %s: %w", path, r.Err)
		}
		return r.Val.(Usage), nil
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
