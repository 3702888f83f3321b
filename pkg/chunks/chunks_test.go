package chunks

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
	"pgregory.net/rapid"
)

var (
	testEpoch = ident.Epoch{Number: 3, Tag: 0x1122334455667788}
	testOpen  = ident.Open(0x99aabbccddeeff00)
)

func chunkAt(chunk uint64) Location {
	return Location{"sb-test", ChunkName(chunk, testEpoch, 7, testOpen)}
}

func packAt(n uint64) Location {
	return Location{"sb-test", PackName(testEpoch, 7, n, testOpen)}
}

// What is in this container is encrypted.
const secretContainer = "sb-secret"

var (
	testKeys  = Keys{secretContainer: {ID: 42, Secret: keys.Secret{1, 2, 3}}}
	encrypted = Options{Key: testKeys[secretContainer]}
)

func secretAt(n uint64) Location { return Location{secretContainer, packAt(n).Name} }

// mixture fills p with a seeded mixture of zeros, text and noise.
func mixture(p []byte, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0))
	noise := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	text := bytes.Repeat([]byte("swiftblock "), 200*Sector/11+1)
	for len(p) > 0 {
		n := min(len(p), Sector*(1+r.IntN(200)))
		switch r.IntN(3) {
		case 0:
			clear(p[:n])
		case 1:
			copy(p[:n], text)
		case 2:
			noise.Read(p[:n])
		}
		p = p[n:]
	}
}

