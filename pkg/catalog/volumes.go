package catalog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
)

// DefaultSize is that of an empty volume for which no size was asked, in bytes.
const DefaultSize = 1 << 30

// VolumeSpec asks for a volume.
type VolumeSpec struct {
	Name     string // the CSI name: the same name gets the same volume
	Required int64  // bytes at least; 0: the source's size, or DefaultSize
	Limit    int64  // bytes at most; 0: no limit
	// Source is what the volume starts as; nil: empty. Only the ids are read.
	Source     *authority.Origin
	Parameters map[string]string
	Mutable    map[string]string // those of a VolumeAttributesClass
	Account    string            // that the volume is to be in; "": that of Config.Store
	// Keys are those of the class of an encrypted volume, the present one first; they
	// must open the keys of the source, too. Empty: the volume is not encrypted.
	Keys keys.Ring
}

// CreateVolume makes a volume, or finds the one that the same spec made before.
// It returns once the volume can be published.
func (c *Catalog) CreateVolume(ctx context.Context, spec VolumeSpec) (authority.Volume, error) {
	v, err := c.createVolume(ctx, spec)
	return v, failed(err, "create", "volume", spec.Name)
}

func (c *Catalog) createVolume(ctx context.Context, spec VolumeSpec) (authority.Volume, error) {
	release, err := c.busy.take("volume name", spec.Name)
	if err != nil {
		return authority.Volume{}, err
	}
	defer release()
	v, err := c.plan(ctx, spec, authority.Creating)
	if err != nil || v.State == authority.Ready {
		return v, err
	}
	if err := c.store.CreateContainer(ctx, v.Container); err != nil {
		return v, err
	}
	if v.Origin != nil {
		if v, err = c.inherit(ctx, v); err != nil {
			return v, err
		}
	}
	if err := c.describe(ctx, v); err != nil {
		return v, err
	}
	return c.changeNew(ctx, v, func(v *authority.Volume) error {
		switch v.State {
		case authority.Ready:
			return errKeep
		case authority.Recovering:
			return ErrBusy
		}
		v.State = authority.Ready
		if v.Origin != nil {
			v.Head = v.Origin.Root
		}
		return nil
	})
}

// AbortCreation gives up a volume that is not yet made, by the id that CreateVolume
// returned with its error; its space follows. One that somebody has completed since
// stays.
func (c *Catalog) AbortCreation(ctx context.Context, id ident.Volume) error {
	return failed(c.abort(ctx, id, authority.Creating), "abort the creation of", "volume", id)
}

// abort discards a volume if it is in the given state.
func (c *Catalog) abort(ctx context.Context, id ident.Volume, state authority.State) error {
	v, err := change(ctx, c.volumes, string(id), func(v *authority.Volume) error {
		switch v.State {
		case authority.Deleted:
			return errKeep
		case state:
			v.State = authority.Deleted
			return nil
		}
		return fmt.Errorf("%w: it is %s", ErrConflict, v.State)
	})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err == nil {
		err = c.drop(ctx, volumeNames, v.Name, string(id))
	}
	return err
}

// changeNew edits the record of a volume that this call is making. If the
// volume was deleted meanwhile and even its record is gone, no sweep knows what
// this call has made since: it clears that itself.
func (c *Catalog) changeNew(ctx context.Context, made authority.Volume, edit func(*authority.Volume) error) (authority.Volume, error) {
	v, err := c.changeVolume(ctx, made.ID, edit)
	if err == nil {
		return v, nil
	}
	if errors.Is(err, ErrNotFound) {
		if _, _, gone := c.volumes.Get(ctx, string(made.ID)); errors.Is(gone, authority.ErrNotFound) {
			_, undo := c.clear(ctx, made, &Swept{})
			err = errors.Join(err, undo)
		}
	}
	return made, taken(err)
}

