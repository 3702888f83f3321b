package chunks

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files again; objects that exist are then no longer proven readable")

// TestGolden reads objects that were written when the format was made. Those
// without compression must also still be written so, if they hold no chance.
func TestGolden(t *testing.T) {
	data := make([]byte, Size)
	copy(data[3*FrameSize+100:], "one line of text in a chunk of zeros\n")
	extents := []Extent{
		{Chunk: 0, Off: 0, Len: Sector, Zero: true},
		{Chunk: 7, Off: FrameSize - Sector, Len: 3 * Sector, Data: bytes.Repeat([]byte("012345678\n"), 200)[:3*Sector]},
		{Chunk: 70000, Off: Size - 9*Sector, Len: 9 * Sector, Data: bytes.Repeat([]byte{0xa5, 0x5a, 0, 1}, 9*Sector/4)},
	}
	plain := Options{NoCompression: true}
	secretChunk := Location{secretContainer, chunkAt(5).Name}
	for _, c := range []struct {
		file   string
		at     Location
		encode func(Location) ([]byte, error)
		exact  bool
	}{
		{"chunk-zstd", chunkAt(5), func(at Location) ([]byte, error) { return EncodeChunk(at, data, Options{}) }, false},
		{"pack-zstd", packAt(1), func(at Location) ([]byte, error) { return EncodePack(at, extents, Options{}) }, false},
		{"pack-plain", packAt(2), func(at Location) ([]byte, error) { return EncodePack(at, extents, plain) }, true},
		{"chunk-gcm", secretChunk, func(at Location) ([]byte, error) { return EncodeChunk(at, data, encrypted) }, false},
		{"pack-gcm", secretAt(3), func(at Location) ([]byte, error) { return EncodePack(at, extents, encrypted) }, false},
	} {
		object, err := c.encode(c.at)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("testdata", c.file+".golden")
		if *update {
			if err := os.WriteFile(file, object, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		golden, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got, err := contents(c.at, golden)
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
		want, err := contents(c.at, object)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s holds other data, or %v", file, err)
		}
		if c.exact && !bytes.Equal(object, golden) {
			t.Errorf("%s is no longer what is written", file)
		}
	}
}
