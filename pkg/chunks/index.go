package chunks

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sort"
	"sync"
	"unsafe"

	"github.com/swiftblock/csi-swiftblock/pkg/internal/strict"
)

// ShortTailError says that the tail given to [ParseIndex] is too short.
type ShortTailError struct {
	Need int64 // bytes of the object's end that suffice
}

func (e *ShortTailError) Error() string {
	return fmt.Sprintf("the footer needs the last %d bytes of the object", e.Need)
}

// Index is the verified footer of a chunk or pack: which bytes of which chunks
// the object holds, where, and their checksums. It is immutable.
type Index struct {
	at     Location
	frames []frame  // sorted by (chunk, off), disjoint
	crcs   []uint32 // of all frames, one after the other
	sealer *sealer  // nil: not encrypted
}

// frame is a [Frame] in less memory.
type frame struct {
	chunk   uint32
	off     uint32 // in the chunk
	pos     uint32 // in the object
	crc     uint32 // index of its first checksum
	stored  uint32 // bytes in the object
	sectors uint8
	code    uint8
}

func (f frame) end() uint32 { return f.off + uint32(f.sectors)*Sector }

// before reports whether f ends at or before byte off of chunk.
func (f frame) before(chunk uint64, off uint32) bool {
	return uint64(f.chunk) < chunk || uint64(f.chunk) == chunk && f.end() <= off
}

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

// ParseIndex decodes the footer of the object at, size bytes long, from its
// last bytes: the answer to a GET of the last [TailGuess] bytes. It returns a
// *[ShortTailError] when the footer is longer than tail, a *[KeyError] when keys
// lacks the key of an intact object, an error that Is [ErrDamaged] when it is not
// the footer of this very object, and keeps no reference to tail.
func ParseIndex(at Location, size int64, tail []byte, keys Keys) (*Index, error) {
	name, err := ParseName(at.Name)
	if err != nil {
		return nil, err
	}
	x, err := parseIndex(at, name, size, tail, keys)
	if err == nil {
		return x, nil
	}
	_, short := errors.AsType[*ShortTailError](err)
	_, key := errors.AsType[*KeyError](err)
	if short || key {
		return nil, err
	}
	return nil, damaged(at, err)
}

func damaged(at Location, reason error) error {
	return &strict.Damage{Object: at.String(), Kind: ErrDamaged, Reason: reason}
}

func parseIndex(at Location, name ParsedName, size int64, tail []byte, keys Keys) (*Index, error) {
	switch {
	case size < int64(trailerSize) || size < int64(len(tail)):
		return nil, fmt.Errorf("an object of %d bytes", size)
	case len(tail) < trailerSize:
		return nil, &ShortTailError{Need: int64(trailerSize)}
	}
	trailer := tail[len(tail)-trailerSize:]
	r := strict.NewReader(trailer)
	if string(r.Bytes(len(magic))) != magic {
		return nil, errors.New("wrong magic")
	}
	v, kind, reserved := r.Byte(), Kind(r.Byte()), r.Bytes(2)
	footerSize, sum := r.Uint32(), r.Uint32()
	if v != version {
		return nil, fmt.Errorf("format version %d, this release reads %d", v, version)
	}
	need := int64(trailerSize) + int64(footerSize)
	switch {
	case kind != name.Kind || kind != KindChunk && kind != KindPack || reserved[0] != 0 || reserved[1] != 0:
		return nil, fmt.Errorf("kind %q", kind)
	case footerSize > maxFooter || need > size:
		return nil, fmt.Errorf("a footer of %d bytes", footerSize)
	case need > int64(len(tail)):
		return nil, &ShortTailError{Need: need}
	}
	footer := tail[int64(len(tail))-need:]
	if crc32.Checksum(footer[:len(footer)-4], castagnoli) != sum {
		return nil, strict.ErrChecksum
	}
	x := &Index{at: at}
	if err := x.parseFooter(footer[:footerSize], size-need, keys[at.Container]); err != nil {
		return nil, err
	}
	if kind == KindChunk {
		return x, x.checkWhole(name.Index)
	}
	return x, nil
}