// plan finds or makes the record for a spec. It makes nothing in Swift.
func (c *Catalog) plan(ctx context.Context, spec VolumeSpec, state authority.State) (authority.Volume, error) {
	if err := checkName(spec.Name); err != nil {
		return authority.Volume{}, err
	}
	if spec.Source != nil && (spec.Source.Volume == "") == (spec.Source.Snapshot == "") {
		return authority.Volume{}, fmt.Errorf("%w: a source is a volume or a snapshot", ErrInvalid)
	}
	live := func(v authority.Volume) bool { return v.State != authority.Deleted }
	v, err := named(ctx, c, volumeNames, spec.Name, c.volumes, live, func() (string, authority.Volume, error) {
		origin, least, err := c.newOrigin(ctx, spec)
		if err != nil {
			return "", authority.Volume{}, err
		}
		size, err := sizeFor(spec, least)
		if err != nil {
			return "", authority.Volume{}, err
		}
		id := ident.NewVolume()
		wrapped, err := c.newKeys(ctx, spec, id)
		return string(id), authority.Volume{
			ID: id, Name: spec.Name, Container: c.container(id), Account: spec.Account, Size: size, Origin: origin, Keys: wrapped,
			Parameters: maps.Clone(spec.Parameters), Mutable: maps.Clone(spec.Mutable), Created: c.now(), State: state,
			Descriptor: firstDescriptor,
		}, err
	})
	if err != nil {
		return v, err
	}
	return v, satisfies(v, spec, state)
}

// satisfies reports as ErrConflict what a volume does not have of a spec.
func satisfies(v authority.Volume, spec VolumeSpec, state authority.State) error {
	var origin authority.Origin
	if v.Origin != nil {
		origin = authority.Origin{Volume: v.Origin.Volume, Snapshot: v.Origin.Snapshot}
	}
	var source authority.Origin
	if spec.Source != nil {
		source = authority.Origin{Volume: spec.Source.Volume, Snapshot: spec.Source.Snapshot}
	}
	switch {
	case v.State == authority.Recovering:
		return fmt.Errorf("%w: volume %s is being recovered", ErrBusy, v.ID)
	case v.State != state && v.State != authority.Ready:
		return fmt.Errorf("%w: volume %s is %s", ErrConflict, v.ID, v.State)
	case v.Size < spec.Required || spec.Limit > 0 && v.Size > spec.Limit:
		return fmt.Errorf("%w: volume %s has %d bytes", ErrConflict, v.ID, v.Size)
	case origin.Volume != source.Volume || origin.Snapshot != source.Snapshot:
		return fmt.Errorf("%w: volume %s has another source", ErrConflict, v.ID)
	case v.Account != spec.Account:
		return fmt.Errorf("%w: volume %s is in another Swift account", ErrConflict, v.ID)
	case (v.Keys == nil) != (len(spec.Keys) == 0):
		return fmt.Errorf("%w: of volume %s and what is asked for, one is encrypted and the other is not", ErrConflict, v.ID)
	case v.Keys != nil && !slices.Contains(spec.Keys.Names(), v.Keys.By):
		return fmt.Errorf("%w: volume %s has keys that another class's key wraps", ErrConflict, v.ID)
	case !maps.Equal(v.Parameters, spec.Parameters) || !maps.Equal(v.Mutable, spec.Mutable):
		return fmt.Errorf("%w: volume %s has other parameters", ErrConflict, v.ID)
	}
	return nil
}

// sizeFor decides the size of a new volume, whose source has so many bytes.
func sizeFor(spec VolumeSpec, source int64) (int64, error) {
	if spec.Required < 0 {
		return 0, fmt.Errorf("%w: %d bytes required", ErrOutOfRange, spec.Required)
	}
	least := max(spec.Required, 1)
	if spec.Source != nil {
		if spec.Limit > 0 && spec.Limit < source {
			return 0, fmt.Errorf("%w: the source has %d bytes, more than the limit of %d", ErrOutOfRange, source, spec.Limit)
		}
		least = max(least, source)
	} else if spec.Required == 0 {
		least = DefaultSize
		if spec.Limit > 0 {
			least = min(least, spec.Limit/SizeUnit*SizeUnit)
		}
	}
	return fit(least, spec.Limit)
}

// fit rounds a size up to the unit, within the limits.
func fit(least, limit int64) (int64, error) {
	if limit < 0 || least > snapshots.MaxSize {
		return 0, fmt.Errorf("%w: a volume has at most %d bytes", ErrOutOfRange, int64(snapshots.MaxSize))
	}
	size := (least + SizeUnit - 1) / SizeUnit * SizeUnit
	if size == 0 || limit > 0 && size > limit {
		return 0, fmt.Errorf("%w: no multiple of %d bytes from %d to %d", ErrOutOfRange, SizeUnit, least, limit)
	}
	return size, nil
}

