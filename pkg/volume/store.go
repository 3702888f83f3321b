package volume

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
)

// buffers are as large as a chunk; what they hold is arbitrary.
var buffers = sync.Pool{New: func() any { return new([chunks.Size]byte) }}

// rewrite stores a chunk anew. One whose older data is damaged gets a patch after
// all: what is whole stays readable, and new data does not wait for old.
func (u *upload) rewrite(ctx context.Context, w work) error {
	ref := snapshots.ChunkRef{Origin: u.origin, Gen: u.layer.Gen()}
	at := ref.Location(w.chunk)
	keeps(ctx, chunks.Size)
	body, err := u.whole(ctx, w, at)
	switch {
	case errors.Is(err, ErrDamaged):
		w.kind = w.entryKind()
		return u.pack(ctx, []work{w})
	case err != nil:
		return err
	case body == nil:
		u.set(w.chunk, snapshots.Entry{})
		return nil
	}
	u.set(w.chunk, snapshots.Entry{Base: ref})
	keeps(ctx, int64(len(body)))
	return u.put(ctx, at, body)
}

// whole returns a chunk as an object; nil if it is nothing but zeros.
func (u *upload) whole(ctx context.Context, w work, at snapshots.Location) ([]byte, error) {
	buffer := buffers.Get().(*[chunks.Size]byte)
	defer buffers.Put(buffer)
	data := buffer[:]
	var changed int64
	for _, e := range w.changed {
		changed += e.Len
	}
	if changed < chunks.Size {
		err := u.patiently(ctx, func() error {
			return u.objects.fill(ctx, window{w.chunk, span{0, chunks.Size}, data}, w.entry)
		})
		if err != nil {
			return nil, err
		}
	}
	if err := u.paint(ctx, w, data); err != nil || chunks.IsZero(data) {
		return nil, err
	}
	return chunks.EncodeChunk(at, data, chunks.Options{Key: u.config.key})
}

// patiently is try for what may prove damage, which is final.
func (u *upload) patiently(ctx context.Context, op func() error) (err error) {
	if tried := u.try(ctx, func() error {
		if err = op(); errors.Is(err, ErrDamaged) {
			return nil
		}
		return err
	}); tried != nil {
		return tried
	}
	return err
}

// paint makes data, a chunk, what the layer has changed in it.
func (u *upload) paint(ctx context.Context, w work, data []byte) error {
	for _, e := range w.changed {
		part := data[e.Off-w.start():][:e.Len]
		if e.Zero {
			clear(part)
			continue
		}
		if err := u.try(ctx, func() error { return u.layer.ReadAt(ctx, part, e.Off) }); err != nil {
			return err
		}
	}
	return nil
}

// pack stores the patches of some chunks, usually in one pack.
func (u *upload) pack(ctx context.Context, batch []work) error {
	var all []chunks.Extent
	var raw int64
	for i := range batch {
		w := &batch[i]
		raw += w.bytes
		keeps(ctx, raw)
		extents, err := u.patch(ctx, w)
		if err != nil {
			return err
		}
		all = append(all, extents...)
		if len(extents) == 0 && w.kind == merge { // nothing but zeros over nothing
			u.set(w.chunk, w.entry)
		}
	}
	byChunk := func(w work, chunk uint64) int { return int(w.chunk) - int(chunk) }
	for _, list := range chunks.SplitPacks(all) {
		ref := snapshots.PackRef{Origin: u.origin, Gen: u.layer.Gen(), N: u.packs.Add(1) - 1}
		at := ref.Location()
		body, err := chunks.EncodePack(at, list, chunks.Options{Key: u.config.key})
		if err != nil {
			return err
		}
		keeps(ctx, raw+int64(len(body)))
		if err := u.put(ctx, at, body); err != nil {
			return err
		}
		for i, e := range list {
			if i > 0 && list[i-1].Chunk == e.Chunk {
				continue
			}
			n, _ := slices.BinarySearchFunc(batch, e.Chunk, byChunk)
			older := batch[n].entry
			u.set(e.Chunk, snapshots.Entry{Base: older.Base, Patches: append(slices.Clip(older.Patches), ref)})
		}
	}
	return nil
}
