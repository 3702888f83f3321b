package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// refer finds the snapshots in a volume's container, and recovers the pins on it
// and its own.
func (r *recovery) refer(ctx context.Context, v *recovered) error {
	refs, err := r.listReferrers(ctx, r.container(v.Volume))
	if err == nil {
		err = r.findSnapshots(ctx, v, refs)
	}
	if err != nil || r.options.DryRun {
		return err
	}
	if err := r.findPins(ctx, v, refs); err != nil {
		return err
	}
	if o := v.record.Origin; o != nil && o.Chosen && o.Root != nil && v.record.State != authority.Deleted {
		return r.pin(ctx, v.record)
	}
	return nil
}

// referrers are the snapshots and clones that a container has objects of.
type referrers struct {
	snapshots map[ident.Snapshot]bool
	children  map[ident.Volume]bool
}

// listReferrers lists them, in several looks: rows may be missing.
func (r *recovery) listReferrers(ctx context.Context, container string) (referrers, error) {
	found := referrers{map[ident.Snapshot]bool{}, map[ident.Volume]bool{}}
	for look := range recoverLooks {
		if look > 0 {
			if err := r.pause(ctx); err != nil {
				return found, err
			}
		}
		cuts, errCuts := snapshots.ListRecords(ctx, r.store, container)
		titles, errTitles := snapshots.ListTitles(ctx, r.store, container)
		children, errChildren := snapshots.ListPins(ctx, r.store, container)
		err := errors.Join(errCuts, errTitles, errChildren)
		if errors.Is(err, swift.ErrNotFound) {
			return found, nil // of a deleted volume
		}
		if err != nil {
			return found, err
		}
		for _, id := range append(cuts, titles...) {
			found.snapshots[id] = true
		}
		for _, id := range children {
			found.children[id] = true
		}
	}
	return found, nil
}

// findSnapshots finds the snapshots whose objects are in a volume's container and
// of which there is no record, or one of a time when they were not yet ready.
func (r *recovery) findSnapshots(ctx context.Context, v *recovered, refs referrers) error {
	for _, id := range slices.Sorted(maps.Keys(refs.snapshots)) {
		have, _, err := r.snapshots.Get(ctx, string(id))
		if err == nil && have.State != authority.Creating {
			continue
		}
		known := err == nil
		if !known && !errors.Is(err, authority.ErrNotFound) {
			return err
		}
		if child := r.found[ident.Volume(id)]; child != nil && child.Outcome != Incomplete && child.Outcome != "" {
			continue // the cut that a clone was made from, under its id
		}
		s, err := r.readSnapshot(ctx, r.container(v.Volume), id)
		if errors.Is(err, swift.ErrNotFound) {
			continue // the row was stale
		}
		if err != nil {
			return failed(err, "recover", "snapshot", id)
		}
		if known && s.State == authority.Creating {
			continue // the call may still be repeated
		}
		r.mu.Lock()
		r.cuts = append(r.cuts, s)
		r.mu.Unlock()
	}
	return nil
}

// findPins records the pins in a volume's container of which there is no record.
// Those of a clone that was never finished the sweep takes.
func (r *recovery) findPins(ctx context.Context, v *recovered, refs referrers) error {
	for _, child := range slices.Sorted(maps.Keys(refs.children)) {
		pin, err := snapshots.GetPin(ctx, r.store, r.container(v.Volume), child)
		if errors.Is(err, swift.ErrNotFound) {
			continue // the row was stale
		}
		if err == nil {
			_, err = r.pins.Create(ctx, authority.PinKey(v.Volume, child), authority.Pin{
				Owner: v.Volume, Child: child, Root: pin.Root.In(pin.Container), Created: pin.Created,
			})
		}
		if err != nil && !errors.Is(err, authority.ErrExists) {
			return failed(err, "recover the pin of", "volume", child)
		}
	}
	return nil
}

