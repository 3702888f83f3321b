package volume

import (
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
)

// What is stored is told as such by journal and table alike, and what is not, or not
// any more, is told as free, by whole chunks: before its generation is published and
// after.
func TestMapped(t *testing.T) {
	const size = 40 * chunks.Size
	r := newRig(t, size, nil)
	r.write(0, noise(1, 4096))                    // one block
	r.write(5*chunks.Size, noise(2, chunks.Size)) // a chunk
	r.write(5*chunks.Size+4096, make([]byte, 512))
	r.must(r.Discard(r.ctx, 5*chunks.Size+8192, 8192))
	check := func(when string, want spans) {
		t.Helper()
		var got spans
		for off := int64(0); off < size; {
			stored, n, err := r.Mapped(r.ctx, off, size-off)
			if err != nil || n <= 0 {
				t.Fatalf("%s, at %d: %d bytes, %v", when, off, n, err)
			}
			if stored {
				got = append(got, span{off, off + n})
			}
			off += n
		}
		if len(got) != len(want) {
			t.Fatalf("%s: %v, want %v", when, got, want)
		}
		for i, s := range got {
			if s != want[i] {
				t.Errorf("%s: %v, want %v", when, got, want)
			}
		}
	}
	chunk := span{5 * chunks.Size, 6 * chunks.Size}
	check("in the journal", spans{{0, chunks.Size}, chunk})
	r.publish("")
	check("in Swift", spans{{0, chunks.Size}, chunk})
	r.must(r.Discard(r.ctx, chunk.from, chunk.len()))
	check("discarded", spans{{0, chunks.Size}})
	r.publish("")
	check("discarded and published", spans{{0, chunks.Size}})
	r.must(r.Discard(r.ctx, 0, 4096)) // the only block, but who knows
	check("discarded in part", spans{{0, chunks.Size}})
	if stored, n, err := r.Mapped(r.ctx, chunks.Size-512, 1024); !stored || n != 512 || err != nil {
		t.Errorf("across the end of a chunk: %t, %d, %v", stored, n, err)
	}
	if _, _, err := r.Mapped(r.ctx, size, 512); err == nil {
		t.Error("told of what is beyond the end")
	}
}