// parseFooter reads the footer of an object whose frames take body bytes.
func (x *Index) parseFooter(footer []byte, body int64, key Key) (err error) {
	r := strict.NewReader(footer)
	if name := r.String(len(footer)); r.Err() == nil && name != x.at.String() {
		return fmt.Errorf("this is the object %.1300q", name)
	}
	if r, x.sealer, err = unseal(r, x.at, key); err != nil {
		return err
	}
	if body > maxBody {
		return fmt.Errorf("%d bytes of frames", body)
	}
	count := r.Count(MaxFrames, 3)
	x.frames = make([]frame, 0, count)
	// What is left holds four bytes for each checksum at least.
	x.crcs = make([]uint32, 0, max(0, (r.Len()-3*count)/4))
	var last frame
	raw := 0
	for range count {
		last = x.parseFrame(r, last)
		x.frames = append(x.frames, last)
		if last.code != codeZero {
			raw += int(last.sectors) * Sector
		}
	}
	if err := r.End(); err != nil {
		return err
	}
	if count == 0 || raw > MaxPackRaw || int64(last.pos)+int64(last.stored) != body {
		return fmt.Errorf("%d frames with %d raw bytes in %d", count, raw, body)
	}
	return nil
}

// maxBody bounds the stored bytes of an object's frames: frames are never
// stored in more bytes than they have, and a tag.
const maxBody = MaxPackRaw + MaxFrames*tagSize

// parseFrame reads the description of the frame after last.
func (x *Index) parseFrame(r *strict.Reader, last frame) frame {
	f := frame{pos: last.pos + last.stored, crc: uint32(len(x.crcs))}
	gap := r.Uvarint(MaxChunks - 1)
	chunk := uint64(last.chunk) + gap
	end := last.end()
	if gap > 0 {
		end = 0
	}
	off := uint64(end) + r.Uvarint(Size/Sector)*Sector
	length := r.Uvarint(FrameSize/Sector*4 - 1)
	f.sectors, f.code = uint8(length/4+1), uint8(length%4)
	n := uint64(f.sectors) * Sector
	if chunk >= MaxChunks || off+n > Size || off/FrameSize != (off+n-1)/FrameSize || f.code >= codes {
		r.Fail("a frame of code %d at %d+%d in chunk %d", f.code, off, n, chunk)
		return frame{}
	}
	f.chunk, f.off = uint32(chunk), uint32(off)
	switch f.code {
	case codeZero:
		return f
	case codeStored:
		f.stored = uint32(n)
	case codeZstd:
		f.stored = uint32(r.Uvarint(n - 1))
		if f.stored == 0 {
			r.Fail("a frame without bytes")
		}
	}
	if x.sealer != nil {
		f.stored += tagSize
	}
	for sums := r.Bytes(int(n+BlockSize-1) / BlockSize * 4); len(sums) > 0; sums = sums[4:] {
		x.crcs = append(x.crcs, binary.LittleEndian.Uint32(sums))
	}
	return f
}

// checkWhole verifies that the frames are those of a full chunk: its FrameSize
// pieces, all of them.
func (x *Index) checkWhole(chunk uint64) error {
	if len(x.frames) != Size/FrameSize {
		return fmt.Errorf("%d frames in a full chunk", len(x.frames))
	}
	for i, f := range x.frames {
		if uint64(f.chunk) != chunk || f.off != uint32(i)*FrameSize || f.end() != f.off+FrameSize {
			return fmt.Errorf("frame %d of a full chunk is %d+%d of chunk %d", i, f.off, f.end()-f.off, f.chunk)
		}
	}
	return nil
}

// Bytes returns the memory that x occupies.
func (x *Index) Bytes() int64 {
	return int64(unsafe.Sizeof(*x)) + int64(cap(x.frames))*int64(unsafe.Sizeof(frame{})) + int64(cap(x.crcs))*4
}

// Extents returns what the object holds of a chunk, sorted, adjacent runs of
// the same kind joined, Data nil. A full chunk covers all of its Size bytes.
// Bytes outside the extents of a pack are as the older objects say.
func (x *Index) Extents(chunk uint64) []Extent {
	var list []Extent
	for _, f := range x.find(chunk, 0, Size) {
		zero := f.code == codeZero
		if n := len(list); n > 0 && list[n-1].End() == f.off && list[n-1].Zero == zero {
			list[n-1].Len += f.end() - f.off
			continue
		}
		list = append(list, Extent{Chunk: chunk, Off: f.off, Len: f.end() - f.off, Zero: zero})
	}
	return list
}

// Chunks returns the chunks that the object says something about, sorted.
func (x *Index) Chunks() []uint64 {
	var list []uint64
	for _, f := range x.frames {
		if n := len(list); n == 0 || list[n-1] != uint64(f.chunk) {
			list = append(list, uint64(f.chunk))
		}
	}
	return list
}