// readSnapshot makes the record of a snapshot from its objects. One without a name
// is a cut whose call died: the sweep takes it, as it takes every other.
func (r *recovery) readSnapshot(ctx context.Context, container string, id ident.Snapshot) (authority.Snapshot, error) {
	cut, err := snapshots.GetRecord(ctx, r.store, container, id)
	if err != nil {
		return authority.Snapshot{}, err
	}
	s := authority.Snapshot{
		ID: id, Source: cut.Source, Container: container, Size: cut.Size,
		Created: r.now(), State: authority.Creating,
	}
	if cut.Container != "" {
		s.Root = new(cut.Root.In(cut.Container))
	}
	there, err := r.there(ctx, s.Root)
	if err != nil {
		return s, err
	}
	if !there { // it was deleted, and collected
		s.Root, s.State = nil, authority.Deleted
		return s, nil
	}
	at := chunks.TitleName(id)
	body, err := r.read(ctx, container, at)
	if errors.Is(err, swift.ErrNotFound) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	t, err := decodeTitle(body, id)
	if err != nil {
		return s, fmt.Errorf("%s/%s is not the name of this snapshot: %w: %w", container, at, ErrForeign, err)
	}
	s.State, s.Name, s.Created = authority.Ready, t.Name, t.Created
	return s, nil
}

// addSnapshots records the snapshots that were found, the newest first: it keeps
// the name that another one had before it.
func (r *recovery) addSnapshots(ctx context.Context) error {
	slices.SortFunc(r.cuts, func(a, b authority.Snapshot) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID))
	})
	for _, s := range r.cuts {
		f := Finding{Volume: s.Source, Snapshot: s.ID, Name: s.Name, Cluster: r.config.Cluster, Outcome: Recovered}
		switch s.State {
		case authority.Creating:
			f.Outcome = Incomplete
		case authority.Deleted:
			f.Outcome = Gone
		}
		if !r.options.DryRun {
			_, err := r.snapshots.Create(ctx, string(s.ID), s)
			if errors.Is(err, authority.ErrExists) {
				_, err = r.changeSnapshot(ctx, s.ID, func(have *authority.Snapshot) error {
					have.State, have.Root, have.Size = s.State, s.Root, s.Size
					return nil
				})
			}
			if err != nil {
				return err
			}
			if f.Nameless, err = r.claim(ctx, snapshotNames, s.Name, string(s.ID), s.Created); err != nil {
				return err
			}
		}
		r.findings = append(r.findings, f)
	}
	return nil
}

// whole reports whether a snapshot that is ready was not deleted meanwhile: it has
// its name in Swift until it is erased, and its root until it is collected.
func (r *recovery) whole(ctx context.Context, s authority.Snapshot) (bool, error) {
	if named, err := r.exists(ctx, s.Container, chunks.TitleName(s.ID)); err != nil || !named {
		return false, err
	}
	return r.there(ctx, s.Root)
}

// there reports whether a root is in Swift; that of a blank volume is.
func (r *recovery) there(ctx context.Context, at *authority.Root) (bool, error) {
	if at == nil {
		return true, nil
	}
	_, err := snapshots.LoadRoot(ctx, r.store, at.Container, snapshots.RefOf(*at))
	if errors.Is(err, swift.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// snapshotsGone deletes again what was deleted after an old copy of the authority
// had been made.
func (r *recovery) snapshotsGone(ctx context.Context) error {
	for row, err := range authority.All(ctx, r.snapshots) {
		if err != nil {
			return err
		}
		s := row.Value
		owner, err := r.owner(s.Container)
		if err != nil {
			return err
		}
		v := r.found[owner]
		if s.State != authority.Ready || v == nil || !v.ours() {
			continue
		}
		whole, err := r.whole(ctx, s)
		if err != nil {
			return err
		}
		if whole {
			continue
		}
		if !r.options.DryRun {
			_, err := r.changeSnapshot(ctx, s.ID, func(s *authority.Snapshot) error {
				s.State, s.Root = authority.Deleted, nil
				return nil
			})
			if err == nil {
				err = r.drop(ctx, snapshotNames, s.Name, row.Key)
			}
			if err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
		}
		r.findings = append(r.findings, Finding{
			Volume: s.Source, Snapshot: s.ID, Name: s.Name, Cluster: r.config.Cluster, Outcome: Gone,
		})
	}
	return nil
}
