// Package chunks names the objects of a volume and codes the two kinds that
// hold its data: full chunks and packs.
package chunks

import (
	"errors"
	"fmt"
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
	MaxFrames  = 1 << 16   // frames in one pack at most
)

// ErrDamaged is what every failure to decode Is: the bytes are not what was
// written under that name. It is never returned for bytes that were not
// available.
var ErrDamaged = errors.New("damaged object")

// ErrNoKey is returned for an intact object whose data is encrypted.
var ErrNoKey = errors.New("encrypted, and no key is known")

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

// Options says how data is coded. The zero value compresses.
type Options struct {
	NoCompression bool
}

// IsZero reports whether p holds only zero bytes.
func IsZero(p []byte) bool { return false }

// EncodeChunk codes data, the Size bytes of a chunk, as the object at. A chunk
// that is all zeros has no object: it is an error to code one.
func EncodeChunk(at Location, data []byte, o Options) ([]byte, error) {
	return nil, errors.ErrUnsupported
}

// EncodePack codes extents, sorted by (Chunk, Off) and disjoint, as the object
// at. Use [SplitPacks] to stay within what one pack holds.
func EncodePack(at Location, extents []Extent, o Options) ([]byte, error) {
	return nil, errors.ErrUnsupported
}

// SplitPacks cuts sorted extents into consecutive lists of which each fits a
// pack and no chunk is in two. Data is not looked at and may be nil. No chunk
// may have more than MaxPackRaw bytes of DATA, which disjoint extents never do.
func SplitPacks(extents []Extent) [][]Extent { return nil }

// ShortTailError says that the tail given to [ParseIndex] is too short.
type ShortTailError struct {
	Need int64 // bytes of the object's end that suffice
}

func (e *ShortTailError) Error() string {
	return fmt.Sprintf("the footer needs the last %d bytes of the object", e.Need)
}

// Index is the verified footer of a chunk or pack: which bytes of which chunks
// the object holds, where, and their checksums. It is immutable.
type Index struct{}

// ParseIndex decodes the footer of the object at, size bytes long, from its
// last bytes: the answer to a GET of the last [TailGuess] bytes. It returns a
// *[ShortTailError] when the footer is longer than tail, an error that Is
// [ErrDamaged] when it is not the footer of this very object, and keeps no
// reference to tail.
func ParseIndex(at Location, size int64, tail []byte) (*Index, error) {
	return nil, errors.ErrUnsupported
}

// Kind returns KindChunk or KindPack.
func (x *Index) Kind() Kind { return 0 }

// Bytes returns the memory that x occupies.
func (x *Index) Bytes() int64 { return 0 }

// Extents returns what the object holds of a chunk, sorted, adjacent runs of
// the same kind joined, Data nil. A full chunk covers all of its Size bytes.
// Bytes outside the extents of a pack are as the older objects say.
func (x *Index) Extents(chunk uint64) []Extent { return nil }

// Chunks returns the chunks that the object says something about, sorted.
func (x *Index) Chunks() []uint64 { return nil }

// Frame is one separately coded run of bytes: at most FrameSize long, within
// one chunk, crossing no multiple of FrameSize in it.
type Frame struct {
	Number int // in the object, from 0: with the object's location a key for caches
	Chunk  uint64
	Off    uint32 // raw bytes from the start of the chunk
	Len    uint32 // raw bytes
	Zero   bool   // reads as zeros, nothing is stored
	Pos    int64  // where the stored bytes start in the object
	Stored uint32 // stored bytes, 0 when Zero
}

// Frames returns the frames that overlap the n bytes of chunk from off, sorted.
// The first and the last may reach beyond them.
func (x *Index) Frames(chunk uint64, off, n uint32) []Frame { return nil }

// Span returns the bytes of the object that hold frames, which are consecutive
// frames of one index: what one range GET fetches. n is 0 when all are Zero.
func Span(frames []Frame) (pos, n int64) { return 0, 0 }

// Decode decodes frame f of this index from stored, exactly the f.Stored bytes
// of the object from f.Pos, into dst, which is f.Len bytes long, and verifies
// it. A Zero frame is filled with zeros. After an error dst holds no data.
func (x *Index) Decode(f Frame, stored, dst []byte) error { return errors.ErrUnsupported }