// Frames returns the frames that overlap the n bytes of chunk from off, sorted.
// The first and the last may reach beyond them.
func (x *Index) Frames(chunk uint64, off, n uint32) []Frame {
	found := x.find(chunk, off, n)
	if len(found) == 0 {
		return nil
	}
	first := x.first(chunk, off)
	list := make([]Frame, len(found))
	for i, f := range found {
		list[i] = Frame{
			Number: first + i,
			Chunk:  chunk,
			Off:    f.off,
			Len:    f.end() - f.off,
			Zero:   f.code == codeZero,
			Pos:    int64(f.pos),
			Stored: f.stored,
		}
	}
	return list
}

// first returns the number of the first frame that ends after off in chunk.
func (x *Index) first(chunk uint64, off uint32) int {
	return sort.Search(len(x.frames), func(i int) bool { return !x.frames[i].before(chunk, off) })
}

func (x *Index) find(chunk uint64, off, n uint32) []frame {
	list := x.frames[x.first(chunk, off):]
	end := uint64(off) + uint64(n)
	for i, f := range list {
		if uint64(f.chunk) != chunk || uint64(f.off) >= end {
			return list[:i]
		}
	}
	return list
}

// Span returns the bytes of the object that hold frames, which are consecutive
// frames of one index: what one range GET fetches. n is 0 when all are Zero.
func Span(frames []Frame) (pos, n int64) {
	for _, f := range frames {
		if n == 0 {
			pos = f.Pos
		}
		n += int64(f.Stored)
	}
	return pos, n
}

// Decode decodes frame f of this index from stored, exactly the f.Stored bytes
// of the object from f.Pos, into dst, which is f.Len bytes long, and verifies
// it. A Zero frame is filled with zeros. After an error dst holds no data.
func (x *Index) Decode(f Frame, stored, dst []byte) error {
	if f.Number < 0 || f.Number >= len(x.frames) || len(dst) != int(f.Len) {
		return fmt.Errorf("%s: frame %d of %d bytes does not go into %d", x.at, f.Number, f.Len, len(dst))
	}
	own := x.frames[f.Number]
	if err := x.decode(f.Number, own, stored, dst); err != nil {
		clear(dst)
		return damaged(x.at, fmt.Errorf("bytes %d+%d of chunk %d: %w", f.Off, f.Len, f.Chunk, err))
	}
	return nil
}

// Raw is Decode into memory of its own. A frame that is stored as it is costs no
// more than its copy.
func (x *Index) Raw(f Frame, stored []byte) ([]byte, error) {
	if f.Number < 0 || f.Number >= len(x.frames) || x.frames[f.Number].code != codeStored || x.sealer != nil {
		raw := make([]byte, f.Len)
		return raw, x.Decode(f, stored, raw)
	}
	if own := x.frames[f.Number]; len(stored) != int(own.stored) || !x.intact(own, stored) {
		return nil, damaged(x.at, fmt.Errorf("bytes %d+%d of chunk %d: %w", f.Off, f.Len, f.Chunk, strict.ErrChecksum))
	}
	return bytes.Clone(stored), nil // which clears no memory first
}

// intact reports whether raw has the checksums of f.
func (x *Index) intact(f frame, raw []byte) bool {
	for i := 0; i*BlockSize < len(raw); i++ {
		block := raw[i*BlockSize : min((i+1)*BlockSize, len(raw))]
		if crc32.Checksum(block, castagnoli) != x.crcs[int(f.crc)+i] {
			return false
		}
	}
	return true
}

// scratch holds what is decrypted and not yet decompressed: never more than a
// frame has raw.
var scratch = sync.Pool{New: func() any { return new([FrameSize]byte) }}

func (x *Index) decode(number int, f frame, stored, dst []byte) error {
	if len(stored) != int(f.stored) || len(dst) != int(f.end()-f.off) {
		return fmt.Errorf("%d bytes of %d for %d of %d", len(stored), f.stored, len(dst), f.end()-f.off)
	}
	if f.code == codeZero {
		clear(dst)
		return nil
	}
	if x.sealer != nil {
		buf := scratch.Get().(*[FrameSize]byte)
		defer scratch.Put(buf)
		var err error
		if stored, err = x.sealer.open(buf[:0], stored, uint32(number)); err != nil {
			return err
		}
	}
	switch f.code {
	case codeStored:
		copy(dst, stored)
	case codeZstd:
		raw, err := decompressor().DecodeAll(stored, dst[:0:len(dst)])
		if err != nil {
			return err
		}
		if len(raw) != len(dst) {
			return fmt.Errorf("%d bytes decompressed instead of %d", len(raw), len(dst))
		}
	}
	if !x.intact(f, dst) {
		return strict.ErrChecksum
	}
	return nil
}
