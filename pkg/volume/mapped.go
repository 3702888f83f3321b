package volume

import (
	"context"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/delta"
)

// maxMapped is how many chunks one call of Mapped looks at.
const maxMapped = 1024

// Mapped reports whether the byte at off is stored, and for how many of the n bytes
// from there the same is known. What is not stored reads as zeros. It goes by chunks:
// one that journal or Swift has anything of counts as stored. So it costs little,
// which matters since some initiators ask before each large read.
func (v *Volume) Mapped(ctx context.Context, off, n int64) (stored bool, length int64, err error) {
	if err := v.check(off, n); err != nil {
		return false, 0, v.failed("mapped", err)
	}
	first := off / chunks.Size
	end := min(off+n, (first+maxMapped)*chunks.Size)
	stored, err = v.holds(ctx, uint64(first))
	at := (first + 1) * chunks.Size
	for next := stored; err == nil && at < end; at += chunks.Size {
		if next, err = v.holds(ctx, uint64(at/chunks.Size)); next != stored {
			break
		}
	}
	return stored, min(at, end) - off, v.failed("mapped", err)
}

// holds reports whether anything is stored of a chunk. The table is looked up after
// the journal, as in ReadAt.
func (v *Volume) holds(ctx context.Context, chunk uint64) (bool, error) {
	switch v.layers.Content(chunk) {
	case delta.Data:
		return true, nil
	case delta.Zeros:
		return false, nil
	}
	entry, err := v.objects.entry(ctx, v.publisher.head.Load().table, chunk)
	return !entry.IsZero(), err
}
