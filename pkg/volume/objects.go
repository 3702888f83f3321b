package volume

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/swiftblock/csi-swiftblock/pkg/cache"
	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// A chunk is read, and kept in the cache, in regions of one slot.
const (
	regionSize = chunks.SlotSize
	regions    = chunks.Size / regionSize
)

// slot is what one object holds of one region of one chunk: sorted, disjoint
// extents with their data, verified. It is shared and never modified.
type slot []chunks.Extent

// bytes returns the memory that s occupies.
func (s slot) bytes() int64 {
	n := int64(64)
	for _, e := range s {
		n += int64(len(e.Data)) + 48
	}
	return n
}

// slotKey names the slot of a region. There are fewer than 2^25 in a volume.
func slotKey(at snapshots.Location, chunk uint64, region uint32) cache.Key {
	return cache.Key{Container: at.Container, Object: at.Name, Slot: uint32(chunk)*regions + region}
}

// indexKey names the footer of an object.
func indexKey(at snapshots.Location) cache.Key {
	return cache.Key{Container: at.Container, Object: at.Name}
}

// objects reads immutable objects through the cache.
type objects struct {
	store *patient
	cache *Cache
	keys  chunks.Keys
}

func newObjects(life context.Context, c Config) *objects {
	return &objects{&patient{Store: c.Store, traffic: c.Traffic, life: life, pause: c.pause, missing: c.missing}, c.Cache, c.keys}
}

// entry looks a chunk up in a table.
func (o *objects) entry(ctx context.Context, t *snapshots.Table, chunk uint64) (e snapshots.Entry, err error) {
	err = proven(ctx, func() error {
		e, err = t.Entry(ctx, chunk)
		return err
	})
	return e, err
}

// slots fills into with the slots of the regions of chunk from first on. Those
// that the cache lacks are fetched with one range GET for each run of them.
func (o *objects) slots(ctx context.Context, at snapshots.Location, chunk uint64, first uint32, into []slot) error {
	for i := 0; i < len(into); {
		kept, ok := o.cache.slots.Peek(slotKey(at, chunk, first+uint32(i)))
		if ok {
			into[i] = kept
			i++
			continue
		}
		n := 1
		for i+n < len(into) {
			if _, ok := o.cache.slots.Peek(slotKey(at, chunk, first+uint32(i+n))); ok {
				break
			}
			n++
		}
		if err := o.fetch(ctx, at, chunk, first+uint32(i), into[i:i+n]); err != nil {
			return err
		}
		i += n
	}
	return nil
}

// fetch fills into with a run of slots. However many want one of them, it is
// fetched once: whoever asked first fetches the whole run, the others wait.
func (o *objects) fetch(ctx context.Context, at snapshots.Location, chunk uint64, first uint32, into []slot) error {
	ctx, cancel := o.store.during(ctx) // another volume may be the one that fetches
	defer cancel()
	if len(into) == 1 {
		return shared(ctx, o.cache.slots, slotKey(at, chunk, first), &into[0], func(ctx context.Context) (slot, error) {
			run, err := o.load(ctx, at, chunk, first, 1)
			if err != nil {
				return nil, err
			}
			return run[0], nil
		})
	}
	load := sync.OnceValues(func() ([]slot, error) { return o.load(ctx, at, chunk, first, uint32(len(into))) })
	var g errgroup.Group
	for i := range into {
		g.Go(func() error {
			return shared(ctx, o.cache.slots, slotKey(at, chunk, first+uint32(i)), &into[i], func(context.Context) (slot, error) {
				run, err := load()
				if err != nil {
					return nil, err
				}
				return run[i], nil
			})
		})
	}
	return g.Wait()
}

// shared gets a value through a cache. The end of another waiter's context, when
// it was the one that fetched, is not the end of this one.
func shared[V any](ctx context.Context, c *cache.Cache[V], key cache.Key, into *V, fetch func(context.Context) (V, error)) error {
	for {
		v, err := c.Get(ctx, key, fetch)
		if err == nil {
			*into = v
			return nil
		}
		if ctx.Err() != nil || !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
	}
}

