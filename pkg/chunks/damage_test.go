package chunks

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/internal/strict"
)

// smallPack is an object with frames of every code.
func smallPack(t testing.TB) []byte {
	t.Helper()
	return smallPackAt(t, packAt(1), Options{})
}

func smallPackAt(t testing.TB, at Location, o Options) []byte {
	t.Helper()
	noise, text := make([]byte, 3*Sector), bytes.Repeat([]byte("swiftblock "), 500)[:9*Sector]
	r := rand.New(rand.NewPCG(5, 5))
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	object, err := EncodePack(at, []Extent{
		{Chunk: 7, Off: 3 * Sector, Len: 3 * Sector, Data: noise},
		{Chunk: 7, Off: FrameSize - 4*Sector, Len: 9 * Sector, Data: text},
		{Chunk: 7, Off: Size - Sector, Len: Sector, Zero: true},
		{Chunk: 70000, Off: 0, Len: 2 * FrameSize, Zero: true},
		{Chunk: 70000, Off: 2 * FrameSize, Len: Sector, Data: noise[:Sector]},
	}, o)
	if err != nil {
		t.Fatal(err)
	}
	return object
}

// contents decodes everything that an object holds, or returns the error that a
// reader of all of it meets.
func contents(at Location, object []byte) ([]Extent, error) {
	x, err := ParseIndex(at, int64(len(object)), object, testKeys)
	if err != nil {
		return nil, err
	}
	var list []Extent
	for _, chunk := range x.Chunks() {
		for _, e := range x.Extents(chunk) {
			e.Data = make([]byte, e.Len)
			if err := overlay(x, object, chunk, e.Off, e.Data); err != nil {
				return nil, err
			}
			list = append(list, e)
		}
	}
	return list, nil
}

// A few bits of a zstd stream mean nothing: flipped they harm nobody, and the
// data is right. All others are found, and those too in an encrypted object.
func TestEveryFlipIsFound(t *testing.T) {
	if n := harmlessFlips(t, packAt(1), smallPack(t)); n > 10 {
		t.Errorf("%d flips were not found", n)
	}
	if n := harmlessFlips(t, secretAt(1), smallPackAt(t, secretAt(1), encrypted)); n > 0 {
		t.Errorf("%d flips were not found in an encrypted object", n)
	}
}

// harmlessFlips counts the changes of one byte after which the object still
// holds its data; all others must be damage.
func harmlessFlips(t *testing.T, at Location, object []byte) (harmless int) {
	t.Helper()
	want, err := contents(at, object)
	if err != nil {
		t.Fatal(err)
	}
	for i := range object {
		for _, flip := range []byte{1 << (i % 8), 255} {
			bad := bytes.Clone(object)
			bad[i] ^= flip
			got, err := contents(at, bad)
			if err == nil && reflect.DeepEqual(got, want) {
				harmless++
			} else if !errors.Is(err, ErrDamaged) {
				t.Fatalf("byte %d of %d changed by %#x: %v", i, len(object), flip, err)
			}
		}
	}
	return harmless
}

func TestEveryTruncationIsFound(t *testing.T) {
	object := smallPack(t)
	for n := range object {
		for _, bad := range [][]byte{object[:n], object[len(object)-n:], append(bytes.Clone(object), object[:n+1]...)} {
			if _, err := contents(packAt(1), bad); !errors.Is(err, ErrDamaged) {
				t.Fatalf("%d of %d bytes: %v", n, len(object), err)
			}
		}
	}
}

func TestFlipsInAChunkAreFound(t *testing.T) {
	data := make([]byte, Size)
	mixture(data, 4)
	object, err := EncodeChunk(chunkAt(9), data, Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(8, 8))
	for range 30 {
		bad := bytes.Clone(object)
		i := r.IntN(len(bad))
		bad[i] ^= 1 << r.IntN(8)
		if _, err := contents(chunkAt(9), bad); !errors.Is(err, ErrDamaged) {
			t.Fatalf("byte %d of %d: %v", i, len(object), err)
		}
	}
}

