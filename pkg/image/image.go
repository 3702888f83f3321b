// Package image makes volumes of disk images, and disk images of volumes.
//
// An [Image] is a raw file, a block device, a qcow2 file or a raw stream; what a
// file does not hold is not read. [Import] stores an image as the first generation of a
// volume's first epoch: a full chunk object for each 8 MiB that are not all
// zeros, then the table, then the root, and last of all the record that makes
// the volume visible. Nothing of an import can be seen before that. An [Export]
// writes a volume, as of one root or with a journal laid over it, as a raw image.
package image

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"

	"golang.org/x/sys/unix"
)

// Sector is the unit of an image's size in bytes.
const Sector = 512

// ErrImage is an image that cannot be read, and will not be readable later: it is
// damaged, cut short or of an unknown kind.
var ErrImage = errors.New("not a usable disk image")

func refuse(path, format string, args ...any) error {
	return fmt.Errorf("%w: %s: %w", ErrImage, path, fmt.Errorf(format, args...))
}

// Span is a range of an image in bytes.
type Span struct{ Off, Len int64 }

// Image is an open disk image. ReadAt may be called by several goroutines.
type Image struct {
	Path   string
	Format string // "raw" or "qcow2"
	Size   int64  // bytes, a multiple of [Sector]
	content
	file  *os.File    // nil for a stream
	state fs.FileInfo // of the file when it was opened
}

// content is what a format knows of an image.
type content interface {
	io.ReaderAt
	io.Closer
	// spans yields, in order, what may hold something else than zeros.
	spans() iter.Seq2[Span, error]
}

// Open opens an image and finds out what it is.
func Open(path string) (*Image, error) { return openAs(path, detect) }

// OpenRaw opens a raw image, whatever it begins with: a disk may begin with anything,
// such as a qcow2 image that was written to it.
func OpenRaw(path string) (*Image, error) {
	return openAs(path, func(*os.File) (string, error) { return formatRaw, nil })
}

func openAs(path string, kind func(*os.File) (string, error)) (*Image, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrImage, err)
	}
	if !info.Mode().IsRegular() && !isDevice(info) { // opening a pipe could block for ever
		return nil, refuse(path, "neither a file nor a block device")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrImage, err)
	}
	img, err := open(f, path, kind)
	if err == nil {
		img.file = f
		img.state, err = f.Stat()
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return img, nil
}

// isDevice tells a block device from all else.
func isDevice(info fs.FileInfo) bool {
	return info.Mode()&fs.ModeDevice != 0 && info.Mode()&fs.ModeCharDevice == 0
}

// unchanged refuses an image file that was written while it was read: what was
// read of it may be a mixture. Of a device or a stream nobody can tell.
func (i *Image) unchanged() error {
	if i.file == nil || !i.state.Mode().IsRegular() {
		return nil
	}
	now, err := i.file.Stat()
	if err == nil && (now.Size() != i.state.Size() || !now.ModTime().Equal(i.state.ModTime())) {
		err = errors.New("it was changed while it was read")
	}
	if err != nil {
		return refuse(i.Path, "%w", err)
	}
	return nil
}

func open(f *os.File, path string, kindOf func(*os.File) (string, error)) (*Image, error) {
	size, err := f.Seek(0, io.SeekEnd) // also right for a block device
	if err != nil {
		return nil, refuse(path, "%w", err)
	}
	img := &Image{Path: path, Format: "raw", Size: size, content: raw{f, size}}
	if kind, err := kindOf(f); err != nil {
		return nil, refuse(path, "%w", err)
	} else if kind == formatQcow2 {
		q, err := openQcow2(f, size)
		if err != nil {
			return nil, refuse(path, "%w", err)
		}
		img.Format, img.Size, img.content = formatQcow2, q.Size(), q
	}
	switch {
	case img.Size == 0:
		return nil, refuse(path, "it is empty")
	case img.Size%Sector != 0:
		return nil, refuse(path, "its size of %d bytes is no multiple of %d: it was cut short, or is no disk image", img.Size, Sector)
	}
	return img, nil
}

// ReadFull fills p from off on. An image that ends before it should is damaged.
func (i *Image) ReadFull(p []byte, off int64) error {
	n, err := i.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = errors.New("it was cut short")
	}
	return refuse(i.Path, "reading %d bytes at %d: %w", len(p), off, err)
}

// Spans yields, in order, the parts of the image that may hold something else
// than zeros.
func (i *Image) Spans() iter.Seq2[Span, error] {
	return func(yield func(Span, error) bool) {
		for s, err := range i.spans() {
			if err != nil {
				err = refuse(i.Path, "%w", err)
			}
			if !yield(s, err) || err != nil {
				return
			}
		}
	}
}

// raw is a file or device that is the image itself.
type raw struct {
	*os.File
	size int64
}

// spans asks the file system for the file's holes. One that does not know has
// none.
func (r raw) spans() iter.Seq2[Span, error] {
	return func(yield func(Span, error) bool) {
		for off := int64(0); off < r.size; {
			data, err := r.Seek(off, unix.SEEK_DATA)
			if errors.Is(err, unix.ENXIO) {
				return // only a hole is left
			} else if err != nil {
				yield(Span{off, r.size - off}, nil)
				return
			}
			end, err := r.Seek(data, unix.SEEK_HOLE)
			if err != nil || end <= data || end > r.size {
				end = r.size
			}
			if !yield(Span{data, end - data}, nil) {
				return
			}
			off = end
		}
	}
}
