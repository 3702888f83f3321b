package catalog

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// Swept counts what a sweep removed.
type Swept struct{ Volumes, Snapshots, Objects int }

// Sweep removes the space of deleted volumes and snapshots as far as nothing
// needs it any more, and finishes what an interrupted call left. The controller
// calls it periodically; any number may run at once. What it cannot remove now
// it leaves to the next one; the errors of all volumes are returned together.
//
// The container of a deleted volume goes after the grace, once no snapshot of the volume and no
// pin on it is left. Of other volumes no object is touched: see [Catalog.Collect].
func (c *Catalog) Sweep(ctx context.Context) (Swept, error) {
	var total Swept
	if err := c.checkClock(ctx); err != nil {
		return total, err
	}
	for {
		swept, err := c.sweepOnce(ctx)
		total.Volumes += swept.Volumes
		total.Snapshots += swept.Snapshots
		total.Objects += swept.Objects
		// A child that went may have held the last pin of its parent.
		if err != nil || swept.Volumes == 0 {
			return total, err
		}
	}
}

func (c *Catalog) sweepOnce(ctx context.Context) (Swept, error) {
	var swept Swept
	// The order of these three decides: see the package's description.
	known := map[ident.Volume]bool{}
	dead, err := c.deadVolumes(ctx, known)
	if err != nil {
		return swept, err
	}
	needed := map[ident.Volume]bool{}
	errs, errSnapshots := c.sweepSnapshots(ctx, needed, &swept)
	errPins := c.sweepPins(ctx, known, needed)
	if err := errors.Join(errSnapshots, errPins); err != nil {
		return swept, err
	}
	for _, row := range dead {
		if needed[row.Value.ID] {
			continue
		}
		if err := c.erase(ctx, row, &swept); err != nil {
			errs = append(errs, failed(err, "erase", "volume", row.Value.ID))
		}
		if err := ctx.Err(); err != nil {
			return swept, err
		}
	}
	return swept, errors.Join(errs...)
}

// forgotten reports that the call which was to finish a record of a certain age
// has died and will not be repeated: the record should be finished by now, or
// has no claim on its name.
func (c *Catalog) forgotten(ctx context.Context, age, unfinished time.Duration, n namespace, name, id string) (bool, error) {
	switch {
	case age >= unfinished:
		return true, nil
	case age < c.config.Patience:
		return false, nil
	}
	claimed, err := c.holds(ctx, n, name, id)
	return !claimed, err
}

// deadVolumes lists the tombstones of volumes whose grace is over, begins that of
// others, and makes those that are due. A call that was taken for dead and wakes up finds
// the tombstone. An import that claims its name may take any time. All that have a record
// become known.
func (c *Catalog) deadVolumes(ctx context.Context, known map[ident.Volume]bool) ([]authority.Row[authority.Volume], error) {
	var dead []authority.Row[authority.Volume]
	for row, err := range authority.All(ctx, c.volumes) {
		if err != nil {
			return nil, err
		}
		known[row.Value.ID] = true
		switch v := row.Value; v.State {
		case authority.Creating, authority.Importing:
			unfinished := c.config.Unfinished
			if v.State == authority.Importing {
				unfinished = math.MaxInt64
			}
			forgotten, err := c.forgotten(ctx, c.now().Sub(v.Created), unfinished, volumeNames, v.Name, row.Key)
			if err == nil && forgotten {
				err = c.discard(ctx, v.ID)
			}
			if err != nil && !errors.Is(err, ErrNotFound) {
				return nil, err
			}
		case authority.Deleted:
			if c.old(v.Deleted) {
				dead = append(dead, row)
			} else if err := date(ctx, c, c.volumes, row, func(v *authority.Volume) *time.Time { return &v.Deleted }); err != nil {
				return nil, err
			}
		}
	}
	return dead, nil
}

// sweepSnapshots marks the volumes that live snapshots need, and removes what is
// left of deleted ones. Why one of those stays, its account is gone perhaps, is in kept:
// it holds up nothing else.
func (c *Catalog) sweepSnapshots(ctx context.Context, needed map[ident.Volume]bool, swept *Swept) (kept []error, _ error) {
	for row, err := range authority.All(ctx, c.snapshots) {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return kept, err
		}
		s := row.Value
		switch s.State {
		case authority.Creating, authority.Failed:
			needed[s.Source] = needed[s.Source] || s.State == authority.Creating
			forgotten, err := c.forgotten(ctx, c.now().Sub(s.Created), c.config.Unfinished, snapshotNames, s.Name, row.Key)
			if err == nil && forgotten {
				err = c.discardSnapshot(ctx, s.ID)
			}
			if err != nil && !errors.Is(err, ErrNotFound) {
				return kept, err
			}
		case authority.Ready:
			needed[s.Source] = true
		case authority.Deleted:
			if err := c.drop(ctx, snapshotNames, s.Name, row.Key); err != nil {
				return kept, err
			}
			if !c.old(s.Deleted) { // the tombstone keeps the cut for a grace
				needed[s.Source] = true
				if err := date(ctx, c, c.snapshots, row, func(s *authority.Snapshot) *time.Time { return &s.Deleted }); err != nil {
					return kept, err
				}
				continue
			}
			if err := c.eraseSnapshot(ctx, s); err != nil {
				kept = append(kept, failed(err, "erase", "snapshot", s.ID))
				continue
			}
			done, err := remove(ctx, c.snapshots, row.Key, row.Version)
			if err != nil {
				return kept, err
			}
			if done {
				swept.Snapshots++
			}
		}
	}
	return kept, nil
}

