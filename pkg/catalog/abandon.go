package catalog

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// Abandon is [Catalog.Reclaim] from whichever node has the volume, given up.
func (c *Catalog) Abandon(ctx context.Context, id ident.Volume) error {
	return failed(c.reclaim(ctx, id, "", true), "abandon", "volume", id)
}

// Reclaim ends the binding of a volume to a node ("" for whichever it is) that
// has not closed it. A node that answers hands over, and is never skipped. One
// that does not keeps the volume (ErrUnreachable) unless it was given up: then
// the epoch is fenced, and the newest root in Swift is searched and adopted; what
// that does not hold is lost.
func (c *Catalog) Reclaim(ctx context.Context, id ident.Volume, node string, givenUp bool) error {
	return failed(c.reclaim(ctx, id, node, givenUp), "reclaim", "volume", id)
}

func (c *Catalog) reclaim(ctx context.Context, id ident.Volume, node string, givenUp bool) error {
	release, err := c.busy.take("volume", string(id))
	if err != nil {
		return err
	}
	defer release()
	v, err := c.readyVolume(ctx, id)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if v.Binding == nil || node != "" && v.Binding.Node != node {
		return nil
	}
	if v.Opening.Open {
		if err := c.takeFrom(ctx, v, givenUp); err != nil {
			return err
		}
	}
	return c.unbind(ctx, id, v.Binding.Node)
}

// takeFrom ends the open epoch of a volume, by its node if that answers.
func (c *Catalog) takeFrom(ctx context.Context, v authority.Volume, givenUp bool) error {
	err := c.config.Nodes.Handover(ctx, v.Opening.Endpoint, v.ID)
	switch {
	case errors.Is(err, ErrUnreachable) && givenUp:
		_, err = c.endLost(ctx, v)
		return err
	case err != nil:
		return err
	}
	now, err := c.readyVolume(ctx, v.ID)
	if err != nil || !now.Opening.Open || now.Opening.Epoch != v.Opening.Epoch {
		return err
	}
	// The node has nothing of this epoch to hand over: its disk was replaced, or
	// it has met the fence of an earlier call that did not get to its end.
	fenced, err := c.fenced(ctx, v)
	if err == nil && !fenced && !givenUp {
		err = fmt.Errorf("%w: node %q answers, and does not have the journal of epoch %d", ErrUnreachable, v.Opening.Node, v.Opening.Epoch.Number)
	}
	if err == nil {
		_, err = c.endLost(ctx, v)
	}
	return err
}

// fenced reports whether the open epoch of a volume has its fence (R7) already.
func (c *Catalog) fenced(ctx context.Context, v authority.Volume) (bool, error) {
	return c.exists(ctx, v.Container, chunks.FenceName(v.Opening.Epoch.Number))
}

// fence puts f/<n> of an epoch and returns the date of that: not before the store's of the
// object, for our clock may be behind, and what the epoch has left is kept by this date.
func (c *Catalog) fence(ctx context.Context, container string, epoch ident.Epoch) (time.Time, error) {
	name := chunks.FenceName(epoch.Number)
	if err := c.putOnce(ctx, container, name, markBody(epoch), ErrRolledBack); err != nil {
		return time.Time{}, err
	}
	there, err := c.store.Head(ctx, container, name, swift.HeadOptions{Newest: true})
	at := c.now()
	if there.Modified.After(at) {
		at = there.Modified.UTC()
	}
	return at, err
}

