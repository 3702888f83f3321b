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

// version is the volume as of one published generation.
type version struct {
	root  *snapshots.Root // nil: blank
	table *snapshots.Table
}

// parent names the version for the root that continues it.
func (v *version) parent() snapshots.Parent {
	if v.root == nil {
		return snapshots.Parent{}
	}
	return snapshots.Parent{Container: v.root.Container, Ref: v.root.Ref}
}

// publisher takes sealed layers from the journal to Swift, strictly one after
// the other, oldest first: a root is put only when the one before it is there.
type publisher struct {
	config  Config
	journal *delta.Journal
	objects *objects

	head    atomic.Pointer[version]
	sparse  sparseList
	log     *ledger
	health  health
	pace    *pace
	sealing chan struct{} // holds one token while somebody seals
	kick    chan struct{} // there is a new layer
}

// newPublisher finds the version that the journal continues. Whoever opens may
// know a newer root than the journal, which had no time to let go of its layer,
// but never an older one: its successors' layers are gone.
func newPublisher(ctx context.Context, c Config, o *objects) (*publisher, error) {
	p := &publisher{
		config: c, journal: c.Journal, objects: o,
		log: newLedger(), pace: newPace(c.RPO, c.SnapshotOnly), sealing: make(chan struct{}, 1), kick: make(chan struct{}, 1),
	}
	retired, active := p.journal.Retired(), p.journal.Active()
	head := &version{c.Head, snapshots.BlankTable()}
	published := uint64(0)
	if c.Head != nil {
		head.table = snapshots.OpenTable(o.store, c.Head)
		if c.Head.Ref.Epoch == p.journal.Identity().Epoch {
			published = c.Head.Ref.Gen
		}
	}
	if published < retired || published >= active {
		return nil, fmt.Errorf("%w: it is of generation %d, the journal holds %d to %d", ErrHead, published, retired+1, active)
	}
	if published > retired {
		if err := p.journal.Retire(ctx, published); err != nil {
			return nil, err
		}
	}
	p.head.Store(head)
	if published > 0 {
		p.log.add(c.Head, nil)
	}
	return p, nil
}

// run publishes until ctx ends or the volume must: ErrFenced, ErrSecondWriter.
func (p *publisher) run(ctx context.Context) error {
	rpo, snapshotOnly, changed := p.pace.get()
	due := time.NewTicker(rpo)
	defer due.Stop()
	for {
		for layers := p.journal.Sealed(); len(layers) > 0; layers = p.journal.Sealed() {
			err := p.publish(ctx, layers[0])
			if err != nil && !ends(err) && ctx.Err() == nil {
				// A damaged journal, or a defect. Names must not be used again for
				// other bytes, so this opening gets no further; it still serves.
				p.health.note(err)
				<-ctx.Done()
			}
			if err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.kick:
		case <-p.journal.Pressure():
			p.sealDue(ctx)
		case <-changed:
			rpo, snapshotOnly, changed = p.pace.get()
			due.Reset(rpo)
		case <-due.C:
			if !snapshotOnly {
				p.sealDue(ctx)
			}
		}
	}
}

// askAtOpening looks for a fence, but does not wait for a Swift that is away:
// asked tells whether there was an answer. The error is ErrFenced.
func (p *publisher) askAtOpening(ctx context.Context) (asked bool, _ error) {
	if p.config.Scratch {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, p.config.ask)
	defer cancel()
	fenced, err := p.config.fenced(ctx)
	if err == nil && fenced {
		return true, ErrFenced
	}
	return err == nil, nil
}

// watchFence looks for a fence every RPO, however long an upload takes, and until
// it has been asked for once with an answer, more often.
func (p *publisher) watchFence(ctx context.Context, asked bool) error {
	for {
		rpo, _, changed := p.pace.get()
		if !asked {
			rpo = min(rpo, p.config.ask)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
			continue
		case <-time.After(rpo):
		}
		fenced, err := p.config.fenced(ctx)
		// No answer is no reason to stop: no root is published without one.
		if err == nil && fenced {
			return ErrFenced
		}
		asked = asked || err == nil
	}
}

