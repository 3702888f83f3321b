package embedded

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// magic starts every object file and names its format.
const magic = "SBOBJ\x00\x001"

// fixedSize is the length of the header without the name.
const fixedSize = len(magic) + 8 + 16 + 8 + 2

// meta describes an object; it is the header of its file.
type meta struct {
	name     string
	size     int64
	md5      [16]byte
	modified time.Time
}

func (m meta) etag() string { return hex.EncodeToString(m.md5[:]) }

// bodyOffset is where the object's bytes start in its file.
func (m meta) bodyOffset() int64 { return int64(fixedSize + len(m.name)) }

func (m meta) encode() []byte {
	b := make([]byte, 0, fixedSize+len(m.name))
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint64(b, uint64(m.size))
	b = append(b, m.md5[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(m.modified.UnixMicro()))
	b = binary.BigEndian.AppendUint16(b, uint16(len(m.name)))
	return append(b, m.name...)
}

var errDamaged = errors.New("damaged object file")

// readMeta reads the header of an object file and holds its length against it.
func readMeta(f *os.File) (meta, error) {
	head := make([]byte, fixedSize+maxObjectName)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return meta{}, err
	}
	head = head[:n]
	if n < fixedSize || !bytes.HasPrefix(head, []byte(magic)) {
		return meta{}, fmt.Errorf("%w: %s: no header", errDamaged, f.Name())
	}
	fields := head[len(magic):fixedSize]
	m := meta{
		size:     int64(binary.BigEndian.Uint64(fields)),
		modified: time.UnixMicro(int64(binary.BigEndian.Uint64(fields[24:]))),
	}
	copy(m.md5[:], fields[8:])
	length := int(binary.BigEndian.Uint16(fields[32:]))
	if length > n-fixedSize {
		return meta{}, fmt.Errorf("%w: %s: header cut short", errDamaged, f.Name())
	}
	m.name = string(head[fixedSize : fixedSize+length])
	info, err := f.Stat()
	if err != nil {
		return meta{}, err
	}
	if info.Size() != m.bodyOffset()+m.size {
		return meta{}, fmt.Errorf("%w: %s: %d bytes, want %d", errDamaged, f.Name(), info.Size(), m.bodyOffset()+m.size)
	}
	return m, nil
}
