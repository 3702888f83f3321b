package delta

import "io"

// FS is the local file system below a journal: the edge at which tests inject
// crashes. Names are paths. All methods may be called concurrently.
type FS interface {
	// Mkdir makes a directory; one that exists is fine.
	Mkdir(dir string) error
	// Create makes a new file or truncates an existing one.
	Create(name string) (File, error)
	// Open opens an existing file for reading and writing.
	Open(name string) (File, error)
	Rename(from, to string) error
	Remove(name string) error
	// ReadDir returns the names in dir, sorted.
	ReadDir(dir string) ([]string, error)
	// SyncDir makes the names in dir durable. What it does not cover may
	// vanish with the power.
	SyncDir(dir string) error
	// Lock takes an exclusive lock that ends with the process, or ErrLocked.
	Lock(name string) (io.Closer, error)
	// MapPage maps the first Block bytes of a file, which it makes if there is
	// none. What is stored there survives the process without a call.
	MapPage(name string) (Page, error)
	// Within runs write, which adds some bytes to the disk, and perhaps again if
	// that is full.
	Within(bytes int, write func() error) error
	// BootID tells this boot of the node from all others.
	BootID() ([16]byte, error)
	// CheckDurable returns ErrUnfit if files in dir do not survive the node.
	CheckDurable(dir string) error
}

// File is one open file of an [FS].
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// ReadDirectAt reads what is on the disk, past the page cache. p and off
	// are multiples of Block; p is aligned for O_DIRECT.
	ReadDirectAt(p []byte, off int64) (int, error)
	// Allocate reserves the first size bytes of the file, which read as zeros
	// where they were never written.
	Allocate(size int64) error
	// ZeroAt writes zeros past the page cache and syncs them, so that a later
	// write there changes nothing but data.
	ZeroAt(off, n int64) error
	// Writeback begins to write what the page cache holds of a part of the file, and
	// does not wait. It makes nothing durable and meets no error: Sync does.
	Writeback(off, n int64)
	// Sync returns when every WriteAt that returned before is on stable
	// storage. After an error nothing is known about any of them.
	Sync() error
	Size() (int64, error)
}

// Page is a block of memory shared with a file.
type Page interface {
	Bytes() []byte // Block bytes, aligned to 8
	io.Closer
}
