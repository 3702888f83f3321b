// Package ballast keeps room on a disk that others may fill to the last block: a
// file that is nothing but reserved space. Who must write although the disk is
// full lets some of it go, and takes it aboard again as soon as there is room.
//
// It is for small files that are replaced again and again, such as the records
// beside the journals, whose own space is reserved. Others that write to the disk
// at the same moment may get what was let go: then the write fails as it would
// have, and the file is smaller until they give something back.
package ballast

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	block = 4 << 10
	// step is the unit in which room is let go, in bytes.
	step = 64 << 10
)

// File is room set aside. A nil File has none.
type File struct {
	mu   sync.Mutex // held while the size changes
	file *os.File
	want int64
	have atomic.Int64
}

// Open makes the file of size bytes, or takes over the one that is there. It may
// be smaller for now, if the disk is full.
func Open(path string, size int64) (*File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	f := &File{file: file, want: size}
	if err := f.load(); err != nil {
		file.Close()
		return nil, err
	}
	return f, nil
}

// Close lets go of the file and leaves it on the disk.
func (f *File) Close() error {
	if f == nil {
		return nil
	}
	return f.file.Close()
}

// Missing is how many bytes the disk has had no room for.
func (f *File) Missing() int64 {
	if f == nil {
		return 0
	}
	return f.want - f.have.Load()
}

// Within runs write, which adds some bytes to the disk, and if that is full once
// more, with room for them. A write that has failed must leave nothing behind.
func (f *File) Within(bytes int, write func() error) error {
	err := write()
	if f == nil || err == nil && f.Missing() == 0 || err != nil && !Full(err) {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		if e := f.drop(int64(bytes/step+1) * step); e != nil {
			return errors.Join(err, e)
		}
		err = write()
	}
	// What is missing is no failure of this write.
	_ = f.load()
	return err
}

// Full tells whether an error says that a disk, or what one may use of it, is full.
func Full(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// drop lets so many bytes go, or all there are.
func (f *File) drop(bytes int64) error {
	have := max(0, f.have.Load()-bytes)
	if err := f.file.Truncate(have); err != nil {
		return err
	}
	f.have.Store(have)
	// A journalling file system uses again only what it has durably freed.
	return f.file.Sync()
}

// load takes aboard what is missing, or as much of it as there is room for.
func (f *File) load() error {
	info, err := f.file.Stat()
	if err != nil {
		return err
	}
	have := info.Size()
	for more := f.want - have; more >= block; {
		switch err = unix.Fallocate(int(f.file.Fd()), 0, have, more); {
		case err == nil:
			have += more
			more = min(more, f.want-have)
		case Full(err):
			more = more / 2 &^ (block - 1)
		case err != unix.EINTR:
			return err
		}
	}
	f.have.Store(have)
	return nil
}
