package delta

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

const (
	anchorMagic = "SBanchor"
	anchorName  = "anchor"
)

// anchor says where the log begins. It is written before segments are used
// again, so that recovery never takes a recycled segment for the beginning.
type anchor struct {
	id      Identity
	counter uint64 // of writes of the anchor; copy counter%2 is the newest
	segment int64  // size in bytes
	slots   int
	retired uint64 // generations up to this one are published
	tail    tail
	// The data in the log is encrypted, with the key that has this check.
	encrypted bool
	check     [checkSize]byte
}

// tail is the start of a segment: what the chain of records continues there.
type tail struct {
	segment uint64
	seq     uint64 // of the segment's first record
	prev    uint32 // its prev
}

func (a *anchor) encode(p []byte) {
	clear(p[:Block])
	le := binary.LittleEndian
	copy(p, anchorMagic)
	le.PutUint16(p[8:], formatVersion(a.encrypted))
	putID(p[16:32], string(a.id.Volume))
	le.PutUint64(p[32:], a.id.Epoch.Number)
	le.PutUint64(p[40:], a.id.Epoch.Tag)
	le.PutUint64(p[48:], a.counter)
	le.PutUint64(p[56:], uint64(a.segment))
	le.PutUint64(p[64:], uint64(a.slots))
	le.PutUint64(p[72:], a.retired)
	le.PutUint64(p[80:], a.tail.segment)
	le.PutUint64(p[88:], a.tail.seq)
	le.PutUint32(p[96:], a.tail.prev)
	copy(p[100:], a.check[:])
	le.PutUint32(p[crcAt:], checksum(p[:crcAt]))
}

// decodeAnchor decodes one copy: ErrDamaged, or ErrNewer.
func decodeAnchor(p []byte) (a anchor, err error) {
	le := binary.LittleEndian
	if string(p[:8]) != anchorMagic || le.Uint32(p[crcAt:]) != checksum(p[:crcAt]) {
		return a, ErrDamaged
	}
	v := le.Uint16(p[8:])
	if v != recordVersion && v != encryptedVersion {
		return a, fmt.Errorf("format version %d, this release reads %d and %d: %w", v, recordVersion, encryptedVersion, ErrNewer)
	}
	a = anchor{
		id:      Identity{Volume: ident.Volume(getID(p[16:32])), Epoch: ident.Epoch{Number: le.Uint64(p[32:]), Tag: le.Uint64(p[40:])}},
		counter: le.Uint64(p[48:]),
		segment: int64(le.Uint64(p[56:])),
		slots:   int(le.Uint64(p[64:])),
		retired: le.Uint64(p[72:]),
		tail:    tail{le.Uint64(p[80:]), le.Uint64(p[88:]), le.Uint32(p[96:])},

		encrypted: v == encryptedVersion,
	}
	if a.encrypted {
		copy(a.check[:], p[100:])
	}
	if checkGeometry(a.segment, a.slots) != nil {
		return a, ErrDamaged
	}
	return a, nil
}

// createAnchor makes a durable anchor file: its existence says that the
// journal is whole.
func createAnchor(fs FS, dir string, a anchor) (File, error) {
	name := filepath.Join(dir, anchorName)
	p := make([]byte, 2*Block)
	a.encode(p)
	copy(p[Block:], p[:Block])
	if err := writeFile(fs, name, p); err != nil {
		return nil, err
	}
	return fs.Open(name)
}

// loadAnchor reads the newest whole copy.
func loadAnchor(fs FS, dir string) (File, anchor, error) {
	f, err := fs.Open(filepath.Join(dir, anchorName))
	if err != nil {
		return nil, anchor{}, err
	}
	p := alignedBuffer(2 * Block)
	if err = f.Sync(); err == nil {
		_, err = f.ReadDirectAt(p, 0)
	}
	if err != nil {
		f.Close()
		return nil, anchor{}, fmt.Errorf("read %s: %w", anchorName, err)
	}
	a, err := decodeAnchor(p)
	b, err2 := decodeAnchor(p[Block:])
	switch {
	case errors.Is(err, ErrNewer) || errors.Is(err2, ErrNewer):
		err = fmt.Errorf("%s: %w", anchorName, errors.Join(err, err2))
	case err2 == nil && (err != nil || b.counter > a.counter):
		a, err = b, nil
	case err != nil:
		err = fmt.Errorf("no copy of %s is whole: %w", anchorName, err)
	}
	if err != nil {
		f.Close()
		return nil, anchor{}, err
	}
	return f, a, nil
}

// store makes a the newest copy, durably; a crash leaves it or its predecessor.
func (a *anchor) store(f File) error {
	p := make([]byte, Block)
	a.encode(p)
	if _, err := f.WriteAt(p, int64(a.counter%2)*Block); err != nil {
		return err
	}
	return f.Sync()
}

// writeFile puts content under name, all or nothing, durably.
func writeFile(fs FS, name string, content []byte) error {
	return fs.Within(len(content), func() error { return putFile(fs, name, content) })
}

func putFile(fs FS, name string, content []byte) error {
	temporary := name + temporarySuffix
	f, err := fs.Create(temporary)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(content, 0); err == nil {
		err = f.Sync()
	}
	if err2 := f.Close(); err == nil {
		err = err2
	}
	if err == nil {
		err = fs.Rename(temporary, name)
	}
	if err == nil {
		err = fs.SyncDir(filepath.Dir(name))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(name), err)
	}
	return nil
}

// temporarySuffix marks files that a crash left half-made.
const temporarySuffix = ".new"
