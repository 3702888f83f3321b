package volume

import (
	"context"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
)

// layers is what reads need of the journal.
type layers interface {
	Read(ctx context.Context, p []byte, off int64) (holes []delta.Span, err error)
	Content(chunk uint64) delta.Content
}

// ReadAt fills p with the volume's bytes at off. While Swift is away it waits
// until ctx ends (P9); proven damage is ErrDamaged, and p then holds no answer.
func (v *Volume) ReadAt(ctx context.Context, p []byte, off int64) error {
	if err := v.check(off, int64(len(p))); err != nil {
		return v.failed("read", err)
	}
	holes, err := v.layers.Read(ctx, p, off)
	if err == nil && len(holes) > 0 {
		err = v.readHoles(ctx, p, off, holes)
	}
	return v.failed("read", err)
}

// readHoles fills what the journal left open. The table is looked up only now: a
// layer that had left the journal before it was read is in this table.
func (v *Volume) readHoles(ctx context.Context, p []byte, off int64, holes []delta.Span) error {
	table := v.publisher.head.Load().table
	for _, h := range holes {
		if err := v.readTable(ctx, table, span{h.Off, h.Off + h.Len}, p[h.Off-off:][:h.Len]); err != nil {
			return err
		}
	}
	v.prefetch(off, int64(len(p)))
	return nil
}

// readTable fills p with the bytes s of the volume as table says; with no p it
// gets them into the cache.
func (v *Volume) readTable(ctx context.Context, table *snapshots.Table, s span, p []byte) error {
	for s.len() > 0 {
		chunk := uint64(s.from / chunks.Size)
		start := int64(chunk) * chunks.Size
		w := window{chunk: chunk, at: span{s.from - start, min(s.to-start, chunks.Size)}}
		n := w.at.len()
		if p != nil {
			w.data, p = p[:n], p[n:]
		}
		entry, err := v.objects.entry(ctx, table, chunk)
		if err == nil {
			err = v.objects.fill(ctx, w, entry)
		}
		if err != nil {
			return err
		}
		s.from += n
	}
	return nil
}

// prefetch reads ahead of a sequential reader, in the background. It reports no
// error: the read that needs the bytes will meet it.
func (v *Volume) prefetch(off, n int64) {
	for _, piece := range v.ahead.after(off, n, v.Size()) {
		if v.fetches.enter(v.life) != nil {
			return
		}
		go func() {
			defer v.fetches.leave()
			defer v.ahead.done()
			v.traffic.inTurn(v.life, func() class { return readahead }, func(ctx context.Context) error {
				return v.readTable(ctx, v.publisher.head.Load().table, piece, nil)
			})
		}()
	}
}
