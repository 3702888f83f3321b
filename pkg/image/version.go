package image

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/swiftblock/csi-swiftblock/pkg/cache"
	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// Content is what can be exported: the bytes of a volume, chunk by chunk.
type Content interface {
	// Size is that of the volume in bytes.
	Size() int64
	// Chunks yields, ascending, the chunks that may hold something else than zeros.
	Chunks(ctx context.Context) iter.Seq2[uint64, error]
	// ReadChunk fills buf, [chunks.Size] bytes, with a chunk. It is called by
	// several goroutines at a time.
	ReadChunk(ctx context.Context, chunk uint64, buf []byte) error
}

// Version is a volume as of one root. Every byte of it is proved: the table by
// the root's hash, chunks and packs by their own checksums.
type Version struct {
	store   swift.Store
	table   *snapshots.Table
	size    int64
	keys    chunks.Keys
	indexes *cache.Cache[*chunks.Index] // of packs: each serves many chunks
}

// indexMemory bounds the footers of packs that a Version keeps, in bytes.
const indexMemory = 32 << 20

// NewVersion returns the volume that root describes; a nil root is that of a
// blank volume. What size bytes has beyond the root is zeros. The keys are those of
// an encrypted volume, as [snapshots.Root.Keys] finds them.
func NewVersion(store swift.Store, root *snapshots.Root, size int64, keys chunks.Keys) *Version {
	v := &Version{
		store: store, table: snapshots.BlankTable(), size: size, keys: keys,
		indexes: cache.New(indexMemory, (*chunks.Index).Bytes),
	}
	if root != nil {
		v.table, v.size = snapshots.OpenTable(store, root), max(size, root.State.Size)
	}
	return v
}

// Size implements [Content].
func (v *Version) Size() int64 { return v.size }

// Chunks implements [Content].
func (v *Version) Chunks(ctx context.Context) iter.Seq2[uint64, error] {
	return func(yield func(uint64, error) bool) {
		for e, err := range v.table.Entries(ctx) {
			if !yield(e.Chunk, err) {
				return
			}
		}
	}
}

// damageTries is how often an object is read whose bytes fail their checksums:
// they may have been damaged on their way, or on one replica only.
const damageTries = 3

// ReadChunk implements [Content].
func (v *Version) ReadChunk(ctx context.Context, chunk uint64, buf []byte) error {
	var err error
	for range damageTries {
		err = v.readChunk(ctx, chunk, buf)
		if err == nil || ctx.Err() != nil || !errors.Is(err, chunks.ErrDamaged) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("chunk %d: %w", chunk, err)
	}
	return nil
}

func (v *Version) readChunk(ctx context.Context, chunk uint64, buf []byte) error {
	e, err := v.table.Entry(ctx, chunk)
	if err != nil {
		return err
	}
	if e.Base.IsZero() {
		clear(buf)
	} else if err := v.readBase(ctx, e.Base.Location(chunk), chunk, buf); err != nil {
		return err
	}
	for _, p := range e.Patches {
		if err := v.readPatch(ctx, p.Location(), chunk, buf); err != nil {
			return err
		}
	}
	return nil
}

// bodies holds the memory of chunk objects between two reads.
var bodies = sync.Pool{New: func() any { return new([]byte) }}

// readBase fills buf with a full chunk, in one GET.
func (v *Version) readBase(ctx context.Context, at snapshots.Location, chunk uint64, buf []byte) error {
	body := bodies.Get().(*[]byte)
	object, err := snapshots.Fetch(ctx, v.store, at, swift.GetOptions{Buf: *body})
	if err != nil {
		return err // without the memory, see [swift.GetOptions]
	}
	*body = object.Body
	defer bodies.Put(body)
	x, err := chunks.ParseIndex(at, int64(len(object.Body)), object.Body, v.keys)
	if err != nil {
		return err
	}
	return decode(x, x.Frames(chunk, 0, chunks.Size), object.Body, 0, buf)
}

// readPatch lays over buf what a pack holds of a chunk.
func (v *Version) readPatch(ctx context.Context, at snapshots.Location, chunk uint64, buf []byte) error {
	key := cache.Key{Container: at.Container, Object: at.Name}
	x, err := v.indexes.Get(ctx, key, func(ctx context.Context) (*chunks.Index, error) {
		return snapshots.ReadIndex(ctx, v.store, at, v.keys)
	})
	if err != nil {
		return err
	}
	frames := x.Frames(chunk, 0, chunks.Size)
	if len(frames) == 0 {
		return fmt.Errorf("%w: %s: nothing of chunk %d", chunks.ErrDamaged, at, chunk)
	}
	pos, n := chunks.Span(frames)
	var stored []byte
	if n > 0 {
		object, err := snapshots.Fetch(ctx, v.store, at, swift.GetOptions{Off: pos, Len: n})
		if err != nil {
			return err
		}
		stored = object.Body
	}
	return decode(x, frames, stored, pos, buf)
}

// decode writes frames of one chunk, of which stored holds the bytes of the
// object from pos on, to their places in buf.
func decode(x *chunks.Index, frames []chunks.Frame, stored []byte, pos int64, buf []byte) error {
	for _, f := range frames {
		var part []byte
		if !f.Zero {
			from := f.Pos - pos
			if from+int64(f.Stored) > int64(len(stored)) {
				return fmt.Errorf("%w: the answer ends after %d bytes", chunks.ErrDamaged, len(stored))
			}
			part = stored[from:][:f.Stored]
		}
		if err := x.Decode(f, part, buf[f.Off:][:f.Len]); err != nil {
			return err
		}
	}
	return nil
}
