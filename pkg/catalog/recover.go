package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// RecoverOptions are the ways to recover.
type RecoverOptions struct {
	DryRun  bool // change nothing, in Swift and in the authority
	Workers int  // how many volumes are looked at concurrently; default 64: they mostly pause
	// From names another cluster whose volumes are taken over, too; "": none.
	From string
	// Progress is told how much of the work that is known so far is done; nil: not.
	Progress func(done, total int)
}

// Outcome is what recovery made of something that it found.
type Outcome string

const (
	// Recovered: its record was absent, or older than what is in Swift.
	Recovered Outcome = "recovered"
	// Known: its record is as new as what is in Swift, or it was deleted.
	Known Outcome = "known"
	// Foreign: it belongs to another cluster.
	Foreign Outcome = "foreign"
	// Incomplete: it was never finished, or is half erased.
	Incomplete Outcome = "incomplete"
	// Missing: there is a record, and nothing in Swift. No node has it any more.
	Missing Outcome = "missing"
	// Gone: it was deleted, and what is left of it waits for whatever needs that.
	Gone Outcome = "gone"
	// Broken: see the error.
	Broken Outcome = "broken"
)

// Finding is what recovery found of a volume or a snapshot.
type Finding struct {
	Volume   ident.Volume
	Snapshot ident.Snapshot // "" for the volume itself
	Name     string
	Cluster  string // that owns the container
	Outcome  Outcome
	// Lost: the volume's last epoch was not closed in good order. What was written
	// after Newest, when the adopted root was cut, is lost to the volume.
	Lost   bool
	Newest time.Time
	// Nameless: another volume or snapshot has the name now; this one has its id only.
	Nameless bool
	Err      error
}

// recoverEpochs is how far above the highest epoch in Swift a recovered volume
// continues: farther than any controller of the lost authority can get unnoticed.
const recoverEpochs = 1024

// recoverLooks is how often Swift is looked at without finding anything new before
// what was found is taken for all: nothing but the listings tells where to look.
const recoverLooks = 5

// Recover rebuilds the authority from what is in Swift, whether it was lost or an
// old copy was put back (DESIGN section 6, "Disaster"): volumes with their names,
// snapshots, pins and epochs. It takes the volumes over by a descriptor of its own,
// fences the nodes that may have them open and adopts the newest roots. What the
// authority knows as well as Swift is left alone, so a recovery that was
// interrupted, or is repeated, goes on. Nothing in Swift is deleted or overwritten.
//
// What was deleted, and of which no object is gone yet, comes back: only the
// authority knew.
// No controller may work with the lost authority meanwhile; one that does all the
// same finds that it was replaced before it gives out an epoch or erases anything.
func (c *Catalog) Recover(ctx context.Context, o RecoverOptions) ([]Finding, error) {
	r := &recovery{Catalog: c, options: o, found: map[ident.Volume]*recovered{}}
	if r.options.Workers < 1 {
		r.options.Workers = 64
	}
	err := r.run(ctx)
	return r.findings, failed(err, "recover", "containers", c.config.Prefix)
}

// recovery is one run.
type recovery struct {
	*Catalog
	options RecoverOptions

	mu       sync.Mutex
	found    map[ident.Volume]*recovered
	cuts     []authority.Snapshot // that were found and are not recorded
	done     int
	findings []Finding
}

// recovered is a volume that was looked at.
type recovered struct {
	Finding
	record authority.Volume // as it is now, or would be
}

// ours reports whether the volume is in Swift and belongs to this cluster now.
func (v *recovered) ours() bool {
	return v.Outcome == Recovered || v.Outcome == Known || v.Outcome == Gone
}

// run finds the volumes first, then what refers to them, and only then makes them
// visible: nobody may delete a volume whose clones and snapshots are not yet known.
func (r *recovery) run(ctx context.Context) error {
	todo, err := r.candidates(ctx)
	if err != nil {
		return err
	}
	for len(todo) > 0 {
		if err := r.each(ctx, todo, r.mend); err != nil {
			return err
		}
		if todo, err = r.mentioned(ctx); err != nil {
			return err
		}
	}
	list := r.sorted()
	for _, v := range list {
		if v.Outcome == Recovered {
			v.Nameless, err = r.claim(ctx, volumeNames, v.Name, string(v.Volume), v.record.Created)
			if err != nil {
				return err
			}
		}
	}
	if err := r.snapshotsGone(ctx); err != nil {
		return err
	}
	if err := r.each(ctx, oursAmong(list), r.refer); err != nil {
		return err
	}
	if err := r.addSnapshots(ctx); err != nil {
		return err
	}
	if err := r.each(ctx, oursAmong(list), r.show); err != nil {
		return err
	}
	var errs []error
	for _, v := range list {
		if v.Outcome == "" {
			continue // nothing but a name that something mentions
		}
		r.findings = append(r.findings, v.Finding)
		errs = append(errs, failed(v.Err, "recover", "volume", v.Volume))
	}
	return errors.Join(errs...)
}

