package catalog

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// CollectOptions are the ways to collect.
type CollectOptions struct {
	DryRun bool // change nothing, in Swift and in the authority
	// Found is called for every object that is deleted, or would be; nil: not.
	Found func(Garbage)
}

// Garbage is an object that nothing needs.
type Garbage struct {
	Container, Name string
	Size            int64 // bytes, as stored
	Why             string
}

// Collected counts what a collection removed, or would.
type Collected struct {
	Objects int
	Bytes   int64 // as stored
}

// Collect removes the objects that living volumes, and deleted ones of which
// something is still needed, do not need any more (R8). The controller calls it
// periodically; any number may run at once, besides everything else. The errors
// of all volumes are returned together.
//
// Of a volume it first records the newest root. It sweeps only at and below the
// mark: the newest root that is older than the grace. Whatever was the newest at
// any time since names only what the mark reaches and what was written after it,
// so not even a reader of a version that has just been superseded misses
// anything. It leaves alone a volume of which a cut is being decided, so that the
// history since is there, and an import.
//
// It holds 8 bytes for each object that a volume reaches in its container, and a
// line for each record of the authority.
func (c *Catalog) Collect(ctx context.Context, o CollectOptions) (Collected, error) {
	var total Collected
	if err := c.checkClock(ctx); err != nil {
		return total, err
	}
	refs, err := c.references(ctx)
	if err != nil {
		return total, err
	}
	var errs []error
	again := &rereading{Catalog: c}
	for row, err := range authority.All(ctx, c.volumes) {
		if err != nil {
			return total, errors.Join(append(errs, err)...)
		}
		p := &collection{Catalog: c, options: o, volume: row.Value, again: again, done: &total}
		err := p.run(ctx, refs)
		switch {
		case errors.Is(err, ErrBusy): // somebody changed something; next time
		case errors.Is(err, swift.ErrNotFound) && row.Value.State == authority.Deleted: // it was swept
		case err != nil:
			errs = append(errs, failed(err, "collect the garbage of", "volume", row.Value.ID))
		}
		if err := ctx.Err(); err != nil {
			return total, err
		}
	}
	return total, errors.Join(errs...)
}

// collection is that of one volume's container.
type collection struct {
	*Catalog
	options CollectOptions
	volume  authority.Volume
	mark    mark
	kept    *kept
	found   []Garbage // and not yet deleted
	again   *rereading
	done    *Collected
}

// rereading is what all records said a moment ago, for the collections of all volumes:
// to read ten thousand records anew for each of ten thousand volumes would take days.
//
// What a call makes that is under way names a root that was the newest when the call had
// already made a record which keeps it. Of such a root nothing is collected until it was
// superseded a grace ago; so a record that is younger than half a grace does not matter.
type rereading struct {
	*Catalog
	refs *references
	at   time.Time
}

// rereadAfter is how long it may be used, where the grace is not short.
const rereadAfter = time.Minute

func (r *rereading) references(ctx context.Context) (*references, error) {
	now := r.now()
	age := now.Sub(r.at)
	if r.refs != nil && age >= 0 && age < min(rereadAfter, r.config.Grace/2) {
		return r.refs, nil
	}
	refs, err := r.Catalog.references(ctx)
	if err == nil {
		r.refs, r.at = refs, now
	}
	return refs, err
}

func (p *collection) run(ctx context.Context, refs *references) error {
	if !p.collectable() || refs.deciding[p.volume.ID] {
		return nil
	}
	if _, err := p.checkOwner(ctx, p.volume); err != nil {
		return err
	}
	if err := p.unused(ctx, p.volume); err != nil {
		return err
	}
	if err := p.recordNewest(ctx); err != nil {
		return err
	}
	p.kept = newKept(p.store, p.volume.Container)
	if err := p.setMark(ctx); err != nil || p.mark == (mark{}) {
		return err
	}
	if err := p.keep(ctx, refs); err != nil {
		return err
	}
	return p.sweep(ctx, refs)
}

// collectable reports whether there may be garbage: not yet in a new volume, and
// what was deleted keeps everything for a grace. An import, also one that was
// aborted and may not know it, has an open epoch without a node.
func (p *collection) collectable() bool {
	switch v := p.volume; v.State {
	case authority.Ready:
		return !v.Opening.Epoch.IsZero()
	case authority.Deleted:
		return !v.Opening.Open && p.old(v.Deleted)
	}
	return false
}

// recordNewest makes the newest root of an open epoch the recorded head: whoever
// searches later starts from there, and needs none below it.
func (p *collection) recordNewest(ctx context.Context) error {
	seen := p.volume
	if !seen.Opening.Open {
		return nil
	}
	newest, err := p.search(ctx, seen, 1)
	if err != nil || newest == nil {
		return err
	}
	head := newest.Recorded()
	if p.options.DryRun {
		p.volume.Head = &head
		return nil
	}
	p.volume, err = p.changeVolume(ctx, seen.ID, func(v *authority.Volume) error {
		if v.Opening.Epoch != seen.Opening.Epoch || v.Opening.Open != seen.Opening.Open {
			return ErrBusy
		}
		if head.Epoch != v.Opening.Epoch {
			return errKeep // the epoch has no root yet
		}
		return advance(v, &head)
	})
	return err
}

// mark is a generation of a volume: what was written after it is not swept. The
// zero mark sweeps nothing.
type mark struct {
	epoch ident.Epoch
	gen   uint64
	all   bool // of a deleted volume: no writer is left
}

// covers reports whether an object was written at the mark or before. An epoch
// of the same number with another tag is not the one that is known.
func (m mark) covers(o chunks.ParsedName) bool {
	if o.Epoch.Number != m.epoch.Number {
		return m.all || o.Epoch.Number < m.epoch.Number
	}
	return m.all || o.Epoch == m.epoch && o.Gen <= m.gen
}

