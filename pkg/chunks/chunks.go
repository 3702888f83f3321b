package chunks

import (
	"bytes"
	"errors"
)

// Sizes in bytes.
const (
	Size       = 8 << 20   // of the volume that one chunk covers; a chunk is always coded in this size
	Sector     = 512       // resolution of a pack
	FrameSize  = 64 << 10  // raw bytes in a frame at most; no frame crosses a multiple of it
	BlockSize  = 4 << 10   // raw bytes under one CRC32C
	SlotSize   = 512 << 10 // unit of reading and caching; a whole number of frames
	TailGuess  = 64 << 10  // suffix that holds the footer of every chunk and of most packs
	MaxPackRaw = Size      // raw DATA bytes in one pack at most
)

// Counts.
const (
	MaxFrames = 1 << 16 // frames in one object
	MaxChunks = 1 << 32 // chunks of a volume, as far as this format goes
)

// ErrDamaged is what every failure to decode Is: the bytes are not what was
// written under that name. It is never returned for bytes that were not
// available.
var ErrDamaged = errors.New("damaged object")

// Kind is the kind of an object, and the letter its name starts with.
type Kind byte

// The kinds of objects with an epoch and a generation in their names.
const (
	KindChunk Kind = 'c'
	KindPack  Kind = 'd'
	KindPage  Kind = 't'
	KindRoot  Kind = 'r'
)

// Extent is a run of sectors of one chunk.
type Extent struct {
	Chunk uint64
	Off   uint32 // bytes from the start of the chunk, a multiple of Sector
	Len   uint32 // bytes, a multiple of Sector
	Zero  bool   // reads as zeros
	Data  []byte // Len bytes; nil when Zero, and in what Index.Extents returns
}

// End returns the first byte of the chunk after e.
func (e Extent) End() uint32 { return e.Off + e.Len }

var zeros [BlockSize]byte

// IsZero reports whether p holds only zero bytes.
func IsZero(p []byte) bool {
	for len(p) > len(zeros) {
		if !bytes.Equal(p[:len(zeros)], zeros[:]) {
			return false
		}
		p = p[len(zeros):]
	}
	return bytes.Equal(p, zeros[:len(p)])
}