// exists reports whether any replica has an object.
func (c *Catalog) exists(ctx context.Context, container, name string) (bool, error) {
	_, err := c.store.Head(ctx, container, name, swift.HeadOptions{Newest: true})
	if errors.Is(err, swift.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// endLost ends the open epoch of a volume without its node (R6, R7): it is
// fenced, then the newest root that the node has published is adopted.
func (c *Catalog) endLost(ctx context.Context, v authority.Volume) (authority.Volume, error) {
	epoch := v.Opening.Epoch
	at, err := c.fence(ctx, v.Container, epoch)
	if err != nil {
		return v, err
	}
	newest, err := c.search(ctx, v, searchLooks)
	if errors.Is(err, swift.ErrNotFound) || errors.Is(err, ErrRolledBack) {
		// What the record named when it was read may have been collected since.
		if now, _, err := c.volumes.Get(ctx, string(v.ID)); err == nil && now.Head != nil && (v.Head == nil || *now.Head != *v.Head) {
			return v, ErrBusy
		}
	}
	if err != nil {
		return v, err
	}
	head := v.Head
	var sealed time.Time
	if newest != nil {
		head, sealed = new(newest.Recorded()), newest.State.Sealed
	}
	ended, err := c.changeVolume(ctx, v.ID, func(v *authority.Volume) error {
		if v.Opening.Epoch != epoch || !v.Opening.Open {
			return ErrBusy // it was closed, or ended by another controller
		}
		v.Opening.Open, v.Opening.Lost = false, true
		v.Head = head
		v.Recovered = &authority.Recovery{Epoch: epoch, Node: v.Opening.Node, At: at, Newest: sealed}
		return nil
	})
	if err != nil {
		return v, err
	}
	return ended, nil
}

const (
	// searchAhead is how many consecutive generations must be absent before the
	// last one found is taken for the newest.
	searchAhead = 8
	// searchLooks is how often an absent one is looked for where none may be missed.
	searchLooks = 3
)

// search finds the newest root of a volume's open epoch, starting from the one
// recorded; the recorded head itself if there is none newer, nil if there is no
// head. A root counts if the parents of it lead back to the recorded head. An
// absent one is looked for so many times.
func (c *Catalog) search(ctx context.Context, v authority.Volume, looks int) (*snapshots.Root, error) {
	var newest *snapshots.Root
	if v.Head != nil {
		var err error
		newest, err = snapshots.LoadRoot(ctx, c.store, v.Head.Container, snapshots.RefOf(*v.Head))
		if errors.Is(err, swift.ErrNotFound) {
			return nil, fmt.Errorf("%w: root %s is recorded and absent", ErrRolledBack, snapshots.RefOf(*v.Head).Name())
		}
		if err != nil {
			return nil, err
		}
	}
	last := uint64(0)
	if v.Head != nil && v.Head.Epoch == v.Opening.Epoch {
		last = v.Head.Generation
	}
	for look := 0; look < looks; {
		found, err := c.firstRoot(ctx, v, last)
		switch {
		case err != nil:
			return nil, err
		case found != nil:
			if err := c.continues(ctx, found, newest); err != nil {
				return nil, err
			}
			newest, last, look = found, found.Ref.Gen, 0
			continue
		}
		if look++; look < looks {
			if err := c.pause(ctx); err != nil {
				return nil, err
			}
		}
	}
	return newest, nil
}

// firstRoot returns the first root of the open epoch after generation last, or
// nil if the next ones are absent. Any answer but "absent" ends the search.
func (c *Catalog) firstRoot(ctx context.Context, v authority.Volume, last uint64) (*snapshots.Root, error) {
	for gen := last + 1; gen <= last+searchAhead; gen++ {
		if found, err := c.rootAt(ctx, v.Container, v.Opening.Epoch, gen); found != nil || err != nil {
			return found, err
		}
	}
	return nil, nil
}

// continues checks that the parents of a root lead back to the one before it,
// also over roots that the search did not see.
func (c *Catalog) continues(ctx context.Context, found, before *snapshots.Root) error {
	var start snapshots.Parent // zero: found's history is that of a blank volume
	if before != nil {
		start = snapshots.Parent{Container: before.Container, Ref: before.Ref}
	}
	for parent := found.Parent; parent != start; {
		if parent.Container != found.Container || parent.Epoch != found.Ref.Epoch {
			return fmt.Errorf("%w: root %s does not continue the recorded head", ErrRolledBack, found.Ref.Name())
		}
		r, err := snapshots.LoadRoot(ctx, c.store, parent.Container, parent.Ref)
		if err != nil {
			return err
		}
		parent = r.Parent
	}
	return nil
}

// history iterates over a root and its parents, newest first, down to those that
// were collected: while a cut is being decided none is, so it is not among them.
// It ends after the first error.
func (c *Catalog) history(ctx context.Context, from authority.Root) iter.Seq2[*snapshots.Root, error] {
	return func(yield func(*snapshots.Root, error) bool) {
		for at, r := from.Container, snapshots.RefOf(from); !r.IsZero(); {
			loaded, err := snapshots.LoadRoot(ctx, c.store, at, r)
			if errors.Is(err, swift.ErrNotFound) && r != snapshots.RefOf(from) {
				return
			}
			if !yield(loaded, err) || err != nil {
				return
			}
			at, r = loaded.Parent.Container, loaded.Parent.Ref
		}
	}
}

// pause waits between two looks.
func (c *Catalog) pause(ctx context.Context) error {
	t := time.NewTimer(c.config.SearchPause)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
