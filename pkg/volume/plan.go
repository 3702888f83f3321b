package volume

import (
	"context"
	"errors"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
)

const (
	maxBatch  = 4096            // chunks that are read together for one pack
	rewriteAt = chunks.Size / 2 // bytes for a patch from which on the chunk is stored anew

	// packsAtMost is how many packs a generation gets before what else has changed is
	// stored as whole chunks, which need no number: tables have 16 bits for it. The
	// other half is for the packs under way, of which a batch may fill many.
	packsAtMost = 1 << 15
)

// kind is what is done for a chunk.
type kind int

const (
	nothing kind = iota
	patch        // what changed goes into a pack
	merge        // what changed and the patches so far go into a pack, as one patch
	rewrite      // the whole chunk is stored anew
)

// work is what is to be done for one chunk.
type work struct {
	kind    kind
	chunk   uint64
	entry   snapshots.Entry // so far
	changed []delta.Extent
	bytes   int64 // DATA that may go into a pack, at most
}

// entryKind returns how a patch can be added to the chunk's entry.
func (w work) entryKind() kind {
	if len(w.entry.Patches) < snapshots.MaxPatches {
		return patch
	}
	return merge
}

// anew reports whether the whole chunk is stored rather than a patch, in a generation
// that has so many packs.
func (w work) anew(packs uint64) bool { return w.bytes >= rewriteAt || packs >= packsAtMost }

// start is where the chunk begins in the volume.
func (w work) start() int64 { return int64(w.chunk) * chunks.Size }

// plan decides what to do for a chunk. It is stored anew when half of it has
// changed, now or together with the patches it has, else it gets a patch.
func (u *upload) plan(ctx context.Context, chunk uint64) (work, error) {
	w := work{chunk: chunk, changed: u.layer.Extents(chunk)}
	err := u.try(ctx, func() (err error) {
		w.entry, err = u.base.table.Entry(ctx, chunk)
		return err
	})
	if err != nil {
		return w, err
	}
	var zeros int64
	for _, e := range w.changed {
		if e.Zero {
			zeros += e.Len
		} else {
			w.bytes += e.Len
		}
	}
	switch {
	case w.bytes == 0 && w.entry.IsZero():
		return w, nil
	case zeros >= min(chunks.Size, u.layer.State().Size-w.start()):
		u.set(chunk, snapshots.Entry{})
		return w, nil
	}
	if w.kind = w.entryKind(); w.kind == merge {
		err = u.addPatched(ctx, &w)
	}
	if w.anew(u.packs.Load()) {
		w.kind = rewrite
	}
	return w, err
}

// addPatched adds to w.bytes what the patches of the chunk hold.
func (u *upload) addPatched(ctx context.Context, w *work) error {
	held := int64(0)
	for _, ref := range w.entry.Patches {
		var x *chunks.Index
		err := u.patiently(ctx, func() (err error) {
			x, err = u.objects.index(ctx, ref.Location())
			return err
		})
		if errors.Is(err, ErrDamaged) {
			continue // it will not be merged
		}
		if err != nil {
			return err
		}
		for _, e := range x.Extents(w.chunk) {
			if !e.Zero {
				held += int64(e.Len)
			}
		}
	}
	w.bytes = min(w.bytes+held, chunks.Size)
	return nil
}
