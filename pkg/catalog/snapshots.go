package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// CreateSnapshot cuts a volume and returns once the snapshot is ready; the cut
// is taken when the first call for that name arrives. ErrConflict: the name is
// that of a snapshot of another volume. ErrLost is final.
func (c *Catalog) CreateSnapshot(ctx context.Context, name string, source ident.Volume) (authority.Snapshot, error) {
	s, err := c.createSnapshot(ctx, name, source)
	return s, failed(err, "create", "snapshot", name)
}

func (c *Catalog) createSnapshot(ctx context.Context, name string, source ident.Volume) (authority.Snapshot, error) {
	if err := checkName(name); err != nil {
		return authority.Snapshot{}, err
	}
	release, err := c.busy.take("snapshot name", name)
	if err != nil {
		return authority.Snapshot{}, err
	}
	defer release()
	live := func(s authority.Snapshot) bool { return s.State != authority.Deleted }
	s, err := named(ctx, c, snapshotNames, name, c.snapshots, live, func() (string, authority.Snapshot, error) {
		v, err := c.readyVolume(ctx, source)
		id := ident.NewSnapshot()
		s := authority.Snapshot{
			ID: id, Name: name, Source: source, Container: v.Container, Since: since(v),
			Created: c.now(), State: authority.Creating,
		}
		return string(id), s, failed(err, "use", "source volume", source)
	})
	switch {
	case err != nil || s.Source == source && s.State == authority.Ready:
		return s, err
	case s.Source != source:
		return s, fmt.Errorf("%w: snapshot %s is of volume %s", ErrConflict, s.ID, s.Source)
	case s.State == authority.Failed:
		return s, failed(ErrLost, "use", "snapshot", s.ID)
	}
	return c.take(ctx, s)
}

// take continues a snapshot whose record exists until it is ready.
func (c *Catalog) take(ctx context.Context, s authority.Snapshot) (authority.Snapshot, error) {
	// The record is there: a deletion of the volume that did not see it has left
	// its tombstone before this.
	v, err := c.readyVolume(ctx, s.Source)
	if err == nil {
		s, err = c.decide(ctx, s, v)
	}
	switch {
	case errors.Is(err, ErrNotFound):
		if undo := c.discardSnapshot(ctx, s.ID); undo != nil && !errors.Is(undo, ErrNotFound) {
			return s, undo // a repetition finds the same and discards it
		}
		return s, failed(err, "use", "source volume", s.Source)
	case errors.Is(err, ErrLost):
		_, fail := c.changeSnapshot(ctx, s.ID, func(s *authority.Snapshot) error {
			s.State = authority.Failed
			return nil
		})
		return s, errors.Join(err, fail)
	case err != nil:
		return s, err
	}
	err = snapshots.PutRecord(ctx, c.store, s.Container, record(s))
	if errors.Is(err, snapshots.ErrConflict) {
		s, err = c.concede(ctx, s)
	}
	if err != nil {
		return s, err
	}
	if err := c.title(ctx, s); err != nil {
		return s, err
	}
	ready, err := c.changeSnapshot(ctx, s.ID, func(s *authority.Snapshot) error {
		s.State = authority.Ready
		return nil
	})
	if errors.Is(err, ErrNotFound) {
		// It was deleted, perhaps even erased, before this call put its objects.
		return s, errors.Join(taken(err), c.eraseSnapshot(ctx, s))
	}
	return ready, err
}

// title is the object n/<id>: the name of a snapshot that is ready. It is put when
// everything else of the snapshot is there, and goes first when it is erased.
type title struct {
	Format   int            `json:"format"` // 1
	Snapshot ident.Snapshot `json:"snapshot"`
	Name     string         `json:"name"` // the CSI name
	Created  time.Time      `json:"created"`
}

// title puts the name of a snapshot: the same bytes each time.
func (c *Catalog) title(ctx context.Context, s authority.Snapshot) error {
	body, err := json.Marshal(title{Format: jsonFormat, Snapshot: s.ID, Name: s.Name, Created: s.Created})
	if err != nil {
		return err
	}
	return c.putOnce(ctx, s.Container, chunks.TitleName(s.ID), body, ErrForeign)
}

// decodeTitle reads what title has written for a snapshot.
func decodeTitle(body []byte, id ident.Snapshot) (title, error) {
	var t title
	if err := decodeJSON(body, &t, jsonFormat); err != nil {
		return title{}, err
	}
	if t.Snapshot != id {
		return title{}, fmt.Errorf("it is that of snapshot %.80q", t.Snapshot)
	}
	return t, nil
}

// eraseSnapshot removes the objects of a deleted snapshot.
func (c *Catalog) eraseSnapshot(ctx context.Context, s authority.Snapshot) error {
	if err := c.deleteObject(ctx, s.Container, chunks.TitleName(s.ID)); err != nil {
		return err
	}
	return c.deleteObject(ctx, s.Container, chunks.SnapshotName(s.ID))
}

