// Package volume is one attached volume: a block device over the journal, the
// version table and Swift.
//
//	WriteAt, Discard, Flush ──▶ journal ──seal──▶ layer ──publish──▶ Swift
//	                               │                │                  │
//	ReadAt ◀───── newest first ────┴────────────────┴── table ◀────────┘
//
// Words: a layer is what was written between two seals of the journal; its
// generation is the point in time at its end; a generation is published when its
// root is stored in Swift, and all that the root needs before it.
//
// What always holds:
//
//  1. Roots are put strictly in the order of generations, each after all it names
//     and after its bytes were journalled (R2, R4). One goroutine does it.
//  2. A layer leaves the journal only when its generation is in the table that
//     reads look at, and reads look at the table after the journal: at any moment
//     a byte is found in at least one of them, the newer one first.
//  3. The absence of an object is never zeros (P7), and only what is proven is an
//     error: everything else waits (P9).
//  4. Nothing ends the publication but the end of the volume: a fence (R7), a
//     second writer (R2), Close and Stop. What it has not got done is in the
//     journal.
package volume

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
)

// Volume is an open volume. All methods are safe for concurrent use. Every error
// is an [*Error] and, if it is none of this package's kinds, comes from the
// journal or is the context's.
type Volume struct {
	journal   *delta.Journal
	layers    layers // of the journal
	objects   *objects
	publisher *publisher
	ahead     *readAhead
	traffic   *Traffic

	writes  gate // what changes the volume passes through it
	fetches gate // so does what is read ahead

	life       context.Context // ends with the volume; its cause says why
	end        context.CancelCauseFunc
	background sync.WaitGroup        // the publisher's goroutines
	damage     atomic.Pointer[error] // the first that was proven
	resizing   chan struct{}         // holds one token while the state is changed
	closing    chan struct{}         // holds one token while somebody closes
}

// Open opens a volume over its recovered journal and continues what an earlier
// process left to be published. It does not need Swift; but where that answers, and
// the epoch is fenced, the volume has ended already when Open returns it: what a
// zombie acknowledges would be in no version of the volume. The journal is the
// volume's, to be closed by it, unless Open fails.
func Open(ctx context.Context, config Config) (*Volume, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("volume: open: %w", err)
	}
	v := &Volume{
		journal:  config.Journal,
		layers:   config.Journal,
		ahead:    &readAhead{limit: config.readAhead},
		traffic:  config.Traffic,
		resizing: make(chan struct{}, 1),
		closing:  make(chan struct{}, 1),
	}
	v.life, v.end = context.WithCancelCause(context.Background())
	v.objects = newObjects(v.life, config)
	if v.publisher, err = newPublisher(ctx, config, v.objects); err != nil {
		return nil, v.failed("open", err)
	}
	asked, err := v.publisher.askAtOpening(ctx)
	if err != nil {
		return v, v.finish(err)
	}
	if config.Size > v.Size() {
		if err := v.Resize(ctx, config.Size); err != nil {
			return nil, err
		}
	}
	if config.Scratch {
		return v, nil
	}
	watchFence := func(ctx context.Context) error { return v.publisher.watchFence(ctx, asked) }
	for _, task := range []func(context.Context) error{v.publisher.run, watchFence, v.publisher.watchSparse} {
		v.background.Go(func() {
			if err := task(v.life); v.life.Err() == nil {
				v.finish(err)
			}
		})
	}
	return v, nil
}

// WriteAt writes p at off (P1). A full journal holds it until ctx ends.
func (v *Volume) WriteAt(ctx context.Context, p []byte, off int64, fua bool) error {
	if err := v.check(off, int64(len(p))); err != nil {
		return v.failed("write", err)
	}
	return v.change(ctx, "write", func() error { return v.journal.Write(ctx, off, p, fua) })
}

// WriteZeroes is WriteAt of n zeros.
func (v *Volume) WriteZeroes(ctx context.Context, off, n int64, fua bool) error {
	if err := v.check(off, n); err != nil {
		return v.failed("write zeroes", err)
	}
	return v.change(ctx, "write zeroes", func() error { return v.journal.Zero(ctx, off, n, fua) })
}

// Discard makes n bytes at off read as zeros and frees their space.
func (v *Volume) Discard(ctx context.Context, off, n int64) error {
	if err := v.check(off, n); err != nil {
		return v.failed("discard", err)
	}
	return v.change(ctx, "discard", func() error { return v.journal.Zero(ctx, off, n, false) })
}

