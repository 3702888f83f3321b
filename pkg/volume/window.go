package volume

import (
	"context"
	"fmt"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
)

// window is a part of a chunk in memory. With no data it is only looked at: what would fill it gets into the cache.
type window struct {
	chunk uint64
	at    span   // in the chunk
	data  []byte // at.len() bytes, or nil
}

// set makes the bytes s of the window those of e.
func (w window) set(s span, e chunks.Extent) {
	switch {
	case w.data == nil:
	case e.Zero:
		clear(w.data[s.from-w.at.from : s.to-w.at.from])
	default:
		copy(w.data[s.from-w.at.from:s.to-w.at.from], e.Data[s.from-int64(e.Off):])
	}
}

// fill makes the window what entry e says.
func (o *objects) fill(ctx context.Context, w window, e snapshots.Entry) error {
	rest, err := o.overlay(ctx, w, e.Patches)
	if err != nil || len(rest) == 0 {
		return err
	}
	if e.Base.IsZero() {
		for _, s := range rest {
			w.set(s, chunks.Extent{Zero: true})
		}
		return nil
	}
	at := e.Base.Location(w.chunk)
	rest, err = o.take(ctx, w, at, rest)
	if err == nil && len(rest) > 0 {
		err = damaged(at.Container, at.Name, fmt.Errorf("a full chunk without bytes %d to %d", rest[0].from, rest[0].to))
	}
	return err
}

// overlay makes the window what the patches, oldest first, hold of it, and
// returns the rest. Bytes that a newer patch holds are not fetched from an older.
func (o *objects) overlay(ctx context.Context, w window, patches []snapshots.PackRef) (spans, error) {
	rest := spans{w.at}
	for i := len(patches) - 1; i >= 0 && len(rest) > 0; i-- {
		var err error
		if rest, err = o.take(ctx, w, patches[i].Location(), rest); err != nil {
			return nil, err
		}
	}
	return rest, nil
}

// take makes the bytes todo of the window what one object holds of them, and
// returns those that it does not hold.
func (o *objects) take(ctx context.Context, w window, at snapshots.Location, todo spans) (spans, error) {
	var held [regions]slot
	taken := int64(0) // regions below are in held, or not needed
	for _, s := range todo {
		first, end := max(s.from/regionSize, taken), (s.to+regionSize-1)/regionSize
		if first >= end {
			continue
		}
		if err := o.slots(ctx, at, w.chunk, uint32(first), held[first:end]); err != nil {
			return nil, err
		}
		taken = end
	}
	for _, part := range held {
		todo = w.cover(part, todo)
	}
	return todo, nil
}

// cover makes the bytes todo of the window what s holds of them, and returns
// those that it does not hold.
func (w window) cover(s slot, todo spans) spans {
	for _, e := range s {
		held := span{int64(e.Off), int64(e.End())}
		for _, t := range todo {
			if both := t.and(held); both.len() > 0 {
				w.set(both, e)
			}
		}
		todo = todo.remove(held)
	}
	return todo
}