// sweepPins marks the volumes that children need. A pin whose child has no
// record was made by a call that died after its volume was deleted and erased:
// ids are not used again, so nobody needs it. Of children that were known a moment ago
// no record is read: a golden image has thousands of them.
func (c *Catalog) sweepPins(ctx context.Context, known, needed map[ident.Volume]bool) error {
	for row, err := range authority.All(ctx, c.pins) {
		if err != nil {
			return err
		}
		p := row.Value
		if !known[p.Child] {
			_, _, err := c.volumes.Get(ctx, string(p.Child))
			if errors.Is(err, authority.ErrNotFound) {
				if err = c.unknownClone(ctx, p.Child, p.Owner); err == nil {
					err = c.unpin(ctx, p.Owner, p.Child)
				}
				if err != nil {
					return failed(err, "unpin", "volume", p.Owner)
				}
				continue
			}
			if err != nil {
				return err
			}
		}
		needed[p.Owner] = true
	}
	return nil
}

// erase removes what a deleted volume has left, the record last.
func (c *Catalog) erase(ctx context.Context, row authority.Row[authority.Volume], swept *Swept) error {
	if err := c.drop(ctx, volumeNames, row.Value.Name, row.Key); err != nil {
		return err
	}
	if cleared, err := c.clear(ctx, row.Value, swept); err != nil || !cleared {
		return err
	}
	done, err := remove(ctx, c.volumes, row.Key, row.Version)
	if done {
		swept.Volumes++
	}
	return err
}

// clear removes the container of a volume that nobody needs, and then the
// volume's pins on others. It reports false if the container is not empty yet:
// its listing was stale.
func (c *Catalog) clear(ctx context.Context, v authority.Volume, swept *Swept) (bool, error) {
	present, err := c.checkOwner(ctx, v)
	if err == nil && present {
		err = c.uncalled(ctx, v)
	}
	if err != nil && !errors.Is(err, swift.ErrNotFound) { // another sweep was faster
		return false, err
	}
	for n := uint64(firstDescriptor); n <= v.Descriptor; n++ {
		if err := c.deleteObject(ctx, v.Container, chunks.DescriptorName(n)); err != nil {
			return false, err
		}
	}
	if err := c.empty(ctx, v.Container, swept); err != nil {
		return false, err
	}
	err = c.store.DeleteContainer(ctx, v.Container)
	if errors.Is(err, swift.ErrNotEmpty) {
		return false, nil
	}
	if err != nil && !errors.Is(err, swift.ErrNotFound) {
		return false, err
	}
	if v.Origin != nil {
		if v.Origin.Volume != "" { // its node may have recorded the cut
			err := c.deleteObject(ctx, c.container(v.Origin.Volume), chunks.SnapshotName(ident.Snapshot(v.ID)))
			if err != nil {
				return false, err
			}
		}
		for _, owner := range v.Origin.Pinned {
			if err := c.unpin(ctx, owner, v.ID); err != nil {
				return false, err
			}
		}
	}
	return true, nil
}

// erasePage is how many objects one request deletes.
const erasePage = 1000

// uncalled reports as ErrRolledBack that Swift knows of something that needs a
// volume, or of a later epoch of it, and the authority does not.
func (c *Catalog) uncalled(ctx context.Context, v authority.Volume) error {
	if err := c.unused(ctx, v); err != nil {
		return err
	}
	children, err := snapshots.ListPins(ctx, c.store, v.Container)
	if err != nil {
		return err
	}
	for _, child := range children {
		if _, _, err = c.volumes.Get(ctx, string(child)); errors.Is(err, authority.ErrNotFound) {
			err = c.unknownClone(ctx, child, v.ID)
		}
		if err != nil {
			return err
		}
	}
	titles, err := snapshots.ListTitles(ctx, c.store, v.Container)
	if err != nil {
		return err
	}
	for _, s := range titles {
		if _, _, err = c.snapshots.Get(ctx, string(s)); errors.Is(err, authority.ErrNotFound) {
			_, err = c.store.Head(ctx, v.Container, chunks.TitleName(s), swift.HeadOptions{Newest: true})
			if err == nil {
				err = fmt.Errorf("%w: it knows nothing of snapshot %s", ErrRolledBack, s)
			}
		}
		if err != nil && !errors.Is(err, swift.ErrNotFound) {
			return err
		}
	}
	return nil
}

// unknown reports as ErrRolledBack that a volume of which there is no record is in
// Swift.
func (c *Catalog) unknown(ctx context.Context, id ident.Volume) error {
	_, err := c.described(ctx, id, firstDescriptor)
	if errors.Is(err, swift.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("%w: it knows nothing of volume %s", ErrRolledBack, id)
	}
	return err
}

// unknownClone is unknown for what may be a clone, which is in its source's account:
// without a record nothing else tells which that is.
func (c *Catalog) unknownClone(ctx context.Context, id, source ident.Volume) error {
	account, err := c.account(ctx, c.container(source))
	if err != nil {
		return err
	}
	c.accountOf.LoadOrStore(id, account)
	return c.unknown(ctx, id)
}

// empty deletes all objects that the listing of a container shows.
func (c *Catalog) empty(ctx context.Context, container string, swept *Swept) error {
	for marker := ""; ; {
		infos, err := c.store.List(ctx, container, "", marker, erasePage)
		if errors.Is(err, swift.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		var names []string
		for _, info := range infos {
			marker = info.Name
			names = append(names, info.Name)
		}
		if len(names) > 0 {
			if err := c.store.DeleteMany(ctx, container, names); err != nil {
				return fmt.Errorf("empty container %s: %w", container, err)
			}
			swept.Objects += len(names)
		}
		if len(infos) < erasePage {
			return nil
		}
	}
}