// setMark finds the mark and keeps what it reaches. It is found in the listing:
// a row that is missing makes it an older one; if its own row is of an object
// that is gone, there is no mark this time.
func (p *collection) setMark(ctx context.Context) error {
	v := p.volume
	if v.State == authority.Deleted {
		p.mark.all = true
		if p.options.DryRun {
			return nil
		}
		// From now on it cannot come back, whatever becomes of the authority.
		return p.putOnce(ctx, v.Container, chunks.TombstoneName, nil, ErrForeign)
	}
	if v.Head == nil || v.Head.Container != v.Container {
		return nil
	}
	head := mark{epoch: v.Head.Epoch, gen: v.Head.Generation}
	lost := uint64(math.MaxUint64)
	if r := v.Recovered; r != nil && p.now().Sub(r.At) < p.config.LostKept {
		lost = r.Epoch.Number
	}
	var best chunks.ParsedName
	for row, err := range swift.Rows(ctx, p.store, v.Container, chunks.RootPrefix) {
		if err != nil {
			return err
		}
		name, err := chunks.ParseName(row.Name)
		if err == nil && p.old(row.Modified) && head.covers(name) && name.Epoch.Number < lost {
			best = name // rows are in the order of generations
		}
	}
	if best.Epoch.IsZero() {
		return nil
	}
	start, err := p.rootAt(ctx, v.Container, best.Epoch, best.Gen)
	if err != nil || start == nil {
		return err
	}
	p.mark = mark{epoch: best.Epoch, gen: best.Gen}
	return p.kept.walk(ctx, start)
}

// keep walks what the records of the authority, the records of snapshots and
// the pins name that was not walked yet.
func (p *collection) keep(ctx context.Context, refs *references) error {
	for r := range refs.roots[p.volume.ID] {
		if err := p.kept.record(ctx, r); err != nil {
			return err
		}
	}
	return p.keepUnknown(ctx, refs)
}

// keepUnknown walks what s/* and ref/* name of which the authority has no record.
// Rows, and even objects, may be resurrected: what is gone cannot be kept.
func (p *collection) keepUnknown(ctx context.Context, refs *references) error {
	container := p.volume.Container
	cuts, err := snapshots.ListRecords(ctx, p.store, container)
	if err != nil {
		return err
	}
	for _, id := range cuts {
		if refs.snapshots[id] || refs.settled(id) {
			continue
		}
		r, err := snapshots.GetRecord(ctx, p.store, container, id)
		if err == nil {
			err = p.kept.named(ctx, snapshots.Parent{Container: r.Container, Ref: r.Root})
		}
		if err != nil && !errors.Is(err, swift.ErrNotFound) {
			return err
		}
	}
	pins, err := snapshots.ListPins(ctx, p.store, container)
	if err != nil {
		return err
	}
	for _, child := range pins {
		if refs.pins[authority.PinKey(p.volume.ID, child)] {
			continue
		}
		pin, err := snapshots.GetPin(ctx, p.store, container, child)
		if err == nil {
			err = p.kept.named(ctx, snapshots.Parent{Container: pin.Container, Ref: pin.Root})
		}
		if err != nil && !errors.Is(err, swift.ErrNotFound) {
			return err
		}
	}
	return nil
}

// sweep looks at every object of the container.
func (p *collection) sweep(ctx context.Context, refs *references) error {
	for row, err := range swift.Rows(ctx, p.store, p.volume.Container, "") {
		if err != nil {
			return err
		}
		if why := p.garbage(row, refs); why != "" {
			p.found = append(p.found, Garbage{p.volume.Container, row.Name, row.Size, why})
		}
		if len(p.found) == erasePage {
			if err := p.delete(ctx); err != nil {
				return err
			}
		}
	}
	if len(p.found) > 0 {
		return p.delete(ctx)
	}
	return nil
}

// garbage says why an object is not needed, or "".
func (p *collection) garbage(row swift.Info, refs *references) string {
	if !p.old(row.Modified) {
		return ""
	}
	if id, ok := strings.CutPrefix(row.Name, chunks.SnapshotPrefix); ok {
		if refs.settled(ident.Snapshot(id)) {
			return "the clone that it was cut for has a pin"
		}
		return ""
	}
	name, err := chunks.ParseName(row.Name)
	switch {
	case err != nil || !p.mark.covers(name) || p.kept.has(row.Name):
		return ""
	case name.Kind == chunks.KindRoot:
		return "superseded, and of no snapshot or clone"
	}
	return "no root that is kept reaches it"
}

// delete removes what was found, except for what a record names now that did not
// before: a call may have made it of what it read long ago.
func (p *collection) delete(ctx context.Context) error {
	refs, err := p.again.references(ctx)
	if err == nil {
		err = p.keep(ctx, refs)
	}
	if err != nil {
		return err
	}
	if refs.deciding[p.volume.ID] {
		return ErrBusy
	}
	var names []string
	found := p.found[:0]
	for _, g := range p.found {
		if !p.kept.has(g.Name) {
			names, found = append(names, g.Name), append(found, g)
		}
	}
	p.found = nil
	if len(names) == 0 {
		return nil
	}
	if !p.options.DryRun {
		if err := p.store.DeleteMany(ctx, p.volume.Container, names); err != nil {
			return fmt.Errorf("container %s: %w", p.volume.Container, err)
		}
	}
	for _, g := range found {
		p.done.Objects++
		p.done.Bytes += g.Size
		if p.options.Found != nil {
			p.options.Found(g)
		}
	}
	return nil
}
