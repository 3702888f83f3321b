package delta

import "fmt"

const (
	windowSize = 4 << 20                 // bytes read at a time
	marginSize = (maxBlocks + 2) * Block // more than the part of a record that is in the window before
)

// window is a part of one slot's file, read past the page cache. While one part
// is looked at the next one is read. It needs to be closed.
type window struct {
	slot *slot
	size int64 // of a segment
	off  int64 // of data in the file
	data []byte

	held, free []byte        // buffers: the one that data is in, and another
	ahead      chan fileRead // of what follows data; nil: nothing does
}

// fileRead is a part of a file that was read into buf, behind the margin.
type fileRead struct {
	buf []byte
	n   int64
	err error
}

// margin is the room in a buffer before what is read.
func (w *window) margin() int64 { return min(marginSize, w.size) }

func (w *window) end() int64 { return w.off + int64(len(w.data)) }

// at returns n bytes at off, valid until the next call. They are within the
// segment, and no more than a record.
func (w *window) at(s *slot, off, n int64) ([]byte, error) {
	if w.slot != s || off < w.off || off > w.end() {
		w.close()
		w.slot, w.off = s, off
		w.readOn()
	}
	for off+n > w.end() {
		if err := w.extend(off); err != nil {
			w.close()
			return nil, err
		}
	}
	return w.data[off-w.off:][:n], nil
}

// readOn begins to read what follows the data.
func (w *window) readOn() {
	s, off := w.slot, w.end()
	n := min(windowSize, w.size-off)
	if n <= 0 {
		return
	}
	buf := w.free
	if w.free = nil; buf == nil {
		buf = alignedBuffer(int(w.margin() + min(windowSize, w.size)))
	}
	part, done := buf[w.margin():][:n], make(chan fileRead, 1)
	w.ahead = done
	go func() {
		_, err := s.file.ReadDirectAt(part, off)
		if err != nil {
			err = fmt.Errorf("read %s at %d: %w", slotName("", s.index), off, err)
		}
		done <- fileRead{buf, n, err}
	}()
}

// extend makes the data what it was from off on, and what was read ahead.
func (w *window) extend(off int64) error {
	next := <-w.ahead
	w.ahead = nil
	rest := w.data[off-w.off:]
	from := w.margin() - int64(len(rest))
	copy(next.buf[from:], rest)
	w.free, w.held = w.held, next.buf
	w.off, w.data = off, next.buf[from:w.margin()+next.n]
	if next.err == nil {
		w.readOn()
	}
	return next.err
}

// close waits for what is being read, and forgets it.
func (w *window) close() {
	if w.ahead != nil {
		w.free = (<-w.ahead).buf
	}
	w.slot, w.data, w.ahead = nil, nil, nil
}