// record is the object s/<id> of a snapshot whose cut is decided.
func record(s authority.Snapshot) snapshots.Record {
	r := snapshots.Record{ID: s.ID, Source: s.Source, Size: s.Size, Created: s.Created}
	if s.Root != nil {
		r.Container, r.Root = s.Root.Container, snapshots.RefOf(*s.Root)
	}
	return r
}

// decide takes the cut of a snapshot, or finds the one that was taken before,
// and records it.
func (c *Catalog) decide(ctx context.Context, s authority.Snapshot, v authority.Volume) (authority.Snapshot, error) {
	if s.Size > 0 {
		return s, nil
	}
	cut, size, err := c.cut(ctx, v, s.ID, s.Since)
	if err != nil {
		// Another call may have decided: then its cut is why the node refused this one.
		now, _, look := c.snapshots.Get(ctx, string(s.ID))
		if look == nil && now.State != authority.Deleted && now.Size > 0 {
			return now, nil
		}
		return s, err
	}
	decided, err := c.changeSnapshot(ctx, s.ID, func(s *authority.Snapshot) error {
		if s.Size > 0 {
			return errKeep
		}
		s.Root, s.Size = cut, size
		return nil
	})
	if err != nil {
		return s, taken(err)
	}
	return decided, nil
}

// concede makes the cut that the object of a snapshot names the decided one. Two calls
// took one each: this one the head of a volume that was not attached, another one
// that of its node, which has put the object. Nobody has seen either before the
// snapshot is ready, and what is in Swift stays.
func (c *Catalog) concede(ctx context.Context, s authority.Snapshot) (authority.Snapshot, error) {
	r, err := snapshots.GetRecord(ctx, c.store, s.Container, s.ID)
	if err != nil {
		return s, err
	}
	cut, size, err := c.recorded(ctx, s.Source, r)
	if err != nil {
		return s, err
	}
	followed, err := c.changeSnapshot(ctx, s.ID, func(s *authority.Snapshot) error {
		if s.State != authority.Creating {
			return errKeep
		}
		s.Root, s.Size = cut, size
		return nil
	})
	return followed, taken(err)
}

// recorded is the cut that the object of a snapshot names, and its size; the root is nil
// for a blank volume.
func (c *Catalog) recorded(ctx context.Context, source ident.Volume, r snapshots.Record) (*authority.Root, int64, error) {
	if r.Root.IsZero() {
		return nil, r.Size, nil
	}
	cut := r.Root.In(r.Container)
	return &cut, r.Size, c.belongs(ctx, source, cut)
}

// since is the number of the first epoch of a volume that may hold a cut which is
// asked for now.
func since(v authority.Volume) uint64 {
	if v.Opening.Open {
		return v.Opening.Epoch.Number
	}
	return v.Opening.Epoch.Number + 1
}

// cutLook bounds the look for a cut that was taken before: a Swift that does not answer
// must not keep a node from taking one.
const cutLook = 2 * time.Second

// cut takes a point in time of a volume for a snapshot, or for a clone under its
// id, unless a call that died has taken it, in the given epoch or since: there is
// one cut for an id. Of an attached volume its node takes it, of any other the
// head is it. The root is nil for a blank volume.
func (c *Catalog) cut(ctx context.Context, v authority.Volume, s ident.Snapshot, since uint64) (*authority.Root, int64, error) {
	if earlier, err := c.earlierCut(ctx, v, s, since); err != nil {
		return nil, 0, err
	} else if earlier != nil {
		return new(earlier.Recorded()), earlier.State.Size, nil
	}
	if !v.Opening.Open {
		if v.Head == nil {
			return nil, v.Size, nil
		}
		r, err := snapshots.LoadRoot(ctx, c.store, v.Head.Container, snapshots.RefOf(*v.Head))
		if err != nil {
			return nil, 0, err
		}
		return v.Head, r.State.Size, nil
	}
	// A node forgets what it has published, over a restart and with time; the object
	// that it has put for the cut does not. Where that cannot be read, a node that has
	// forgotten takes one in vain: it meets the object, and the next repetition finds it.
	look, cancel := context.WithTimeout(ctx, cutLook)
	taken, err := snapshots.GetRecord(look, c.store, v.Container, s)
	cancel()
	if err == nil {
		return c.recorded(ctx, v.ID, taken)
	}
	cut, err := c.config.Nodes.Seal(ctx, v.Opening.Endpoint, v.ID, s)
	if err != nil {
		return nil, 0, err
	}
	if cut.Size <= 0 || cut.Root.Container != v.Container {
		return nil, 0, fmt.Errorf("node %q sealed %d bytes in container %q: %w", v.Opening.Node, cut.Size, cut.Root.Container, ErrInvalid)
	}
	return &cut.Root, cut.Size, c.belongs(ctx, v.ID, cut.Root)
}

