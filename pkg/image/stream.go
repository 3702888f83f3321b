package image

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"

	"github.com/lima-vm/go-qcow2reader/image/qcow2"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
)

// OpenStream returns the raw image that comes out of a pipe and is exactly size
// bytes long: an image that ends early, since its producer died, is not taken for
// a whole one. Its bytes can be read once, in the order of its spans.
func OpenStream(r io.Reader, name string, size int64) (*Image, error) {
	return openStream(r, name, size, check)
}

// OpenRawStream is OpenStream for an image that may begin with anything, see [OpenRaw].
func OpenRawStream(r io.Reader, name string, size int64) (*Image, error) {
	return openStream(r, name, size, func([]byte) error { return nil })
}

func openStream(r io.Reader, name string, size int64, check func(head []byte) error) (*Image, error) {
	switch {
	case size <= 0:
		return nil, refuse(name, "the size of a stream has to be given")
	case size%Sector != 0:
		return nil, refuse(name, "its size of %d bytes is no multiple of %d", size, Sector)
	}
	s := &stream{from: r, size: size, check: check, pending: map[int64][]byte{}}
	return &Image{Path: name, Format: formatRaw, Size: size, content: s}, nil
}

// stream is a pipe that is read ahead by a chunk: the span that is yielded waits
// in memory until ReadAt has asked for it.
type stream struct {
	from  io.Reader
	size  int64
	check func(head []byte) error // refuses what it is not to begin with

	mu      sync.Mutex
	pending map[int64][]byte // by offset
	free    [][]byte
}

func (s *stream) spans() iter.Seq2[Span, error] {
	return func(yield func(Span, error) bool) {
		for off := int64(0); off < s.size; {
			buf := s.buffer()
			n, err := io.ReadFull(s.from, buf[:min(chunks.Size, s.size-off)])
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				err = fmt.Errorf("it ended after %d of %d bytes", off+int64(n), s.size)
			}
			if off == 0 { // which may be why it is short
				err = cmp.Or(s.check(buf[:n]), err)
			}
			if err != nil {
				yield(Span{}, err)
				return
			}
			s.mu.Lock()
			s.pending[off] = buf[:n]
			s.mu.Unlock()
			if !yield(Span{off, int64(n)}, nil) {
				return
			}
			off += int64(n)
		}
		if err := s.end(); err != nil {
			yield(Span{}, err)
		}
	}
}

// check refuses what is an image only inside.
func check(head []byte) error {
	if bytes.HasPrefix(head, []byte(qcow2.Magic)) {
		return errors.New("it is a qcow2 image, which cannot be read from a pipe: store it in a file, or convert it with `qemu-img convert -O raw`; give --raw if the disk begins like that")
	}
	return unpacked(head)
}

// end refuses a stream that goes on.
func (s *stream) end() error {
	n, err := io.ReadFull(s.from, make([]byte, 1))
	switch {
	case n > 0:
		return fmt.Errorf("it goes on after the %d bytes that were announced", s.size)
	case err == io.EOF:
		return nil
	}
	return err
}

// ReadAt hands out a span as it was yielded, once.
func (s *stream) ReadAt(p []byte, off int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	buf, ok := s.pending[off]
	if !ok || len(buf) != len(p) {
		return 0, fmt.Errorf("no span of %d bytes at %d waits", len(p), off)
	}
	delete(s.pending, off)
	s.free = append(s.free, buf[:cap(buf)])
	return copy(p, buf), nil
}

// Close leaves the pipe to whoever opened it.
func (s *stream) Close() error { return nil }

func (s *stream) buffer() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.free); n > 0 {
		buf := s.free[n-1]
		s.free = s.free[:n-1]
		return buf
	}
	return make([]byte, chunks.Size)
}
