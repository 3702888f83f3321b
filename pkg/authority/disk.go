package authority

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/swiftblock/csi-swiftblock/pkg/durable"
)

// filesystem is the part of the local file system that decides what survives:
// tests put one in its place that loses power.
type filesystem interface {
	// Write replaces a file's content and syncs it.
	Write(name string, data []byte) error
	Rename(from, to string) error
	Remove(name string) error
	// SyncDir makes the directory's entries durable.
	SyncDir(name string) error
}

// disk is the real file system.
type disk struct{}

func (disk) Write(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func (disk) Rename(from, to string) error { return os.Rename(from, to) }

func (disk) Remove(name string) error { return os.Remove(name) }

func (disk) SyncDir(name string) error { return durable.SyncDir(name) }

// keys returns the keys of a table that come after the given one, in order.
func (t *fileTable[T]) keys(after string) ([]string, error) {
	dir, err := os.Open(t.dir())
	if err != nil {
		return nil, err
	}
	// Each page of a listing reads all the names: they are not sorted in vain.
	names, err := dir.Readdirnames(-1)
	if err = errors.Join(err, dir.Close()); err != nil {
		return nil, err
	}
	var keys []string
	for _, name := range names {
		// Names in other forms are temporary files or what an editor left.
		if key, ok := strings.CutSuffix(name, recordSuffix); ok && key > after && CheckKey(key) == nil {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys) // the suffix sorts among the characters of keys
	return keys, nil
}

// flock takes the lock of a file or directory, across goroutines and processes:
// each call opens it anew, and the kernel releases it with the process.
func flock(ctx context.Context, name string, shared bool) (unlock func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = os.OpenFile(name, os.O_RDONLY|os.O_CREATE, 0o600)
	}
	if err != nil {
		return nil, err
	}
	how := unix.LOCK_EX
	if shared {
		how = unix.LOCK_SH
	}
	unlock = func() { f.Close() }
	fd := int(f.Fd())
	if unix.Flock(fd, how|unix.LOCK_NB) == nil {
		return unlock, nil
	}
	// The holder is in a write and two syncs: wait, and let go if ctx ends first.
	locked := make(chan error, 1)
	go func() {
		err := unix.Flock(fd, how)
		for err == unix.EINTR {
			err = unix.Flock(fd, how)
		}
		locked <- err
	}()
	select {
	case err = <-locked:
		if err != nil {
			unlock()
			return nil, &fs.PathError{Op: "flock", Path: name, Err: err}
		}
		return unlock, nil
	case <-ctx.Done():
		go func() {
			<-locked
			unlock()
		}()
		return nil, ctx.Err()
	}
}
