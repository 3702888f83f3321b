package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// Unwrap opens the keys of a volume, as [keys.Vault] does.
type Unwrap func(volume string, w *keys.Wrapped) (keys.Set, error)

// Rewrap wraps the keys of a volume by another key of a class, so that nothing of the
// volume needs the one that wraps them now. The keys stay, with all that is encrypted by
// them, so that nobody who uses the volume notices. Nothing is done for a volume that
// is not encrypted, or is being erased.
//
//	announce the wrapping in the record ──▶ put volume.<n+1> ──▶ adopt it in the record
//
// That order lets everybody tell volume.<n+1> from one that a recovery has put, and leaves
// a wrapping in Swift that the record agrees with at any time. A call that was interrupted
// is continued by the next, whatever key that one is for.
//
// Errors Is ErrBusy while the volume is being made, ErrNotFound when nothing is left of it, and
// what unwrap answers.
func (c *Catalog) Rewrap(ctx context.Context, id ident.Volume, unwrap Unwrap, to keys.Class) error {
	return failed(c.rewrap(ctx, id, unwrap, to), "rewrap the keys of", "volume", id)
}

func (c *Catalog) rewrap(ctx context.Context, id ident.Volume, unwrap Unwrap, to keys.Class) error {
	for range changeTries {
		v, _, err := c.volumes.Get(ctx, string(id))
		switch {
		case err != nil:
			return absent(err)
		case v.State != authority.Ready && v.State != authority.Deleted:
			return fmt.Errorf("%w: it is %s", ErrBusy, v.State)
		case v.Rewrapping != nil:
			err = c.adoptWrapping(ctx, v)
		case v.Keys == nil || v.Keys.By == to.Name():
			return nil
		default:
			var present bool
			if present, err = c.checkOwner(ctx, v); err == nil && !present {
				return nil
			}
			if err == nil {
				err = c.announceWrapping(ctx, v, unwrap, to)
			}
		}
		if err != nil {
			return err
		}
	}
	return ErrBusy
}

func (c *Catalog) announceWrapping(ctx context.Context, v authority.Volume, unwrap Unwrap, to keys.Class) error {
	set, err := unwrap(string(v.ID), v.Keys)
	if err != nil {
		return err
	}
	_, err = change(ctx, c.volumes, string(v.ID), func(now *authority.Volume) error {
		if now.Rewrapping != nil || !sameWrapping(now.Keys, v.Keys) {
			return errKeep // another call was faster
		}
		now.Rewrapping = to.Wrap(string(v.ID), set)
		return nil
	})
	return err
}

// adoptWrapping puts the descriptor of the wrapping that a record announces, and adopts it.
func (c *Catalog) adoptWrapping(ctx context.Context, v authority.Volume) error {
	next := v
	next.Keys, next.Descriptor, next.Rewrapping = v.Rewrapping, v.Descriptor+1, nil
	if err := c.describeWrapping(ctx, v, next); err != nil {
		return err
	}
	_, err := change(ctx, c.volumes, string(v.ID), func(now *authority.Volume) error {
		if !sameWrapping(now.Rewrapping, v.Rewrapping) {
			return errKeep // another call was faster
		}
		now.Keys, now.Descriptor, now.Rewrapping = next.Keys, next.Descriptor, nil
		return nil
	})
	return err
}

// describeWrapping puts the descriptor of v as it is to be next. An earlier attempt may have
// put it when the volume had another size.
func (c *Catalog) describeWrapping(ctx context.Context, v, next authority.Volume) error {
	err := c.describe(ctx, next)
	if !errors.Is(err, ErrForeign) {
		return err
	}
	d, err := c.described(ctx, v.ID, next.Descriptor)
	switch {
	case errors.Is(err, swift.ErrNotFound):
		return ErrBusy // it is being erased
	case err != nil || d.rewraps(v):
		return err
	}
	if _, err := c.checkOwner(ctx, v); err != nil {
		return err // says whose that one is
	}
	return ErrBusy // it is being erased, and the descriptor before that one has gone
}

// rewraps reports whether a descriptor is the one that a record announces.
func (d descriptor) rewraps(v authority.Volume) bool {
	return v.Rewrapping != nil && sameWrapping(d.Keys, v.Rewrapping)
}

// sameWrapping tells wrappings apart by their salts, which are drawn.
func sameWrapping(a, b *keys.Wrapped) bool {
	return a != nil && b != nil && bytes.Equal(a.Salt, b.Salt)
}

// following returns the descriptor after that of a record, or after the one that it
// announces, with its number; an error that Is swift.ErrNotFound if there is none.
func (c *Catalog) following(ctx context.Context, v authority.Volume) (d descriptor, n uint64, err error) {
	n = v.Descriptor + 1
	if d, err = c.described(ctx, v.ID, n); err == nil && d.rewraps(v) {
		n++
		d, err = c.described(ctx, v.ID, n)
	}
	return d, n, err
}