// changeVolume edits the record of a volume that is not deleted.
func (c *Catalog) changeVolume(ctx context.Context, id ident.Volume, edit func(*authority.Volume) error) (authority.Volume, error) {
	return change(ctx, c.volumes, string(id), func(v *authority.Volume) error {
		if v.State == authority.Deleted {
			return ErrNotFound
		}
		return edit(v)
	})
}

// GetVolume returns a volume that is ready, else ErrNotFound.
func (c *Catalog) GetVolume(ctx context.Context, id ident.Volume) (authority.Volume, error) {
	v, err := c.readyVolume(ctx, id)
	return v, failed(err, "get", "volume", id)
}

// readyVolume is the volume as everybody may see it.
func (c *Catalog) readyVolume(ctx context.Context, id ident.Volume) (authority.Volume, error) {
	if _, err := ident.ParseVolume(string(id)); err != nil {
		return authority.Volume{}, fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	v, _, err := c.volumes.Get(ctx, string(id))
	if err == nil && v.State != authority.Ready {
		err = ErrNotFound
	}
	return v, absent(err)
}

// ListVolumes returns at most limit volumes that are ready, in the order of their
// ids, and the place where the list goes on: none at its end.
func (c *Catalog) ListVolumes(ctx context.Context, from authority.Place, limit int) ([]authority.Volume, authority.Place, error) {
	page, next, err := listPage(ctx, c.volumes, from, limit, func(v authority.Volume) bool { return v.State == authority.Ready })
	return page, next, failed(err, "list", "volumes from", from)
}

// maxPage bounds the entries of a page, whatever is asked for.
const maxPage = 10000

// listPage returns at most limit of the records from a place on that are shown, and
// the place after them.
func listPage[T any](ctx context.Context, t authority.Table[T], from authority.Place, limit int, shown func(T) bool) (page []T, next authority.Place, err error) {
	if limit < 1 {
		return nil, "", fmt.Errorf("%w: a page has at least one entry", ErrInvalid)
	}
	limit = min(limit, maxPage)
	for {
		// No more than the page has room for: a place is only known after a call.
		rows, next, err := t.List(ctx, from, limit-len(page))
		if err != nil {
			return nil, "", err
		}
		for _, row := range rows {
			if shown(row.Value) {
				page = append(page, row.Value)
			}
		}
		if next == authority.Beginning || len(page) == limit {
			return page, next, nil
		}
		from = next
	}
}

// Expand grows a volume's record to at least required bytes and returns the
// volume; an attached volume is then grown by its node.
func (c *Catalog) Expand(ctx context.Context, id ident.Volume, required, limit int64) (authority.Volume, error) {
	if _, err := c.readyVolume(ctx, id); err != nil {
		return authority.Volume{}, failed(err, "expand", "volume", id)
	}
	v, err := c.changeVolume(ctx, id, func(v *authority.Volume) error {
		size, err := fit(max(required, v.Size), limit)
		if err != nil {
			return err
		}
		if size == v.Size {
			return errKeep
		}
		v.Size = size
		return nil
	})
	return v, failed(err, "expand", "volume", id)
}

// DeleteVolume tombstones a volume: it is gone for everybody when the call
// returns, its space follows (see [Catalog.Sweep]). A volume that is not there
// is deleted already; one that is published is ErrInUse.
func (c *Catalog) DeleteVolume(ctx context.Context, id ident.Volume) error {
	return failed(c.deleteVolume(ctx, id), "delete", "volume", id)
}

func (c *Catalog) deleteVolume(ctx context.Context, id ident.Volume) error {
	if _, err := ident.ParseVolume(string(id)); err != nil {
		return nil // nothing can have this id
	}
	release, err := c.busy.take("volume", string(id))
	if err != nil {
		return err
	}
	defer release()
	err = c.discard(ctx, id)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// discard tombstones a volume and frees its name.
func (c *Catalog) discard(ctx context.Context, id ident.Volume) error {
	v, err := change(ctx, c.volumes, string(id), func(v *authority.Volume) error {
		switch {
		case v.State == authority.Deleted:
			return errKeep
		case v.State == authority.Recovering:
			return fmt.Errorf("%w: it is being recovered", ErrBusy)
		case v.Binding != nil:
			return inUse(v.Binding.Node)
		case len(v.Readers) > 0:
			return inUse(v.Readers[0].Node)
		}
		v.State = authority.Deleted
		return nil
	})
	if err != nil {
		return err
	}
	return c.drop(ctx, volumeNames, v.Name, string(id))
}