// Flush returns when all that was acknowledged before is on stable storage.
func (v *Volume) Flush(ctx context.Context) error {
	err := v.Err()
	if err == nil {
		err = v.journal.Sync(ctx)
	}
	return v.failed("flush", err)
}

// Size returns the size in bytes.
func (v *Volume) Size() int64 { return v.journal.State().Size }

// Resize grows the volume to size bytes, durably. The same size is a success, a
// smaller one ErrShrink.
func (v *Volume) Resize(ctx context.Context, size int64) error {
	if size <= 0 || size > snapshots.MaxSize || size%chunks.Sector != 0 {
		return v.failed("resize", fmt.Errorf("to %d bytes: %w", size, ErrOutOfRange))
	}
	return v.setState(ctx, "resize", func(s *delta.State) error {
		if size < s.Size {
			return fmt.Errorf("from %d to %d bytes: %w", s.Size, size, ErrShrink)
		}
		s.Size = size
		return nil
	})
}

// Formatted returns how far the volume's first mkfs got.
func (v *Volume) Formatted() delta.Mark { return v.journal.State().Formatted }

// SetFormatted records how far the volume's first mkfs got, durably and in order
// with the writes before and after it.
func (v *Volume) SetFormatted(ctx context.Context, m delta.Mark) error {
	return v.setState(ctx, "set format mark", func(s *delta.State) error {
		s.Formatted = m
		return nil
	})
}

// setState changes the state, one at a time; without effect it writes nothing.
func (v *Volume) setState(ctx context.Context, op string, change func(*delta.State) error) error {
	return v.change(ctx, op, func() error {
		select {
		case v.resizing <- struct{}{}:
			defer func() { <-v.resizing }()
		case <-ctx.Done():
			return ctx.Err()
		}
		old := v.journal.State()
		s := old
		if err := change(&s); err != nil || s == old {
			return err
		}
		return v.journal.SetState(ctx, s)
	})
}

// change runs what changes the volume.
func (v *Volume) change(ctx context.Context, op string, f func() error) error {
	if err := v.writes.enter(ctx); err != nil {
		return v.failed(op, err)
	}
	defer v.writes.leave()
	return v.failed(op, f())
}

// Seal cuts the volume: everything acknowledged before is in the returned
// generation, nothing that starts after Seal returned is. The cut is durable on
// this node; [Volume.Published] waits until it is in Swift. A snapshot that was
// cut already keeps its cut. s may be "".
func (v *Volume) Seal(ctx context.Context, s ident.Snapshot) (gen uint64, err error) {
	gen, err = v.publisher.seal(ctx, s, false)
	return gen, v.failed("seal", err)
}

// Published waits until generation gen, and the record of its snapshot if it has
// one, is stored, and returns its root.
func (v *Volume) Published(ctx context.Context, gen uint64) (*snapshots.Root, error) {
	if gen >= v.journal.Active() {
		return nil, v.failed("publish", fmt.Errorf("generation %d: %w", gen, delta.ErrNotSealed))
	}
	ctx, cancel := v.objects.store.during(ctx)
	defer cancel()
	root, err := v.publisher.log.wait(ctx, gen)
	return root, v.failed("publish", err)
}

// Close seals, uploads and publishes all there is, with the clean mark, and ends
// the volume; its journal is closed and may be destroyed. Writes that arrive
// meanwhile are held. When ctx ends first the volume goes on as if nothing had
// been asked, and Close may be called again. After a success it returns the same
// root again.
func (v *Volume) Close(ctx context.Context) (*snapshots.Root, error) {
	select { // the gate is shut for one at a time: who gives up opens it again
	case v.closing <- struct{}{}:
		defer func() { <-v.closing }()
	case <-ctx.Done():
		return nil, v.failed("close", ctx.Err())
	}
	if root := v.publisher.head.Load().root; errors.Is(v.Err(), ErrClosed) && v.complete(root) {
		return root, nil
	}
	if err := v.writes.shut(ctx); err != nil {
		return nil, v.failed("close", err)
	}
	defer v.writes.open()
	root, err := v.publishClean(ctx)
	if err != nil {
		return nil, err
	}
	return root, v.Stop()
}

