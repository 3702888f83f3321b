package delta

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

const (
	rootPrefix = "root."
	rootMagic  = "SBroot01"
	rootHeader = 64
)

// roots keeps the bytes of roots that are about to be PUT, one file each.
type roots struct {
	fs  FS
	dir string
	id  Identity

	mu   sync.Mutex // held over the file's writing: saves are rare and ordered
	kept map[uint64][]byte
}

func (r *roots) name(gen uint64) string {
	return filepath.Join(r.dir, fmt.Sprintf("%s%016x", rootPrefix, gen))
}

// load reads the roots of the generations after retired and removes the others.
func (r *roots) load(names []string, retired uint64) error {
	for _, name := range names {
		number, ok := strings.CutPrefix(name, rootPrefix)
		gen, err := strconv.ParseUint(number, 16, 64)
		if !ok || err != nil {
			continue
		}
		if gen <= retired {
			if err := r.fs.Remove(r.name(gen)); err != nil {
				return err
			}
			continue
		}
		object, err := r.read(gen)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		r.kept[gen] = object
	}
	return nil
}

func (r *roots) read(gen uint64) ([]byte, error) {
	f, err := r.fs.Open(r.name(gen))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size < rootHeader || size > maxRoot {
		return nil, fmt.Errorf("%d bytes: %w", size, ErrDamaged)
	}
	p := make([]byte, size)
	if _, err := f.ReadAt(p, 0); err != nil {
		return nil, err
	}
	object := p[rootHeader:]
	if !bytes.Equal(p[:rootHeader], r.header(gen, object)) {
		return nil, fmt.Errorf("wrong header or checksum: %w", ErrDamaged)
	}
	return object, nil
}

// maxRoot bounds a saved root, in bytes.
const maxRoot = 64 << 20

// header names what the file holds and closes with its checksum.
func (r *roots) header(gen uint64, object []byte) []byte {
	p := make([]byte, rootHeader)
	le := binary.LittleEndian
	copy(p, rootMagic)
	putID(p[8:24], string(r.id.Volume))
	le.PutUint64(p[24:], r.id.Epoch.Number)
	le.PutUint64(p[32:], r.id.Epoch.Tag)
	le.PutUint64(p[40:], gen)
	le.PutUint64(p[48:], uint64(len(object)))
	le.PutUint32(p[56:], checksum(object))
	le.PutUint32(p[60:], checksum(p[:60]))
	return p
}

func (r *roots) save(gen uint64, object []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if kept, ok := r.kept[gen]; ok {
		if !bytes.Equal(kept, object) {
			return fmt.Errorf("a root with other bytes is saved already: %w", ErrInvalid)
		}
		return nil
	}
	if len(object) > maxRoot-rootHeader {
		return fmt.Errorf("%d bytes: %w", len(object), ErrInvalid)
	}
	if err := writeFile(r.fs, r.name(gen), append(r.header(gen, object), object...)); err != nil {
		return err
	}
	r.kept[gen] = bytes.Clone(object)
	return nil
}

func (r *roots) get(gen uint64) ([]byte, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	object, ok := r.kept[gen]
	return object, ok
}

// drop forgets the roots up to gen.
func (r *roots) drop(gen uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for g := range r.kept {
		if g > gen {
			continue
		}
		if err := r.fs.Remove(r.name(g)); err != nil {
			return err
		}
		delete(r.kept, g)
	}
	return nil
}
