package chunks

import (
	"fmt"
	"testing"
)

// kinds of data, from what compresses best to what does not.
var benchData = map[string]func(p []byte, seed uint64){
	"mixture": mixture,
	"noise": func(p []byte, seed uint64) {
		x := seed | 1
		for i := range p {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
			p[i] = byte(x)
		}
	},
}

func BenchmarkEncodeChunk(b *testing.B) {
	for name, fill := range benchData {
		for _, o := range []Options{{}, {NoCompression: true}} {
			b.Run(fmt.Sprintf("%s/plain=%t", name, o.NoCompression), func(b *testing.B) {
				data := make([]byte, Size)
				fill(data, 1)
				b.SetBytes(Size)
				size := 0
				for b.Loop() {
					object, err := EncodeChunk(chunkAt(1), data, o)
					if err != nil {
						b.Fatal(err)
					}
					size = len(object)
				}
				b.ReportMetric(float64(size)/Size, "stored/raw")
			})
		}
	}
}

func BenchmarkDecodeChunk(b *testing.B) {
	for name, fill := range benchData {
		b.Run(name, func(b *testing.B) {
			data := make([]byte, Size)
			fill(data, 1)
			object, err := EncodeChunk(chunkAt(1), data, Options{})
			if err != nil {
				b.Fatal(err)
			}
			x := readIndex(b, chunkAt(1), object)
			b.SetBytes(Size)
			for b.Loop() {
				for _, f := range x.Frames(1, 0, Size) {
					if err := x.Decode(f, object[f.Pos:][:f.Stored], data[f.Off:][:f.Len]); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

// BenchmarkRandomWrites codes what 2048 random 4 KiB writes of noise become.
func BenchmarkRandomWrites(b *testing.B) {
	const n = 2048
	noise := make([]byte, n*BlockSize)
	benchData["noise"](noise, 3)
	var extents []Extent
	for i := range n {
		extents = append(extents, Extent{Chunk: uint64(i) * 6, Off: uint32(i) * BlockSize, Len: BlockSize, Data: noise[i*BlockSize:][:BlockSize]})
	}
	b.SetBytes(int64(len(noise)))
	var object []byte
	for b.Loop() {
		var err error
		if object, err = EncodePack(packAt(1), extents, Options{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(object))/float64(len(noise)), "stored/raw")
	b.ReportMetric(float64(readIndex(b, packAt(1), object).Bytes())/n, "B/write-in-memory")
}

func BenchmarkParseIndex(b *testing.B) {
	data := make([]byte, Size)
	mixture(data, 1)
	object, err := EncodeChunk(chunkAt(1), data, Options{})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		readIndex(b, chunkAt(1), object)
	}
}