// publishClean publishes a generation with the clean mark, while nothing changes
// the volume.
func (v *Volume) publishClean(ctx context.Context) (*snapshots.Root, error) {
	if root := v.publisher.head.Load().root; v.complete(root) {
		return root, v.failed("close", nil)
	}
	gen, err := v.publisher.seal(ctx, "", true)
	if err != nil {
		return nil, v.failed("close", err)
	}
	return v.Published(ctx, gen)
}

// complete reports whether root closes this epoch in good order and nothing came
// after it: neither in the active layer nor in one that was sealed, be that durable
// already or not. A volume may have gone on after a close that was given up.
func (v *Volume) complete(root *snapshots.Root) bool {
	return root != nil && root.State.Clean && root.Ref.Epoch == v.journal.Identity().Epoch &&
		!v.journal.Dirty() && v.journal.Active() == root.Ref.Gen+1
}

// Stop ends the volume without uploading: what is in the journal stays there for
// the next Open. It may be called at any time, and again.
func (v *Volume) Stop() error {
	err := v.finish(ErrClosed)
	v.background.Wait()
	v.fetches.wait(context.Background()) // ends soon: life has
	return err
}

// finish ends the volume for the given reason; only the first one counts. The
// journal is closed, so that what it holds back fails too, and kept.
func (v *Volume) finish(why error) error {
	v.end(why)
	v.writes.finish(v.Err())
	v.fetches.finish(v.Err())
	if err := v.journal.Close(); err != nil && !errors.Is(err, delta.ErrClosed) {
		return &Error{v.journal.Identity().Volume, "stop", err}
	}
	return nil
}

// Done is closed when the volume has ended; Err tells why.
func (v *Volume) Done() <-chan struct{} { return v.life.Done() }

// Err returns why the volume ended, an error that Is ErrClosed, ErrFenced or
// ErrSecondWriter; nil while it goes on.
func (v *Volume) Err() error { return context.Cause(v.life) }

// check refuses what is no range of the volume, and everything after its end.
func (v *Volume) check(off, n int64) error {
	if why := v.Err(); why != nil {
		return why
	}
	if off%chunks.Sector != 0 || n%chunks.Sector != 0 {
		return fmt.Errorf("%d bytes at %d: %w", n, off, ErrUnaligned)
	}
	if size := v.Size(); off < 0 || n < 0 || off > size || n > size-off {
		return fmt.Errorf("%d bytes at %d of %d: %w", n, off, size, ErrOutOfRange)
	}
	return nil
}

// failed says what failed. After the end of the volume that is the reason,
// whatever it looked like to who met it.
func (v *Volume) failed(op string, err error) error {
	if err == nil {
		return nil
	}
	if why := v.Err(); why != nil {
		err = why
	}
	if !errors.Is(err, ErrDamaged) && (errors.Is(err, chunks.ErrDamaged) || errors.Is(err, delta.ErrDamaged)) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	err = &Error{v.journal.Identity().Volume, op, err}
	if errors.Is(err, ErrDamaged) {
		v.damage.CompareAndSwap(nil, &err)
	}
	return err
}

// Stats describes a volume at one moment.
type Stats struct {
	Journal delta.Stats
	Head    *snapshots.Root // newest published root; nil: none yet
	Waiting time.Time       // when the oldest generation that is not published was sealed; zero: all are
	Stopped error           // why the journal takes nothing any more; nil: it does
	Damaged error           // the first damage that was proven since the volume was opened; nil: none
	Failing error           // why the publication under way, or a read, does not get on; nil: they do
	Fetches int64           // GETs of immutable objects
	Fetched int64           // bytes that they returned
}

// Stats returns figures of the moment.
func (v *Volume) Stats() Stats {
	s := Stats{
		Journal: v.journal.Stats(),
		Head:    v.publisher.head.Load().root,
		Fetches: v.objects.store.gets.Load(),
		Fetched: v.objects.store.bytes.Load(),
	}
	if s.Failing = v.publisher.health.err(); s.Failing == nil {
		s.Failing = v.objects.store.stuck.why()
	}
	if err := v.journal.Err(); errors.Is(err, delta.ErrStopped) {
		s.Stopped = err
	}
	if sealed := v.journal.Sealed(); len(sealed) > 0 {
		s.Waiting = sealed[0].Sealed()
	}
	if damage := v.damage.Load(); damage != nil {
		s.Damaged = *damage
	}
	return s
}
