package volume

import (
	"context"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
)

// maxMapped is how many chunks one call of Mapped looks at.
const maxMapped = 1024

// Mapped reports whether the sector at off is stored, and for how many of the n bytes
// from there the same is known. What is not stored reads as zeros. Where only Swift
// knows of a chunk, all of it counts as stored, whatever the objects hold of it.
func (v *Volume) Mapped(ctx context.Context, off, n int64) (stored bool, length int64, err error) {
	if err := v.check(off, n); err != nil {
		return false, 0, v.failed("mapped", err)
	}
	end := min(off+n, (off/chunks.Size+maxMapped)*chunks.Size)
	for at := off; at < end; {
		window := span{at, min(end, (at/chunks.Size+1)*chunks.Size)}
		sectors, err := v.sectors(ctx, window)
		if err != nil {
			return false, 0, v.failed("mapped", err)
		}
		if at == off {
			stored = sectors[0]
		}
		for _, s := range sectors {
			if s != stored {
				return stored, at - off, nil
			}
			at += chunks.Sector
		}
	}
	return stored, end - off, nil
}

// sectors tells of each sector of a window, which lies in one chunk, whether it is
// stored. The table is looked up after the journal, as in ReadAt.
func (v *Volume) sectors(ctx context.Context, w span) ([]bool, error) {
	zeros, holes, err := v.layers.Extents(w.from, w.len())
	if err != nil {
		return nil, err
	}
	if len(holes) > 0 {
		entry, err := v.objects.entry(ctx, v.publisher.head.Load().table, uint64(w.from/chunks.Size))
		if err != nil {
			return nil, err
		}
		if entry.IsZero() {
			zeros = append(zeros, holes...)
		}
	}
	stored := make([]bool, w.len()/chunks.Sector)
	for i := range stored {
		stored[i] = true
	}
	for _, z := range zeros {
		clear(stored[(z.Off-w.from)/chunks.Sector:][:z.Len/chunks.Sector])
	}
	return stored, nil
}
