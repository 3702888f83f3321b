package catalog

import (
	"context"
	"errors"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// mend compares what Swift and the authority know of a volume, and mends the record.
func (r *recovery) mend(ctx context.Context, v *recovered) error {
	have, version, err := r.volumes.Get(ctx, string(v.Volume))
	known := err == nil
	if err != nil && !errors.Is(err, authority.ErrNotFound) {
		return err
	}
	v.record, v.Name, v.Cluster = have, have.Name, r.config.Cluster
	d, n, err := r.newestDescriptor(ctx, v.Volume)
	if err != nil {
		return err
	}
	if n == 0 {
		return r.undescribed(ctx, v, known)
	}
	v.Name, v.Cluster = d.Name, d.Cluster
	if d.Cluster != r.config.Cluster && (r.options.From == "" || d.Cluster != r.options.From) {
		v.Outcome = Foreign
		return nil
	}
	container := r.container(v.Volume)
	seen, err := r.follow(ctx, container, 1)
	if err != nil {
		return err
	}
	if known && (n == have.Descriptor || n == have.Descriptor+1 && d.rewraps(have)) && d.Cluster == r.config.Cluster {
		if err := r.catchUp(ctx, have, seen); err != nil {
			return err
		}
		if have, version, err = r.volumes.Get(ctx, string(v.Volume)); err != nil {
			return err
		}
		current, err := r.current(ctx, have, seen)
		if err != nil || current {
			v.Outcome = Known
			return err
		}
	}
	if !known {
		have = authority.Volume{ID: v.Volume, Container: container, Mutable: d.Mutable}
	}
	have.Name, have.Parameters, have.Created, have.Origin, have.Keys = d.Name, d.Parameters, d.Created, d.Origin, d.Keys
	have.Size, have.Descriptor, have.Rewrapping = max(have.Size, d.Size), n+1, nil
	dead, err := r.buried(ctx, container)
	switch {
	case err != nil:
		return err
	case have.State == authority.Deleted:
		v.Outcome = Known // and yet its epochs are old, which would keep it for ever
	case dead:
		v.Outcome, have.State = Gone, authority.Deleted
	default:
		v.Outcome, have.State = Recovered, authority.Recovering
	}
	if !r.options.DryRun {
		if seen, err = r.takeOver(ctx, have, seen); err != nil {
			return err
		}
	}
	r.adopt(&have, seen)
	if v.Lost = have.Opening.Lost; v.Lost {
		v.Newest = have.Recovered.Newest
	}
	v.record = have
	if r.options.DryRun {
		return nil
	}
	if err := r.skipEpochs(ctx, &v.record); err != nil {
		return err
	}
	if known {
		_, err = r.volumes.Update(ctx, string(v.Volume), v.record, version)
	} else {
		_, err = r.volumes.Create(ctx, string(v.Volume), v.record)
	}
	if errors.Is(err, authority.ErrConflict) || errors.Is(err, authority.ErrExists) {
		return ErrBusy
	}
	return err
}

// undescribed is mend of what has no descriptor in Swift.
func (r *recovery) undescribed(ctx context.Context, v *recovered, known bool) error {
	switch {
	case v.record.State == authority.Ready:
		v.Outcome = Missing
		return r.release(ctx, v)
	case known:
		v.Outcome = Known // not yet finished, or being erased
		return nil
	}
	_, err := r.store.List(ctx, r.container(v.Volume), "", "", 1)
	if errors.Is(err, swift.ErrNotFound) {
		return nil // nor is there a container
	}
	v.Outcome = Incomplete
	return err
}

// release takes a volume of which nothing is left from whoever has it, so that its
// record can be deleted.
func (r *recovery) release(ctx context.Context, v *recovered) error {
	if r.options.DryRun {
		return nil
	}
	_, err := r.changeVolume(ctx, v.Volume, func(v *authority.Volume) error {
		if v.Binding == nil && !v.Opening.Open && len(v.Readers) == 0 {
			return errKeep
		}
		v.Binding, v.Readers = nil, nil
		v.Opening.Lost = v.Opening.Lost || v.Opening.Open
		v.Opening.Open = false
		return nil
	})
	return err
}

// buried reports whether a volume was deleted so long ago that its objects may be gone.
func (r *recovery) buried(ctx context.Context, container string) (bool, error) {
	return r.exists(ctx, container, chunks.TombstoneName)
}

// newestDescriptor returns a volume's newest descriptor and its number; 0 if there
// is none. Numbers are dense.
func (r *recovery) newestDescriptor(ctx context.Context, id ident.Volume) (newest descriptor, n uint64, err error) {
	for {
		d, err := r.described(ctx, id, n+1)
		if errors.Is(err, swift.ErrNotFound) {
			return newest, n, nil
		}
		if err != nil {
			return newest, n, err
		}
		newest, n = d, n+1
	}
}

// catchUp makes the newest root of an epoch that is still open the recorded head, as
// its node would: what lies between may have been collected.
func (r *recovery) catchUp(ctx context.Context, v authority.Volume, seen trail) error {
	if r.options.DryRun || v.State != authority.Ready || !v.Opening.Open || seen.root == nil || seen.root.Ref.Epoch != v.Opening.Epoch {
		return nil
	}
	_, err := r.changeVolume(ctx, v.ID, func(now *authority.Volume) error {
		if now.Opening != v.Opening {
			return ErrBusy
		}
		return advance(now, new(seen.root.Recorded()))
	})
	return err
}

// current reports whether a record is as new as what is in Swift: it knows the last
// epoch, and its head is there. What else there is to be found, a call finds.
func (r *recovery) current(ctx context.Context, v authority.Volume, seen trail) (bool, error) {
	if v.State == authority.Creating || v.State == authority.Importing || v.Opening.Epoch.Number < seen.epoch.Number {
		return false, nil
	}
	return r.there(ctx, v.Head)
}

// takeOver makes the volume ours: whoever gives out an epoch by another authority
// finds the descriptor before it answers, or has put its mark before it is looked
// for here. Then the node that may have it open is fenced, and only then the newest
// root is searched, so that none can follow.
func (r *recovery) takeOver(ctx context.Context, v authority.Volume, seen trail) (trail, error) {
	if err := r.describe(ctx, v); err != nil {
		return seen, err
	}
	for {
		if e := seen.epoch; !e.IsZero() {
			at, err := r.fence(ctx, v.Container, e)
			if err != nil {
				return seen, err
			}
			seen.fenced = at
		}
		now, err := r.follow(ctx, v.Container, recoverLooks)
		now.fenced = seen.fenced
		if err != nil || now.epoch == seen.epoch {
			return now, err
		}
		seen = now
	}
}

// adopt gives a record the newest root, and an epoch that ended without its node
// unless it was closed in good order.
func (r *recovery) adopt(v *authority.Volume, seen trail) {
	last := v.Opening
	clean := seen.epoch.IsZero()
	if head := seen.root; head != nil {
		v.Head, v.Size = new(head.Recorded()), max(v.Size, head.State.Size)
		clean = head.State.Clean && head.Ref.Epoch == seen.epoch
	} else if v.Head == nil && v.Origin != nil {
		v.Head = v.Origin.Root
	}
	if last.Journal != "" {
		remember(v, last.Journal, !clean)
	}
	v.Opening = authority.Opening{
		Epoch: ident.Epoch{Number: max(last.Epoch.Number, seen.epoch.Number)}, Node: last.Node, Lost: !clean,
	}
	if clean {
		return
	}
	v.Recovered = &authority.Recovery{Epoch: seen.epoch, Node: last.Node, At: seen.fenced}
	if seen.root != nil {
		v.Recovered.Newest = seen.root.State.Sealed
	}
}

// skipEpochs gives out an epoch far above all that are known, which nobody opens.
func (r *recovery) skipEpochs(ctx context.Context, v *authority.Volume) error {
	for {
		e := ident.NewEpoch(v.Opening.Epoch.Number + recoverEpochs)
		v.Opening.Epoch = e
		err := r.putOnce(ctx, v.Container, chunks.EpochName(e.Number), markBody(e), ErrRolledBack)
		if !errors.Is(err, ErrRolledBack) { // which would be that of an earlier recovery
			return err
		}
	}
}
