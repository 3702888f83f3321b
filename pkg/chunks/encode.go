package chunks

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/swiftblock/csi-swiftblock/pkg/internal/strict"
)

const (
	magic       = "swblkobj"
	version     = 1
	trailerSize = len(magic) + 1 + 1 + 2 + 4 + 4
	maxFooter   = 4 << 20 // above what MaxFrames frames of MaxPackRaw bytes need

	cipherNone = 0
	cipherGCM  = 1
)

// How the raw bytes of a frame are coded.
const (
	codeZero = iota
	codeStored
	codeZstd
	codes
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Options says how data is coded. The zero value compresses and does not encrypt.
type Options struct {
	NoCompression bool
	Key           Key // to encrypt with
}

// EncodeChunk codes data, the Size bytes of a chunk, as the object at, whose
// name tells which chunk it is. A chunk that is all zeros has no object: it is
// an error to code one.
func EncodeChunk(at Location, data []byte, o Options) ([]byte, error) {
	name, err := nameOf(at, KindChunk)
	if err != nil {
		return nil, err
	}
	if len(data) != Size {
		return nil, fmt.Errorf("%s: a chunk has %d bytes, not %d", at, Size, len(data))
	}
	if IsZero(data) {
		return nil, fmt.Errorf("%s: a chunk of zeros is not stored", at)
	}
	w := newWriter(at, KindChunk, filled(data), o)
	w.add(Extent{Chunk: name.Index, Len: Size, Data: data})
	return w.finish(), nil
}

// filled returns the bytes of a chunk's frames that are not all zeros.
func filled(data []byte) (n int) {
	for frame := range slices.Chunk(data, FrameSize) {
		if !IsZero(frame) {
			n += FrameSize
		}
	}
	return n
}

// EncodePack codes extents, sorted by (Chunk, Off) and disjoint, as the object
// at. Use [SplitPacks] to stay within what one pack holds.
func EncodePack(at Location, extents []Extent, o Options) ([]byte, error) {
	if _, err := nameOf(at, KindPack); err != nil {
		return nil, err
	}
	raw, err := checkExtents(extents)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", at, err)
	}
	w := newWriter(at, KindPack, raw, o)
	for _, e := range extents {
		w.add(e)
	}
	return w.finish(), nil
}

// nameOf parses the name of an object that must be of the given kind.
func nameOf(at Location, kind Kind) (ParsedName, error) {
	name, err := ParseName(at.Name)
	if err == nil && (name.Kind != kind || at.Container == "" || name.Index >= MaxChunks) {
		err = errors.New("no such object in this format")
	}
	if err != nil {
		return name, fmt.Errorf("%s: %w", at, err)
	}
	return name, nil
}

// checkExtents refuses what does not fit a pack and returns the bytes of DATA.
func checkExtents(extents []Extent) (raw int, err error) {
	if len(extents) == 0 {
		return 0, errors.New("a pack of nothing")
	}
	frames := 0
	for i, e := range extents {
		switch {
		case e.Chunk >= MaxChunks || e.Len == 0 || e.Off%Sector != 0 || e.Len%Sector != 0 || e.Off >= Size || e.Len > Size-e.Off:
			return 0, fmt.Errorf("chunk %d has no extent %d+%d", e.Chunk, e.Off, e.Len)
		case e.Zero != (e.Data == nil) || !e.Zero && len(e.Data) != int(e.Len):
			return 0, fmt.Errorf("extent %d+%d of chunk %d comes with %d bytes of data", e.Off, e.Len, e.Chunk, len(e.Data))
		case i > 0 && (e.Chunk < extents[i-1].Chunk || e.Chunk == extents[i-1].Chunk && e.Off < extents[i-1].End()):
			return 0, fmt.Errorf("extent %d+%d of chunk %d is out of order", e.Off, e.Len, e.Chunk)
		}
		frames += frameCount(e)
		raw += len(e.Data)
	}
	if raw > MaxPackRaw || frames > MaxFrames {
		return 0, fmt.Errorf("%d bytes in %d frames are too much for a pack", raw, frames)
	}
	return raw, nil
}

// frameCount returns how many frames an extent is cut into.
func frameCount(e Extent) int {
	return int((e.End()-1)/FrameSize-e.Off/FrameSize) + 1
}

