package volume

import (
	"bytes"
	"context"
	"errors"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
)

// patch returns what a chunk's new patch holds: what changed, and for a merge what
// its older patches hold besides; w.entry is left with what the new patch goes on
// top of. Zeros are only said where they hide something.
func (u *upload) patch(ctx context.Context, w *work) ([]chunks.Extent, error) {
	if w.kind == merge {
		return u.merged(ctx, w)
	}
	var extents []chunks.Extent
	room := make([]byte, w.bytes)
	for _, e := range w.changed {
		s := span{e.Off - w.start(), e.Off + e.Len - w.start()}
		if e.Zero {
			extents = appendZeros(extents, *w, s)
			continue
		}
		data := room[:e.Len]
		room = room[e.Len:]
		if err := u.try(ctx, func() error { return u.layer.ReadAt(ctx, data, e.Off) }); err != nil {
			return nil, err
		}
		extents = appendData(extents, *w, s, data)
	}
	return extents, nil
}

// merged returns the patches of a chunk and what changed as one patch.
func (u *upload) merged(ctx context.Context, w *work) ([]chunks.Extent, error) {
	whole := span{0, chunks.Size}
	buffer := buffers.Get().(*[chunks.Size]byte)
	defer buffers.Put(buffer)
	data := buffer[:]
	rest, err := u.older(ctx, w, window{w.chunk, whole, data})
	if err != nil {
		return nil, err
	}
	if err := u.paint(ctx, *w, data); err != nil {
		return nil, err
	}
	for _, e := range w.changed {
		rest = rest.remove(span{e.Off - w.start(), e.Off + e.Len - w.start()})
	}
	held := spans{whole}
	for _, s := range rest {
		held = held.remove(s)
	}
	var extents []chunks.Extent
	for _, s := range held {
		extents = appendData(extents, *w, s, data[s.from:s.to])
	}
	for i := range extents {
		extents[i].Data = bytes.Clone(extents[i].Data)
	}
	return extents, nil
}

// older makes win what the patches of a chunk hold, takes them off w.entry and
// returns the rest. One that is damaged, and those before it, stay: what they
// hold of the chunk may be lost, but what is new can still be stored.
func (u *upload) older(ctx context.Context, w *work, win window) (spans, error) {
	patches := w.entry.Patches
	for keep := 0; ; keep++ {
		var rest spans
		overlay := func() (err error) {
			rest, err = u.objects.overlay(ctx, win, patches[keep:])
			return err
		}
		attempt := u.patiently
		if len(w.changed) > 0 && keep == snapshots.MaxPatches-1 { // the table has no place for one more
			attempt = u.try
		}
		err := attempt(ctx, overlay)
		if !errors.Is(err, ErrDamaged) {
			w.entry.Patches = patches[:keep]
			return rest, err
		}
	}
}

// appendData appends what data, the bytes s of the chunk, says. Blocks of zeros
// are never stored.
func appendData(extents []chunks.Extent, w work, s span, data []byte) []chunks.Extent {
	for s.len() > 0 {
		zero, n := run(s, data)
		if part := (span{s.from, s.from + n}); zero {
			extents = appendZeros(extents, w, part)
		} else {
			extents = append(extents, chunks.Extent{Chunk: w.chunk, Off: uint32(part.from), Len: uint32(n), Data: data[:n]})
		}
		s.from, data = s.from+n, data[n:]
	}
	return extents
}

// appendZeros appends that the bytes s of the chunk are zeros, unless they are
// anyway.
func appendZeros(extents []chunks.Extent, w work, s span) []chunks.Extent {
	if w.entry.IsZero() {
		return extents
	}
	return append(extents, chunks.Extent{Chunk: w.chunk, Off: uint32(s.from), Len: uint32(s.len()), Zero: true})
}

// run returns how many of the first bytes of data, the bytes s of a chunk, are in
// blocks that are all zeros, or in blocks that are not.
func run(s span, data []byte) (zero bool, n int64) {
	for n < s.len() {
		to := min((s.from+n)/chunks.BlockSize*chunks.BlockSize+chunks.BlockSize, s.to) - s.from
		z := chunks.IsZero(data[n:to])
		if n > 0 && z != zero {
			break
		}
		zero, n = z, to
	}
	return zero, n
}
