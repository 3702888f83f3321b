package catalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// origin is a source as it is at one moment.
func (c *Catalog) origin(ctx context.Context, o authority.Origin) (v authority.Volume, s authority.Snapshot, err error) {
	if o.Snapshot != "" {
		s, err = c.readySnapshot(ctx, o.Snapshot)
		return v, s, failed(err, "use", "source snapshot", o.Snapshot)
	}
	v, err = c.readyVolume(ctx, o.Volume)
	return v, s, failed(err, "use", "source volume", o.Volume)
}

// newOrigin is the record of a source for a child that is asked for now, and the
// source's size; nil and 0 where there is no source. A child in another account
// than its source could not read it.
func (c *Catalog) newOrigin(ctx context.Context, spec VolumeSpec) (*authority.Origin, int64, error) {
	if spec.Source == nil {
		return nil, 0, nil
	}
	o := authority.Origin{Volume: spec.Source.Volume, Snapshot: spec.Source.Snapshot}
	v, s, err := c.origin(ctx, o)
	if err != nil {
		return nil, 0, err
	}
	if o.Volume != "" {
		o.Since = since(v)
	}
	account, err := c.account(ctx, v.Container+s.Container) // one of them is empty
	if err == nil && account != spec.Account {
		err = fmt.Errorf("%w: the source is in another Swift account", ErrInvalid)
	}
	return &o, max(v.Size, s.Size), err
}

// newKeys draws the keys of an encrypted volume, and adds those of its source: what
// it starts from is encrypted with them. Who asks has to have the source's. A volume
// is encrypted as its source is: else what one of them hides would be plain in the
// other. nil: it is not encrypted.
func (c *Catalog) newKeys(ctx context.Context, spec VolumeSpec, id ident.Volume) (*keys.Wrapped, error) {
	var source keys.Set
	if spec.Source != nil {
		v, err := c.sourceVolume(ctx, *spec.Source)
		if err != nil {
			return nil, err
		}
		switch {
		case v.Keys != nil && len(spec.Keys) == 0:
			return nil, fmt.Errorf("%w: the source is encrypted, so what is made from it has to be", ErrInvalid)
		case v.Keys == nil && len(spec.Keys) > 0:
			return nil, fmt.Errorf("%w: the source is not encrypted, so what is made from it cannot be: its data would stay as it is", ErrInvalid)
		}
		if source, err = spec.Keys.Unwrap(string(v.ID), v.Keys); err != nil {
			return nil, fmt.Errorf("%w: the keys of the source %s: %w", ErrInvalid, v.ID, err)
		}
	}
	if len(spec.Keys) == 0 {
		return nil, nil
	}
	return spec.Keys[0].Wrap(string(id), keys.New(source)), nil
}

// sourceVolume is the record of the volume that a source is, or is a snapshot of. That
// one may be deleted: its record stays as long as the snapshot.
func (c *Catalog) sourceVolume(ctx context.Context, o authority.Origin) (authority.Volume, error) {
	v, s, err := c.origin(ctx, o)
	if err == nil && o.Snapshot != "" {
		v, _, err = c.volumes.Get(ctx, string(s.Source))
	}
	return v, absent(err)
}

// inherit gives a volume that is being created its origin's root: it pins the
// objects that the root reaches in every container that holds some. If the
// origin is tombstoned by then, the volume is discarded.
func (c *Catalog) inherit(ctx context.Context, child authority.Volume) (authority.Volume, error) {
	child, err := c.choose(ctx, child)
	if err == nil {
		err = c.pin(ctx, child)
	}
	if err == nil || errors.Is(err, swift.ErrNotFound) {
		// Only now: a deletion that did not see the pins has tombstoned the origin
		// before this.
		if _, _, gone := c.origin(ctx, *child.Origin); gone != nil {
			err = gone
		}
	}
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrOutOfRange) || errors.Is(err, ErrLost) {
		if undo := c.discard(ctx, child.ID); undo != nil && !errors.Is(undo, ErrNotFound) {
			return child, undo // a repetition finds the same and discards it
		}
	}
	return child, err
}

// choose decides which root the child starts from, and records it together with
// the volumes it has to pin before the first pin is made.
func (c *Catalog) choose(ctx context.Context, child authority.Volume) (authority.Volume, error) {
	if child.Origin.Chosen {
		return child, nil
	}
	v, s, err := c.origin(ctx, *child.Origin)
	if err != nil {
		return child, err
	}
	start, size := s.Root, s.Size
	if child.Origin.Volume != "" {
		if start, size, err = c.cut(ctx, v, ident.Snapshot(child.ID), child.Origin.Since); err != nil {
			return child, err
		}
	}
	if size > child.Size {
		return child, fmt.Errorf("%w: the source has grown to %d bytes", ErrOutOfRange, size)
	}
	pinned, err := c.owners(ctx, start)
	if err != nil {
		return child, err
	}
	return c.changeNew(ctx, child, func(v *authority.Volume) error {
		if v.Origin.Chosen {
			return errKeep
		}
		v.Origin.Chosen, v.Origin.Root, v.Origin.Pinned = true, start, pinned
		return nil
	})
}

// owners lists the volumes in whose containers a root has objects: its own and
// those in its dictionary.
func (c *Catalog) owners(ctx context.Context, start *authority.Root) ([]ident.Volume, error) {
	if start == nil {
		return nil, nil
	}
	r, err := snapshots.LoadRoot(ctx, c.store, start.Container, snapshots.RefOf(*start))
	if err != nil {
		return nil, err
	}
	containers := []string{start.Container}
	for _, entry := range r.Containers {
		containers = append(containers, entry.Name)
	}
	var owners []ident.Volume
	seen := map[ident.Volume]bool{}
	for _, container := range containers {
		id, err := c.owner(container)
		if err != nil {
			return nil, err
		}
		if !seen[id] {
			seen[id] = true
			owners = append(owners, id)
		}
	}
	return owners, nil
}

// pin makes the child's pins: in Swift, for who recovers the authority from
// there, and in the authority, which decides.
func (c *Catalog) pin(ctx context.Context, child authority.Volume) error {
	for _, owner := range child.Origin.Pinned {
		start := *child.Origin.Root
		err := snapshots.PutPin(ctx, c.store, c.container(owner), snapshots.Pin{
			Child: child.ID, Container: start.Container, Root: snapshots.RefOf(start), Created: child.Created,
		})
		if err != nil {
			return err
		}
		_, err = c.pins.Create(ctx, authority.PinKey(owner, child.ID), authority.Pin{
			Owner: owner, Child: child.ID, Root: start, Created: child.Created,
		})
		if err != nil && !errors.Is(err, authority.ErrExists) {
			return err
		}
	}
	return nil
}

// unpin is the inverse of pin. The record goes last: it keeps the owner's
// container, whose object goes first.
func (c *Catalog) unpin(ctx context.Context, owner, child ident.Volume) error {
	if err := c.deleteObject(ctx, c.container(owner), chunks.PinName(child)); err != nil {
		return err
	}
	key := authority.PinKey(owner, child)
	_, version, err := c.pins.Get(ctx, key)
	if errors.Is(err, authority.ErrNotFound) {
		return nil
	}
	if err == nil {
		_, err = remove(ctx, c.pins, key, version)
	}
	return err
}