// SplitPacks cuts sorted extents into consecutive lists of which each fits a
// pack and no chunk is in two. Data is not looked at and may be nil.
func SplitPacks(extents []Extent) [][]Extent {
	var packs [][]Extent
	start, raw, frames := 0, 0, 0 // of the list being filled
	for i := 0; i < len(extents); {
		end, chunkRaw, chunkFrames := i, 0, 0
		for ; end < len(extents) && extents[end].Chunk == extents[i].Chunk; end++ {
			if !extents[end].Zero {
				chunkRaw += int(extents[end].Len)
			}
			chunkFrames += frameCount(extents[end])
		}
		if i > start && (raw+chunkRaw > MaxPackRaw || frames+chunkFrames > MaxFrames) {
			packs = append(packs, extents[start:i:i])
			start, raw, frames = i, 0, 0
		}
		raw, frames, i = raw+chunkRaw, frames+chunkFrames, end
	}
	if start < len(extents) {
		packs = append(packs, extents[start:])
	}
	return packs
}

// writer builds an object: frames go to body while their descriptions gather
// in list.
type writer struct {
	options Options
	at      Location
	kind    Kind
	id      objectID // only with a sealer
	sealer  *sealer  // nil: not encrypted
	body    []byte
	list    []byte // the footer's frame list
	count   uint64

	chunk uint64 // of the last frame
	end   uint32 // of the last frame in its chunk
}

// newWriter makes a writer of at most raw bytes of DATA, to which plain frames
// never add; a footer takes a byte for 256 of them when they are full, and so do
// the tags of encrypted frames of one block.
func newWriter(at Location, kind Kind, raw int, o Options) *writer {
	w := &writer{options: o, at: at, kind: kind, body: make([]byte, 0, raw+raw/128+4096)}
	if o.Key.ID != 0 {
		w.id = newObjectID()
		w.sealer = newSealer(o.Key, w.id, at)
	}
	return w
}

// add cuts an extent into frames.
func (w *writer) add(e Extent) {
	for done := uint32(0); done < e.Len; {
		off := e.Off + done
		n := min(e.Len-done, FrameSize-off%FrameSize)
		if e.Zero {
			w.frame(e.Chunk, off, n, nil)
		} else {
			w.frame(e.Chunk, off, n, e.Data[done:done+n])
		}
		done += n
	}
}

// frame codes one frame; data is nil for zeros.
func (w *writer) frame(chunk uint64, off, n uint32, data []byte) {
	if chunk != w.chunk {
		w.end = 0
	}
	w.list = binary.AppendUvarint(w.list, chunk-w.chunk)
	w.list = binary.AppendUvarint(w.list, uint64(off-w.end)/Sector)
	w.chunk, w.end = chunk, off+n

	start := len(w.body)
	code, stored := w.store(data)
	if w.sealer != nil && code != codeZero {
		w.body = w.sealer.seal(w.body, start, uint32(w.count))
	}
	w.count++
	w.list = binary.AppendUvarint(w.list, uint64(n/Sector-1)*4+uint64(code))
	if code == codeZero {
		return
	}
	if code == codeZstd {
		w.list = binary.AppendUvarint(w.list, uint64(stored))
	}
	for len(data) > 0 {
		block := data[:min(BlockSize, len(data))]
		w.list = binary.LittleEndian.AppendUint32(w.list, crc32.Checksum(block, castagnoli))
		data = data[len(block):]
	}
}

// store appends data to the body in the shortest code.
func (w *writer) store(data []byte) (code, stored int) {
	if IsZero(data) {
		return codeZero, 0
	}
	start := len(w.body)
	if !w.options.NoCompression {
		w.body = compressor().EncodeAll(data, w.body)
		if n := len(w.body) - start; n < len(data) {
			return codeZstd, n
		}
	}
	w.body = append(w.body[:start], data...)
	return codeStored, len(data)
}

// finish appends footer and trailer.
func (w *writer) finish() []byte {
	start := len(w.body)
	b := strict.AppendString(w.body, w.at.String())
	if w.sealer == nil {
		b = append(b, cipherNone)
	} else {
		b = binary.LittleEndian.AppendUint32(append(b, cipherGCM), w.options.Key.ID)
		b = append(append(b, w.id[:]...), w.sealer.check[:]...)
	}
	secret := len(b)
	b = binary.AppendUvarint(b, w.count)
	b = append(b, w.list...)
	if w.sealer != nil {
		b = w.sealer.seal(b, secret, footerNonce)
	}
	footer := len(b) - start
	b = append(b, magic...)
	b = append(b, version, byte(w.kind), 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(footer))
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}