func TestDecodeLeavesNoWrongData(t *testing.T) {
	object := smallPack(t)
	x := readIndex(t, packAt(1), object)
	f := x.Frames(7, 3*Sector, 1)[0]
	stored := bytes.Clone(object[f.Pos : f.Pos+int64(f.Stored)])
	stored[2*Sector] ^= 1
	dst := bytes.Repeat([]byte{0xee}, int(f.Len))
	if err := x.Decode(f, stored, dst); !errors.Is(err, ErrDamaged) || !IsZero(dst) {
		t.Errorf("%v, and dst starts with % x", err, dst[:8])
	}
	for what, err := range map[string]error{
		"short dst":      x.Decode(f, stored, dst[1:]),
		"unknown number": x.Decode(Frame{Number: 99, Len: f.Len}, stored, dst),
		"missing bytes":  x.Decode(f, stored[1:], dst),
	} {
		if err == nil {
			t.Errorf("%s: decoded", what)
		}
	}
}

// seal makes an object of frames' bytes and a footer, with a right checksum.
func seal(body, footer []byte, v, kind byte) []byte {
	b := append(bytes.Clone(body), footer...)
	b = append(append(b, magic...), v, kind, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(footer)))
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[len(body):], castagnoli))
}

func TestRefusalsBehindARightChecksum(t *testing.T) {
	name := strict.AppendString(nil, packAt(1).String())
	footer := func(rest ...byte) []byte { return append(bytes.Clone(name), rest...) }
	// One ZERO frame: chunk 5, sector 0, 1 sector.
	good := footer(cipherNone, 1, 5, 0, 0)
	if _, err := ParseIndex(packAt(1), int64(len(seal(nil, good, 1, 'd'))), seal(nil, good, 1, 'd'), testKeys); err != nil {
		t.Fatal(err)
	}
	for what, bad := range map[string][]byte{
		"version 2":              seal(nil, good, 2, 'd'),
		"kind of a chunk":        seal(nil, good, 1, 'c'),
		"kind of a page":         seal(nil, good, 1, 't'),
		"bytes before the frame": seal([]byte{1}, good, 1, 'd'),
		"trailing byte":          seal(nil, append(bytes.Clone(good), 0), 1, 'd'),
		"no frames":              seal(nil, footer(cipherNone, 0), 1, 'd'),
		"missing frame":          seal(nil, footer(cipherNone, 2, 5, 0, 0), 1, 'd'),
		"unknown cipher":         seal(nil, footer(2, 1, 5, 0, 0), 1, 'd'),
		"unknown code":           seal(nil, footer(cipherNone, 1, 5, 0, 3), 1, 'd'),
		"overlong number":        seal(nil, footer(cipherNone, 1, 0x85, 0, 0, 0), 1, 'd'),
		"crossing frame":         seal(nil, footer(cipherNone, 1, 5, 127, 4), 1, 'd'),
		"outside the chunk":      seal(nil, footer(cipherNone, 1, 5, 0x80, 0x80, 1, 0), 1, 'd'),
		"frame without bytes":    seal(nil, footer(cipherNone, 1, 5, 0, 2, 0, 1, 2, 3, 4), 1, 'd'),
		"zstd not shorter":       seal(make([]byte, Sector), footer(cipherNone, 1, 5, 0, 2, 0x80, 4, 1, 2, 3, 4), 1, 'd'),
		"another object's name":  seal(nil, append(strict.AppendString(nil, packAt(2).String()), cipherNone, 1, 5, 0, 0), 1, 'd'),
	} {
		if _, err := ParseIndex(packAt(1), int64(len(bad)), bad, testKeys); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestAFullChunkIsWhole(t *testing.T) {
	object := func(chunk byte, frames int) []byte {
		footer := append(strict.AppendString(nil, chunkAt(5).String()), cipherNone)
		footer = binary.AppendUvarint(footer, uint64(frames))
		for range frames {
			footer = append(footer, chunk, 0)
			footer = binary.AppendUvarint(footer, (FrameSize/Sector-1)*4+codeZero)
			chunk = 0 // more than that of the frame before
		}
		return seal(nil, footer, version, byte(KindChunk))
	}
	whole := object(5, Size/FrameSize)
	if _, err := ParseIndex(chunkAt(5), int64(len(whole)), whole, testKeys); err != nil {
		t.Fatal(err)
	}
	for what, bad := range map[string][]byte{
		"a frame is missing": object(5, Size/FrameSize-1),
		"another chunk":      object(6, Size/FrameSize),
	} {
		if _, err := ParseIndex(chunkAt(5), int64(len(bad)), bad, testKeys); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func FuzzParseIndex(f *testing.F) {
	object := smallPack(f)
	x := readIndex(f, packAt(1), object)
	footer := object[x.frames[len(x.frames)-1].pos+x.frames[len(x.frames)-1].stored:]
	f.Add(footer[:len(footer)-trailerSize], uint16(len(object)-len(footer)))
	f.Add(append(strict.AppendString(nil, packAt(1).String()), cipherNone, 1, 5, 0, 0), uint16(0))
	f.Fuzz(func(t *testing.T, footer []byte, body uint16) {
		object := seal(make([]byte, body), footer, version, byte(KindPack))
		x, err := ParseIndex(packAt(1), int64(len(object)), object, testKeys)
		if err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNoKey) {
				t.Fatal(err)
			}
			return
		}
		if again := x.footer(); !bytes.Equal(again, footer) {
			t.Fatalf("% x has another spelling % x", footer, again)
		}
		// The frames are zeros, of which no checksum or stream needs to be right.
		for _, chunk := range x.Chunks() {
			for _, frame := range x.Frames(chunk, 0, Size) {
				dst := make([]byte, frame.Len)
				if err := x.Decode(frame, object[frame.Pos:][:frame.Stored], dst); err != nil && !errors.Is(err, ErrDamaged) {
					t.Fatal(err)
				}
			}
		}
	})
}

// footer codes x again.
func (x *Index) footer() []byte {
	b := append(strict.AppendString(nil, x.at.String()), cipherNone)
	b = binary.AppendUvarint(b, uint64(len(x.frames)))
	var last frame
	for _, f := range x.frames {
		end := last.end()
		if f.chunk != last.chunk {
			end = 0
		}
		b = binary.AppendUvarint(b, uint64(f.chunk-last.chunk))
		b = binary.AppendUvarint(b, uint64(f.off-end)/Sector)
		b = binary.AppendUvarint(b, uint64(f.sectors-1)*4+uint64(f.code))
		if f.code == codeZstd {
			b = binary.AppendUvarint(b, uint64(f.stored))
		}
		if f.code != codeZero {
			for i := range (uint32(f.sectors)*Sector + BlockSize - 1) / BlockSize {
				b = binary.LittleEndian.AppendUint32(b, x.crcs[f.crc+i])
			}
		}
		last = f
	}
	return b
}

func FuzzParseName(f *testing.F) {
	f.Add(chunkAt(1).Name)
	f.Add(packAt(1).Name)
	f.Add(PageName(testEpoch, 1, 2, testOpen))
	f.Add(RootName(testEpoch, 1))
	f.Fuzz(func(t *testing.T, name string) {
		if p, err := ParseName(name); err == nil && p.String() != name {
			t.Fatalf("%q is read as %q", name, p)
		}
	})
}

// FuzzDecode decodes any bytes as a frame.
func FuzzDecode(f *testing.F) {
	object := smallPack(f)
	x := readIndex(f, packAt(1), object)
	for _, frame := range x.Frames(7, 0, Size) {
		f.Add(object[frame.Pos:][:frame.Stored])
	}
	f.Fuzz(func(t *testing.T, stored []byte) {
		if len(stored) == 0 || len(stored) >= FrameSize {
			return
		}
		one := &Index{at: x.at, crcs: make([]uint32, FrameSize/BlockSize)}
		one.frames = []frame{{chunk: 7, stored: uint32(len(stored)), sectors: FrameSize / Sector, code: codeZstd}}
		dst := make([]byte, FrameSize)
		err := one.Decode(one.Frames(7, 0, 1)[0], stored, dst)
		if err != nil && (!errors.Is(err, ErrDamaged) || !IsZero(dst)) {
			t.Fatalf("%v, and data is left: %t", err, !IsZero(dst))
		}
	})
}