// earlierCut looks for the cut that a call which died may have left in an epoch
// that has ended: in the history of the volume. It returns nil if there was none,
// ErrLost if there may have been one.
func (c *Catalog) earlierCut(ctx context.Context, v authority.Volume, s ident.Snapshot, since uint64) (*snapshots.Root, error) {
	if v.Opening.Epoch.Number < since || v.Opening.Open && v.Opening.Epoch.Number == since {
		return nil, nil // none has ended
	}
	if v.Head != nil {
		for r, err := range c.history(ctx, *v.Head) {
			if err != nil {
				return nil, err
			}
			if r.Container != v.Container || r.Ref.Epoch.Number < since {
				break
			}
			if r.Snapshot == s {
				return r, nil
			}
		}
	}
	if v.Recovered != nil && v.Recovered.Epoch.Number >= since {
		return nil, ErrLost
	}
	return nil, nil
}

// belongs checks that a published root is of the volume's history: of the
// current epoch, or an ancestor of the root that was adopted since. A root that
// is neither was published by a node that had lost the volume.
func (c *Catalog) belongs(ctx context.Context, id ident.Volume, r authority.Root) error {
	v, err := c.readyVolume(ctx, id)
	if err != nil {
		return err
	}
	if r.Epoch == v.Opening.Epoch && !v.Opening.Lost {
		return nil
	}
	if v.Head != nil {
		for ancestor, err := range c.history(ctx, *v.Head) {
			if err != nil {
				return err
			}
			if ancestor.Container == r.Container && ancestor.Ref == snapshots.RefOf(r) {
				return nil
			}
			if ancestor.Container != r.Container || ancestor.Ref.Epoch.Number < r.Epoch.Number {
				break
			}
		}
	}
	return ErrLost
}

// changeSnapshot edits the record of a snapshot that is not deleted.
func (c *Catalog) changeSnapshot(ctx context.Context, id ident.Snapshot, edit func(*authority.Snapshot) error) (authority.Snapshot, error) {
	return change(ctx, c.snapshots, string(id), func(s *authority.Snapshot) error {
		if s.State == authority.Deleted {
			return ErrNotFound
		}
		return edit(s)
	})
}

// DeleteSnapshot removes a snapshot; its space follows. One that is not there is
// deleted already. Volumes made from it keep working.
func (c *Catalog) DeleteSnapshot(ctx context.Context, id ident.Snapshot) error {
	if _, err := ident.ParseSnapshot(string(id)); err != nil {
		return nil // nothing can have this id
	}
	err := c.discardSnapshot(ctx, id)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return failed(err, "delete", "snapshot", id)
}

// discardSnapshot tombstones a snapshot and frees its name.
func (c *Catalog) discardSnapshot(ctx context.Context, id ident.Snapshot) error {
	s, err := change(ctx, c.snapshots, string(id), func(s *authority.Snapshot) error {
		if s.State == authority.Deleted {
			return errKeep
		}
		s.State = authority.Deleted
		return nil
	})
	if err != nil {
		return err
	}
	return c.drop(ctx, snapshotNames, s.Name, string(id))
}

// GetSnapshot returns a snapshot that is ready, else ErrNotFound; ErrNotReady
// for one that is being made, ErrLost for one that never will be.
func (c *Catalog) GetSnapshot(ctx context.Context, id ident.Snapshot) (authority.Snapshot, error) {
	s, err := c.readySnapshot(ctx, id)
	return s, failed(err, "get", "snapshot", id)
}

func (c *Catalog) readySnapshot(ctx context.Context, id ident.Snapshot) (authority.Snapshot, error) {
	if _, err := ident.ParseSnapshot(string(id)); err != nil {
		return authority.Snapshot{}, fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	s, _, err := c.snapshots.Get(ctx, string(id))
	if err != nil {
		return s, absent(err)
	}
	switch s.State {
	case authority.Ready:
		return s, nil
	case authority.Creating:
		return s, ErrNotReady
	case authority.Failed:
		return s, ErrLost
	}
	return s, ErrNotFound
}

// ListSnapshots returns at most limit ready snapshots, of one volume if source
// is not "", in the order of their ids, and the place where the list goes on: none
// at its end.
func (c *Catalog) ListSnapshots(ctx context.Context, source ident.Volume, from authority.Place, limit int) ([]authority.Snapshot, authority.Place, error) {
	page, next, err := listPage(ctx, c.snapshots, from, limit, func(s authority.Snapshot) bool {
		return s.State == authority.Ready && (source == "" || s.Source == source)
	})
	return page, next, failed(err, "list", "snapshots from", from)
}

// deleteObject deletes an object; one that is not there is no error.
func (c *Catalog) deleteObject(ctx context.Context, container, name string) error {
	err := c.store.Delete(ctx, container, name)
	if errors.Is(err, swift.ErrNotFound) {
		return nil
	}
	return err
}