// candidates are the volumes that have a container or a record.
func (r *recovery) candidates(ctx context.Context) ([]ident.Volume, error) {
	var ids []ident.Volume
	for row, err := range authority.All(ctx, r.volumes) {
		if err != nil {
			return nil, err
		}
		ids = append(ids, row.Value.ID)
	}
	records := len(ids)
	for marker := r.config.Prefix; ; {
		names, err := r.store.Containers(ctx, r.config.Prefix, marker, swift.MaxListing)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			marker = name
			if id, err := r.owner(name); err == nil {
				ids = append(ids, id)
			}
		}
		if len(names) < swift.MaxListing {
			if records > 0 && len(ids) == records {
				return nil, fmt.Errorf("%w: the account has no container %s*; is it the right one?", ErrInvalid, r.config.Prefix)
			}
			slices.Sort(ids)
			return slices.Compact(ids), nil
		}
	}
}

// mentioned are the volumes that those found refer to and that were not looked at:
// the listing of containers may be stale.
func (r *recovery) mentioned(ctx context.Context) ([]ident.Volume, error) {
	var ids []ident.Volume
	for _, v := range r.sorted() {
		if !v.ours() {
			continue
		}
		children, err := snapshots.ListPins(ctx, r.store, r.container(v.Volume))
		if err != nil && !errors.Is(err, swift.ErrNotFound) {
			return nil, err
		}
		if o := v.record.Origin; o != nil {
			children = append(children, o.Pinned...)
		}
		for _, id := range children {
			if r.found[id] == nil {
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// each works on volumes concurrently. An error is that of the volume alone.
func (r *recovery) each(ctx context.Context, ids []ident.Volume, work func(context.Context, *recovered) error) error {
	for _, id := range ids {
		if r.found[id] == nil {
			r.found[id] = &recovered{Finding: Finding{Volume: id}}
		}
	}
	var workers errgroup.Group
	workers.SetLimit(r.options.Workers)
	for _, id := range ids {
		v := r.found[id]
		workers.Go(func() error {
			if err := work(ctx, v); err != nil {
				v.Outcome, v.Err = Broken, err
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.done++; r.options.Progress != nil {
				r.options.Progress(r.done, 3*len(r.found)) // three passes
			}
			return ctx.Err()
		})
	}
	return workers.Wait()
}

func oursAmong(list []*recovered) []ident.Volume {
	var ids []ident.Volume
	for _, v := range list {
		if v.ours() {
			ids = append(ids, v.Volume)
		}
	}
	return ids
}

// sorted lists what was found, the newest first: of two volumes that had one name
// after each other the later one keeps it.
func (r *recovery) sorted() []*recovered {
	var list []*recovered
	for _, v := range r.found {
		list = append(list, v)
	}
	slices.SortFunc(list, func(a, b *recovered) int {
		return cmp.Or(b.record.Created.Compare(a.record.Created), cmp.Compare(a.Volume, b.Volume))
	})
	return list
}

// claim gives a name to what had it; nameless if something else has it now.
func (r *recovery) claim(ctx context.Context, n namespace, name, id string, created time.Time) (nameless bool, err error) {
	if r.options.DryRun || name == "" {
		return false, nil
	}
	for range claimTries {
		_, err := r.claims.Create(ctx, n.key(name), authority.Claim{Name: name, ID: id, Created: created})
		if !errors.Is(err, authority.ErrExists) {
			return false, err
		}
		claim, version, err := r.claims.Get(ctx, n.key(name))
		if errors.Is(err, authority.ErrNotFound) {
			continue
		}
		if err != nil || claim.ID == id {
			return false, err
		}
		live, err := r.live(ctx, n, claim.ID)
		if err != nil || live {
			return true, err
		}
		if _, err := remove(ctx, r.claims, n.key(name), version); err != nil {
			return false, err
		}
	}
	return true, ErrBusy
}

// live reports whether a claim's record is there and not tombstoned.
func (r *recovery) live(ctx context.Context, n namespace, id string) (bool, error) {
	var state authority.State
	var err error
	if n == volumeNames {
		var v authority.Volume
		v, _, err = r.volumes.Get(ctx, id)
		state = v.State
	} else {
		var s authority.Snapshot
		s, _, err = r.snapshots.Get(ctx, id)
		state = s.State
	}
	if errors.Is(err, authority.ErrNotFound) {
		return false, nil
	}
	return state != authority.Deleted, err
}

// show makes a volume visible.
func (r *recovery) show(ctx context.Context, v *recovered) error {
	if v.record.State != authority.Recovering || r.options.DryRun {
		return nil
	}
	_, err := r.changeVolume(ctx, v.Volume, func(v *authority.Volume) error {
		if v.State != authority.Recovering {
			return fmt.Errorf("%w: volume %s is %s", ErrBusy, v.ID, v.State)
		}
		v.State = authority.Ready
		return nil
	})
	return err
}
