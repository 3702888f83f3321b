package crashfs

import (
	"io"
	"slices"
)

const pageSize = 4096

// content is the bytes of a file. Its pages are never changed in place, so that
// copies of a file share them.
type content struct {
	size  int64
	pages []*[pageSize]byte // nil: zeros
}

func (c content) clone() content { return content{c.size, slices.Clone(c.pages)} }

// grow makes c at least size bytes long.
func (c *content) grow(size int64) {
	c.size = max(c.size, size)
	if n := int((c.size + pageSize - 1) / pageSize); n > len(c.pages) {
		c.pages = append(c.pages, make([]*[pageSize]byte, n-len(c.pages))...)
	}
}

func (c content) readAt(p []byte, off int64) (int, error) {
	if off >= c.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), c.size-off))
	for rest := p[:n]; len(rest) > 0; {
		k := min(len(rest), int(pageSize-off%pageSize))
		if page := c.pages[off/pageSize]; page != nil {
			copy(rest[:k], page[off%pageSize:])
		} else {
			clear(rest[:k])
		}
		rest, off = rest[k:], off+int64(k)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (c *content) writeAt(p []byte, off int64) {
	c.grow(off + int64(len(p)))
	for len(p) > 0 {
		page := new([pageSize]byte)
		if old := c.pages[off/pageSize]; old != nil {
			*page = *old
		}
		c.pages[off/pageSize] = page
		k := copy(page[off%pageSize:], p)
		p, off = p[k:], off+int64(k)
	}
}

// write is a change of a file on its way to the disk.
type write struct {
	off   int64
	data  []byte
	empty bool // the file was cut to nothing
}

// apply does w.
func (w write) apply(c *content) {
	if w.empty {
		*c = content{}
		return
	}
	c.writeAt(w.data, w.off)
}

// tear does w as far as kept, asked for each of its sectors, says.
func (w write) tear(c *content, kept func() bool) {
	if w.empty {
		if kept() {
			w.apply(c)
		}
		return
	}
	mixed := make([]byte, len(w.data))
	c.readAt(mixed, w.off) // zeros behind the end
	end := 0
	for at := 0; at < len(w.data); {
		n := min(len(w.data)-at, sector-int(w.off+int64(at))%sector)
		if kept() {
			end = at + copy(mixed[at:], w.data[at:at+n])
		}
		at += n
	}
	c.writeAt(mixed[:end], w.off)
}