// readIndex parses the footer of an encoded object.
func readIndex(t testing.TB, at Location, object []byte) *Index {
	t.Helper()
	x, err := ParseIndex(at, int64(len(object)), object[max(0, len(object)-TailGuess):], testKeys)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// overlay writes what the object says about the bytes of chunk from off to dst,
// as a reader would: one range for all frames.
func overlay(x *Index, object []byte, chunk uint64, off uint32, dst []byte) error {
	frames := x.Frames(chunk, off, uint32(len(dst)))
	pos, n := Span(frames)
	stored := object[pos : pos+n]
	end := off + uint32(len(dst))
	for _, f := range frames {
		raw := make([]byte, f.Len)
		if err := x.Decode(f, stored[f.Pos-pos:][:f.Stored], raw); err != nil {
			return err
		}
		from, to := max(off, f.Off), min(end, f.Off+f.Len)
		copy(dst[from-off:to-off], raw[from-f.Off:to-f.Off])
	}
	return nil
}

func TestChunkRoundTrip(t *testing.T) {
	for seed := range uint64(3) {
		data := make([]byte, Size)
		mixture(data, seed)
		at := chunkAt(seed)
		if seed > 0 {
			at.Container = secretContainer
		}
		object, err := EncodeChunk(at, data, Options{NoCompression: seed == 2, Key: testKeys[at.Container]})
		if err != nil {
			t.Fatal(err)
		}
		x := readIndex(t, at, object)
		got := bytes.Repeat([]byte{0xee}, Size)
		if err := overlay(x, object, seed, 0, got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, data) {
			t.Fatalf("seed %d: data differs", seed)
		}
		for _, run := range [][2]uint32{{0, 1}, {4095, 2}, {65535, 2}, {Size - 1, 1}, {300000, SlotSize}} {
			part := make([]byte, run[1])
			if err := overlay(x, object, seed, run[0], part); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(part, data[run[0]:run[0]+run[1]]) {
				t.Errorf("seed %d: bytes %d+%d differ", seed, run[0], run[1])
			}
		}
		if !slices.Equal(x.Chunks(), []uint64{seed}) {
			t.Errorf("chunks %v", x.Chunks())
		}
	}
}

// reach is where the extents of [extents] end at the latest.
const reach = 10 * (150 + 200) * Sector

// extents draws what a generation may have changed.
func extents() *rapid.Generator[[]Extent] {
	return rapid.Custom(func(t *rapid.T) []Extent {
		var list []Extent
		chunk, end := uint64(rapid.Uint32Range(0, 1<<21).Draw(t, "chunk")), uint32(0)
		for range rapid.IntRange(1, 10).Draw(t, "extents") {
			if rapid.IntRange(0, 3).Draw(t, "next chunk") == 0 {
				chunk, end = chunk+1+uint64(rapid.IntRange(0, 1000).Draw(t, "gap")), 0
			}
			off := end + Sector*uint32(rapid.IntRange(0, 150).Draw(t, "sectors between"))
			n := Sector * uint32(rapid.IntRange(1, 200).Draw(t, "sectors"))
			e := Extent{Chunk: chunk, Off: off, Len: n, Zero: rapid.Bool().Draw(t, "zero")}
			if !e.Zero {
				e.Data = make([]byte, n)
				mixture(e.Data, rapid.Uint64().Draw(t, "data"))
			}
			list, end = append(list, e), off+n
		}
		return list
	})
}

func TestPackRoundTrip(t *testing.T) {
	untouched := bytes.Repeat([]byte{0xee}, reach)
	got, want := make([]byte, reach), make([]byte, reach)
	rapid.Check(t, func(t *rapid.T) {
		list := extents().Draw(t, "extents")
		at := rapid.SampledFrom([]Location{packAt(1), secretAt(1)}).Draw(t, "at")
		o := Options{NoCompression: rapid.Bool().Draw(t, "stored"), Key: testKeys[at.Container]}
		object, err := EncodePack(at, list, o)
		if err != nil {
			t.Fatal(err)
		}
		x, err := ParseIndex(at, int64(len(object)), object, testKeys)
		if err != nil {
			t.Fatal(err)
		}
		given := 0
		for _, chunk := range x.Chunks() {
			copy(got, untouched)
			if err := overlay(x, object, chunk, 0, got); err != nil {
				t.Fatal(err)
			}
			copy(want, untouched)
			bytesWanted, bytesFound := 0, 0
			for _, e := range list {
				if e.Chunk == chunk {
					clear(want[e.Off:e.End()])
					copy(want[e.Off:], e.Data)
					bytesWanted += int(e.Len)
					given++
				}
			}
			for _, e := range x.Extents(chunk) {
				bytesFound += int(e.Len)
			}
			if !bytes.Equal(got, want) || bytesFound != bytesWanted {
				t.Fatalf("chunk %d differs, %d bytes of %d", chunk, bytesFound, bytesWanted)
			}
		}
		if given != len(list) {
			t.Fatalf("%d of %d extents", given, len(list))
		}
	})
}

func TestFramesAreThoseThatOverlap(t *testing.T) {
	data := make([]byte, Size)
	mixture(data, 1)
	object, err := EncodeChunk(chunkAt(2), data, Options{})
	if err != nil {
		t.Fatal(err)
	}
	x := readIndex(t, chunkAt(2), object)
	for _, c := range []struct {
		chunk        uint64
		off, n       uint32
		first, count int
	}{
		{2, 0, Size, 0, 128},
		{2, 3 * SlotSize, SlotSize, 24, 8},
		{2, FrameSize - 1, 1, 0, 1},
		{2, FrameSize - 1, 2, 0, 2},
		{2, Size - 1, 1, 127, 1},
		{2, Size, 1, 0, 0},
		{1, 0, Size, 0, 0},
		{3, 0, Size, 0, 0},
	} {
		frames := x.Frames(c.chunk, c.off, c.n)
		if len(frames) != c.count || c.count > 0 && frames[0].Number != c.first {
			t.Errorf("bytes %d+%d of chunk %d: %d frames", c.off, c.n, c.chunk, len(frames))
		}
	}
}

func TestZerosAreNotStored(t *testing.T) {
	if _, err := EncodeChunk(chunkAt(1), make([]byte, Size), Options{}); err == nil {
		t.Error("a chunk of zeros was coded")
	}
	data := make([]byte, Size)
	data[Size-1] = 1
	object, err := EncodeChunk(chunkAt(1), data, Options{NoCompression: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(object) > FrameSize+1024 {
		t.Errorf("one byte in a chunk of zeros takes %d bytes", len(object))
	}
	object, err = EncodePack(packAt(0), []Extent{{Chunk: 5, Len: Size, Data: make([]byte, Size)}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if x := readIndex(t, packAt(0), object); len(object) > 1024 || !reflect.DeepEqual(x.Extents(5), []Extent{{Chunk: 5, Len: Size, Zero: true}}) {
		t.Errorf("zeros take %d bytes as %v", len(object), x.Extents(5))
	}
}

func TestOneObjectDoesNotStandInForAnother(t *testing.T) {
	object, err := EncodePack(packAt(1), []Extent{{Chunk: 5, Len: Sector, Zero: true}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []Location{packAt(2), {"sb-other", packAt(1).Name}, chunkAt(5)} {
		if _, err := ParseIndex(at, int64(len(object)), object, testKeys); !errors.Is(err, ErrDamaged) {
			t.Errorf("read as %s: %v", at, err)
		}
	}
}

func TestShortTail(t *testing.T) {
	var list []Extent
	noise := make([]byte, Sector)
	mixture(noise, 1)
	noise[0] = 1
	for i := range 16000 {
		list = append(list, Extent{Chunk: uint64(i), Off: Sector, Len: Sector, Data: noise})
	}
	at := packAt(3)
	object, err := EncodePack(at, list, Options{})
	if err != nil {
		t.Fatal(err)
	}
	size := int64(len(object))
	for _, guess := range []int64{TailGuess, 5, 0} {
		_, err = ParseIndex(at, size, object[size-guess:], testKeys)
		for range 2 {
			short, ok := errors.AsType[*ShortTailError](err)
			if !ok {
				break
			}
			_, err = ParseIndex(at, size, object[size-short.Need:], testKeys)
		}
		if err != nil {
			t.Errorf("guess %d: %v", guess, err)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	data := []byte{Sector - 1: 1}
	for what, list := range map[string][]Extent{
		"nothing":       nil,
		"out of order":  {{Chunk: 2, Len: Sector, Data: data}, {Chunk: 1, Len: Sector, Data: data}},
		"overlapping":   {{Chunk: 1, Len: 2 * Sector, Zero: true}, {Chunk: 1, Off: Sector, Len: Sector, Data: data}},
		"unaligned":     {{Chunk: 1, Off: 1, Len: Sector, Data: data}},
		"empty":         {{Chunk: 1, Zero: true}},
		"out of chunk":  {{Chunk: 1, Off: Size - Sector, Len: 2 * Sector, Zero: true}},
		"short of data": {{Chunk: 1, Len: 2 * Sector, Data: data}},
		"zero and data": {{Chunk: 1, Len: Sector, Zero: true, Data: data}},
		"beyond format": {{Chunk: MaxChunks, Len: Sector, Zero: true}},
		"too much":      {{Chunk: 1, Len: Size, Data: make([]byte, Size)}, {Chunk: 2, Len: Sector, Data: data}},
	} {
		if _, err := EncodePack(packAt(0), list, Options{}); err == nil {
			t.Errorf("%s: coded", what)
		}
	}
	if _, err := EncodeChunk(chunkAt(1), make([]byte, Size-1), Options{}); err == nil {
		t.Error("a short chunk was coded")
	}
	if _, err := EncodeChunk(packAt(1), make([]byte, Size), Options{}); err == nil {
		t.Error("a chunk was coded under the name of a pack")
	}
}

func TestSplitPacks(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 9))
		var list []Extent
		for chunk := range uint64(seed % 13) {
			if seed == 12 || r.IntN(2) == 0 { // shattered: 8192 frames
				for off := uint32(0); off < Size; off += 2 * Sector {
					list = append(list, Extent{Chunk: chunk, Off: off, Len: Sector, Zero: off != 0})
				}
				continue
			}
			list = append(list, Extent{Chunk: chunk, Len: Sector * uint32(1+r.IntN(Size/Sector)), Zero: r.IntN(2) == 0})
		}
		var joined []Extent
		for _, pack := range SplitPacks(list) {
			if n := len(joined); n > 0 && pack[0].Chunk == joined[n-1].Chunk {
				t.Fatalf("seed %d: chunk %d is in two packs", seed, pack[0].Chunk)
			}
			raw, frames := 0, 0
			for _, e := range pack {
				frames += frameCount(e)
				if !e.Zero {
					raw += int(e.Len)
				}
			}
			if raw > MaxPackRaw || frames > MaxFrames {
				t.Fatalf("seed %d: a pack of %d bytes and %d frames", seed, raw, frames)
			}
			joined = append(joined, pack...)
		}
		if len(joined) != len(list) || len(list) > 0 && !reflect.DeepEqual(joined, list) {
			t.Fatalf("seed %d: extents are lost or out of order", seed)
		}
	}
}