// load fetches, verifies and decodes n slots with one range GET, none if nothing
// is stored for them.
func (o *objects) load(ctx context.Context, at snapshots.Location, chunk uint64, first, n uint32) ([]slot, error) {
	if n == regions && strings.HasPrefix(at.Name, chunks.ChunkPrefix) {
		return o.loadChunk(ctx, at, chunk)
	}
	x, err := o.index(ctx, at)
	if err != nil {
		return nil, err
	}
	if s, ok := o.cache.slots.Peek(slotKey(at, chunk, first)); ok && n == 1 {
		return []slot{s}, nil // it came with the footer
	}
	frames := x.Frames(chunk, first*regionSize, n*regionSize)
	pos, size := chunks.Span(frames)
	run := make([]slot, n)
	err = proven(ctx, func() error {
		var stored []byte
		if size > 0 {
			obj, err := o.store.Get(ctx, at.Container, at.Name, swift.GetOptions{Off: pos, Len: size})
			if err != nil {
				return err
			}
			if int64(len(obj.Body)) != size {
				return fmt.Errorf("%w: %s: %d of %d bytes", chunks.ErrDamaged, at, len(obj.Body), size)
			}
			stored = obj.Body
		}
		return decode(x, frames, stored, pos, first, run)
	})
	return run, err
}

// bodies are of full chunks that were decoded. What they hold is arbitrary.
var bodies = sync.Pool{New: func() any { return new([]byte) }}

// loadChunk is load of all slots of a full chunk: its footer comes along.
func (o *objects) loadChunk(ctx context.Context, at snapshots.Location, chunk uint64) ([]slot, error) {
	run := make([]slot, regions)
	err := proven(ctx, func() error {
		buf := bodies.Get().(*[]byte)
		obj, err := o.store.Get(ctx, at.Container, at.Name, swift.GetOptions{Buf: *buf})
		if err != nil {
			return err // and the buffer is lost
		}
		defer bodies.Put(&obj.Body)
		x, err := chunks.ParseIndex(at, obj.Size, obj.Body, o.keys)
		if err != nil {
			return err
		}
		if int64(len(obj.Body)) != obj.Size {
			return fmt.Errorf("%w: %s: %d of %d bytes", chunks.ErrDamaged, at, len(obj.Body), obj.Size)
		}
		o.cache.indexes.Add(indexKey(at), x)
		return decode(x, x.Frames(chunk, 0, chunks.Size), obj.Body, 0, 0, run)
	})
	return run, err
}

// decode turns frames, of which stored holds the bytes from pos on, into the run
// of slots that starts at region first, none of which it keeps.
func decode(x *chunks.Index, frames []chunks.Frame, stored []byte, pos int64, first uint32, run []slot) (err error) {
	clear(run)
	for _, f := range frames {
		e := chunks.Extent{Chunk: f.Chunk, Off: f.Off, Len: f.Len, Zero: f.Zero}
		if !f.Zero {
			if e.Data, err = x.Raw(f, stored[f.Pos-pos:][:f.Stored]); err != nil {
				return err
			}
		}
		s := &run[f.Off/regionSize-first]
		*s = append(*s, e)
	}
	return nil
}

// index returns the footer of an object.
func (o *objects) index(ctx context.Context, at snapshots.Location) (x *chunks.Index, err error) {
	ctx, cancel := o.store.during(ctx)
	defer cancel()
	err = shared(ctx, o.cache.indexes, indexKey(at), &x, func(ctx context.Context) (x *chunks.Index, err error) {
		read := &reading{patient: o.store}
		err = proven(ctx, func() error {
			x, err = snapshots.ReadIndex(ctx, read, at, o.keys)
			return err
		})
		if err == nil && read.whole() {
			o.keep(at, x, read.last.Body)
		}
		return x, err
	})
	return x, err
}

// reading is the store, remembering its last answer.
type reading struct {
	*patient
	last swift.Object
}

func (r *reading) Get(ctx context.Context, container, name string, o swift.GetOptions) (obj swift.Object, err error) {
	r.last, err = r.patient.Get(ctx, container, name, o)
	return r.last, err
}

// whole reports whether the last answer was all of an object.
func (r *reading) whole() bool { return int64(len(r.last.Body)) == r.last.Size }

// keep puts the slots of a small object, which came along with its footer, into
// the cache. One that is damaged is left to the read that needs it.
func (o *objects) keep(at snapshots.Location, x *chunks.Index, body []byte) {
	room := uint32(2 * regionSize)
	for _, chunk := range x.Chunks() {
		frames := x.Frames(chunk, 0, chunks.Size)
		for _, f := range frames {
			if f.Len > room { // small only as it is stored
				return
			}
			room -= f.Len
		}
		run := make([]slot, regions)
		if decode(x, frames, body, 0, 0, run) != nil {
			return
		}
		for region, s := range run {
			if len(s) > 0 {
				o.cache.slots.Add(slotKey(at, chunk, uint32(region)), s)
			}
		}
	}
}

// proven runs read again when its bytes fail their checksums, since they may have
// been damaged on their way or on one replica only; after three times it is so.
func proven(ctx context.Context, read func() error) error {
	var err error
	for range 3 {
		err = read()
		if err == nil || ctx.Err() != nil || !errors.Is(err, chunks.ErrDamaged) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}
