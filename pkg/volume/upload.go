package volume

import (
	"context"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// upload is one generation on its way to Swift. Nothing of it is ever begun
// again under the same names: each step is repeated until it succeeds.
type upload struct {
	*publisher
	layer  *delta.Layer
	base   *version // the generation before
	origin snapshots.Origin

	packs   atomic.Uint64 // numbers given out
	mu      sync.Mutex
	entries map[uint64]snapshots.Entry // that changed
}

// upload stores all objects of a layer's generation except the root.
func (p *publisher) upload(ctx context.Context, layer *delta.Layer) (*snapshots.Update, error) {
	u := &upload{
		publisher: p,
		layer:     layer,
		base:      p.head.Load(),
		origin:    snapshots.Origin{Container: p.config.Container, Epoch: p.journal.Identity().Epoch, Open: p.journal.OpenID()},
		entries:   map[uint64]snapshots.Entry{},
	}
	if err := u.data(ctx); err != nil {
		return nil, err
	}
	state := layer.State()
	change := snapshots.Change{
		Origin: u.origin, Gen: layer.Gen(), Key: u.config.key.ID, Parent: u.base.parent(), Snapshot: layer.Snapshot(), Entries: u.entries,
		State: snapshots.State{
			Size: state.Size, Mark: snapshots.Mark(state.Formatted), Clean: layer.Clean(),
			Sealed: layer.Sealed().Truncate(time.Millisecond),
		},
	}
	var update *snapshots.Update
	err := u.try(ctx, func() (err error) {
		update, err = u.base.table.Update(ctx, change)
		return err
	})
	if err != nil {
		return nil, err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(u.config.parallel)
	for _, page := range update.Pages {
		u.start(ctx, g, u.class, func(ctx context.Context) error { return u.put(ctx, page.Location, page.Body) })
	}
	return update, g.Wait()
}

// class says how urgent the upload is now: it is when somebody waits for it, when
// the journal needs the room, and when it takes long enough to endanger P3.
func (u *upload) class() class {
	waited := u.layer.Snapshot() != "" || u.layer.Clean()
	rpo, _, _ := u.pace.get()
	if waited || time.Since(u.layer.Sealed()) > rpo/2 || u.journal.Pressed() {
		return overdue
	}
	return uploading
}

// compaction is the class of compaction within the upload, which waits for it.
func (u *upload) compaction() class {
	if c := u.class(); c == overdue {
		return c
	}
	return compacting
}

// put stores an object under a name that only this opening of the journal uses,
// and only for these bytes, so putting it again after a lost answer is harmless.
func (u *upload) put(ctx context.Context, at snapshots.Location, body []byte) error {
	return u.try(ctx, func() error {
		_, err := u.config.Store.Put(ctx, at.Container, at.Name, body, swift.PutOptions{})
		return err
	})
}

// data stores the layer's chunks and packs, and what of sparse packs is needed,
// and learns the entries that this changes.
func (u *upload) data(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(u.config.parallel)
	err := u.all(ctx, g, u.class, planned(u.layer.Chunks(), func(chunk uint64) (work, error) { return u.plan(ctx, chunk) }))
	if err == nil && u.class() != overdue {
		few := slices.Values(u.sparse.take(maxCompact))
		err = u.all(ctx, g, u.compaction, planned(few, func(s sparse) (work, error) { return u.planCompaction(ctx, s) }))
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		// Whoever gets no error from here saves a root: the end of ctx must be one,
		// even if no step has met it.
		g.Go(func() error { return err })
	}
	return g.Wait()
}

// planned iterates over the plans for items.
func planned[T any](items iter.Seq[T], plan func(T) (work, error)) iter.Seq2[work, error] {
	return func(yield func(work, error) bool) {
		for item := range items {
			if !yield(plan(item)) {
				return
			}
		}
	}
}

// all starts works, which come sorted by chunk, in g: patches in packs.
func (u *upload) all(ctx context.Context, g *errgroup.Group, class func() class, works iter.Seq2[work, error]) error {
	start := func(do func(context.Context) error) { u.start(ctx, g, class, do) }
	var batch []work
	var bytes int64
	send := func() {
		if pack := batch; len(pack) > 0 {
			start(func(ctx context.Context) error { return u.pack(ctx, pack) })
		}
		batch, bytes = nil, 0
	}
	for w, err := range works {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		switch w.kind {
		case rewrite:
			start(func(ctx context.Context) error { return u.rewrite(ctx, w) })
		case patch, merge:
			if bytes+w.bytes > chunks.MaxPackRaw || len(batch) == maxBatch {
				send()
			}
			batch = append(batch, w)
			bytes += w.bytes
		}
	}
	send()
	return nil
}

// start starts a work in g, which begins when the volume may upload and its turn has come.
func (u *upload) start(ctx context.Context, g *errgroup.Group, class func() class, do func(context.Context) error) {
	g.Go(func() error {
		if u.config.Await != nil {
			if err := u.config.Await(ctx); err != nil {
				return err
			}
		}
		return u.config.Traffic.inTurn(ctx, class, do)
	})
}

// set enters a changed entry.
func (u *upload) set(chunk uint64, e snapshots.Entry) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.entries[chunk] = e
}