// sealDue seals if anything changed since the last seal, or something is to be
// compacted. A journal that cannot seal has stopped; writes say so.
func (p *publisher) sealDue(ctx context.Context) {
	due := func() bool { return p.journal.Dirty() || !p.sparse.empty() }
	if !due() {
		return
	}
	err := p.alone(ctx, func() error {
		if !due() { // any more: the volume was closed meanwhile
			return nil
		}
		_, err := p.push(ctx, "", false)
		return err
	})
	p.health.note(err)
}

// alone runs what seals, or decides on it, while nobody else does.
func (p *publisher) alone(ctx context.Context, do func() error) error {
	select {
	case p.sealing <- struct{}{}:
		defer func() { <-p.sealing }()
		return do()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// seal cuts a generation. A snapshot that was cut already keeps its cut, and a volume that
// was closed as it is now, and is not yet published so, is not cut anew: an outage of hours
// has many attempts to close.
func (p *publisher) seal(ctx context.Context, s ident.Snapshot, clean bool) (gen uint64, err error) {
	err = p.alone(ctx, func() error {
		if s != "" {
			if gen, err = p.cut(ctx, s); gen != 0 || err != nil {
				return err
			}
		}
		if last := p.lastSealed(); clean && last != nil && last.Clean() {
			p.wake()
			gen = last.Gen()
			return nil
		}
		gen, err = p.push(ctx, s, clean)
		return err
	})
	return gen, err
}

// push seals the journal, and has that published.
func (p *publisher) push(ctx context.Context, s ident.Snapshot, clean bool) (uint64, error) {
	layer, err := p.journal.Seal(ctx, s, clean)
	if err != nil {
		return 0, err
	}
	p.wake()
	return layer.Gen(), nil
}

// lastSealed returns the sealed layer, durable and not yet retired, after which nothing has
// come; nil if something has, or there is none.
func (p *publisher) lastSealed() *delta.Layer {
	sealed := p.journal.Sealed()
	if p.journal.Dirty() || len(sealed) == 0 || sealed[len(sealed)-1].Gen()+1 != p.journal.Active() {
		return nil
	}
	return sealed[len(sealed)-1]
}

// cut returns the generation that was cut for s, 0 if there is none. A layer enters
// the ledger before it leaves the journal, so it is found in one of them.
func (p *publisher) cut(ctx context.Context, s ident.Snapshot) (uint64, error) {
	layer, err := p.journal.Cut(ctx, s)
	if err != nil {
		return 0, err
	}
	if layer != nil {
		p.wake() // whoever made the cut may not have stayed to do it
		return layer.Gen(), nil
	}
	return p.log.cut(s), nil
}

// wake tells run of a new layer.
func (p *publisher) wake() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// publish brings one layer to Swift: its objects, then its root, then what
// depends on the root, and only then lets go of the layer. A root whose bytes
// were saved, by this opening of the journal or an earlier one, has all its
// objects stored; it is put again as it is (R2).
func (p *publisher) publish(ctx context.Context, layer *delta.Layer) error {
	next, object, err := p.prepare(ctx, layer)
	if err != nil {
		return err
	}
	root := next.root
	fenced, err := p.saveRoot(ctx, layer.Gen(), object)
	if err == nil {
		err = p.putRoot(ctx, root, object, fenced)
	}
	if err != nil {
		return err
	}
	taken, err := p.putRecord(ctx, root)
	if err != nil {
		return err
	}
	if p.config.OnPublished != nil {
		if err := p.try(ctx, func() error { return p.tell(ctx, Published{root, object}) }); err != nil {
			return err
		}
	}
	// Reads look at the head after they looked at the journal, so the new head
	// comes before the layer goes.
	p.head.Store(next)
	p.log.add(root, taken)
	return p.try(ctx, func() error { return p.journal.Retire(ctx, layer.Gen()) })
}

// tell tells of a publication. Whoever takes the epoch for ended may be wrong, an old
// authority for example: what counts is the fence.
func (p *publisher) tell(ctx context.Context, published Published) error {
	err := p.config.OnPublished(ctx, published)
	if !errors.Is(err, ErrFenced) {
		return err
	}
	if fenced, err := p.config.fenced(ctx); err != nil || !fenced {
		return err
	}
	return ErrFenced
}

// prepare returns the version that layer makes and its root's bytes, with
// everything stored but the root.
func (p *publisher) prepare(ctx context.Context, layer *delta.Layer) (*version, []byte, error) {
	if object, ok := p.journal.SavedRoot(layer.Gen()); ok {
		e := p.journal.Identity().Epoch
		at := snapshots.Location{Container: p.config.Container, Name: chunks.RootName(e, layer.Gen())}
		root, err := snapshots.DecodeRoot(at, object)
		if err != nil {
			return nil, nil, damaged(at.Container, at.Name, err)
		}
		return &version{root, snapshots.OpenTable(p.objects.store, root)}, object, nil
	}
	update, err := p.upload(ctx, layer)
	if err != nil {
		return nil, nil, err
	}
	return &version{update.Root, update.Table}, update.RootObject.Body, nil
}

// look is an answer to the question whether the epoch is fenced.
type look func() (bool, error)

// saveRoot journals a root's bytes (R2), again if an earlier process has done so.
// The look for a fence before the PUT (R7) is on its way meanwhile.
func (p *publisher) saveRoot(ctx context.Context, gen uint64, object []byte) (look, error) {
	var fenced bool
	var lookErr error
	var looking sync.WaitGroup
	looking.Go(func() { fenced, lookErr = p.config.fenced(ctx) })
	defer looking.Wait()
	err := p.try(ctx, func() error { return p.journal.SaveRoot(gen, object) })
	return func() (bool, error) { return fenced, lookErr }, err
}

// putRoot publishes (R2, R7). Each attempt follows a look for a fence, the first one
// that of the caller.
func (p *publisher) putRoot(ctx context.Context, root *snapshots.Root, object []byte, fenced look) error {
	put := snapshots.Object{Location: snapshots.Location{Container: root.Container, Name: root.Ref.Name()}, Body: object}
	return p.try(ctx, func() error {
		yes, err := fenced()
		fenced = func() (bool, error) { return p.config.fenced(ctx) }
		if err != nil {
			return err
		}
		if yes {
			return ErrFenced
		}
		err = snapshots.PutRoot(ctx, p.config.Store, put)
		if errors.Is(err, snapshots.ErrRootTaken) {
			err = &ObjectError{put.Container, put.Name, ErrSecondWriter}
		}
		return err
	})
}

// putRecord stores the record of the snapshot that root was cut for, if any. That
// the snapshot has another cut already is the caller's failure, told as taken,
// and none of the publication.
func (p *publisher) putRecord(ctx context.Context, root *snapshots.Root) (taken, err error) {
	if root.Snapshot == "" {
		return nil, nil
	}
	record := snapshots.Record{
		ID: root.Snapshot, Source: p.journal.Identity().Volume, Container: root.Container,
		Root: root.Ref, Size: root.State.Size, Created: root.State.Sealed,
	}
	err = p.try(ctx, func() error {
		taken = snapshots.PutRecord(ctx, p.config.Store, root.Container, record)
		if errors.Is(taken, snapshots.ErrConflict) {
			return nil
		}
		return taken
	})
	return taken, err
}

// ends reports whether err is a reason to end the volume.
func ends(err error) bool { return errors.Is(err, ErrFenced) || errors.Is(err, ErrSecondWriter) }

// try runs op until it succeeds, ctx ends or the volume must end. Nothing else
// is final: what fails for ever shows in the statistics and loses nothing.
func (p *publisher) try(ctx context.Context, op func() error) error {
	for n := 0; ; n++ {
		err := op()
		if err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		p.health.note(err)
		if err == nil || ends(err) {
			return err
		}
		if err := p.config.pause.wait(ctx, n); err != nil {
			return err
		}
	}
}
