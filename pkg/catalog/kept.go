package catalog

import (
	"context"
	"hash/maphash"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// references is what the authority refers to in Swift, at one moment.
type references struct {
	// roots are those to keep, by the volumes in whose containers they may reach
	// something.
	roots map[ident.Volume]map[authority.Root]bool
	// deciding are the volumes of which a call is taking a cut, for a snapshot or
	// a clone, that no record names yet.
	deciding map[ident.Volume]bool
	// All that there are records of, tombstones included.
	volumes   map[ident.Volume]bool
	snapshots map[ident.Snapshot]bool
	pins      map[string]bool
}

// references reads all records, in the order in which the sweep does: volumes,
// their snapshots, their pins (see the package's description).
func (c *Catalog) references(ctx context.Context) (*references, error) {
	refs := &references{
		roots: map[ident.Volume]map[authority.Root]bool{}, deciding: map[ident.Volume]bool{},
		volumes: map[ident.Volume]bool{}, snapshots: map[ident.Snapshot]bool{}, pins: map[string]bool{},
	}
	for row, err := range authority.All(ctx, c.volumes) {
		if err == nil {
			err = c.volumeRoots(refs, row.Value)
		}
		if err != nil {
			return nil, err
		}
	}
	for row, err := range authority.All(ctx, c.snapshots) {
		if err == nil {
			err = c.snapshotRoots(refs, row.Value)
		}
		if err != nil {
			return nil, err
		}
	}
	for row, err := range authority.All(ctx, c.pins) {
		if err != nil {
			return nil, err
		}
		refs.pins[row.Key] = true
		refs.keep(row.Value.Owner, row.Value.Root)
	}
	return refs, nil
}

// volumeRoots notes the head of a volume, what its readers have, and what a clone
// starts from: it may not have made its pins yet.
func (c *Catalog) volumeRoots(refs *references, v authority.Volume) error {
	refs.volumes[v.ID] = true
	if v.State == authority.Deleted && c.old(v.Deleted) {
		return nil
	}
	if o := v.Origin; o != nil && v.State != authority.Deleted {
		if o.Root != nil {
			for _, owner := range o.Pinned {
				refs.keep(owner, *o.Root)
			}
		}
		if !o.Chosen && o.Volume != "" {
			refs.deciding[o.Volume] = true
		}
	}
	for _, r := range v.Readers {
		if err := c.keepRoot(refs, r.Root); err != nil {
			return err
		}
	}
	return c.keepRoot(refs, v.Head)
}

func (c *Catalog) snapshotRoots(refs *references, s authority.Snapshot) error {
	refs.snapshots[s.ID] = true
	if s.State == authority.Deleted && c.old(s.Deleted) {
		return nil
	}
	if s.State == authority.Creating && s.Size == 0 {
		refs.deciding[s.Source] = true
	}
	return c.keepRoot(refs, s.Root)
}

// keepRoot notes a root for the container that it is in. What it reaches in
// others is pinned there.
func (c *Catalog) keepRoot(refs *references, r *authority.Root) error {
	if r == nil {
		return nil
	}
	owner, err := c.owner(r.Container)
	if err == nil {
		refs.keep(owner, *r)
	}
	return err
}

func (refs *references) keep(owner ident.Volume, r authority.Root) {
	if refs.roots[owner] == nil {
		refs.roots[owner] = map[authority.Root]bool{}
	}
	refs.roots[owner][r] = true
}

// settled reports whether a cut was taken for a clone, under its id. Where no cut
// is being decided, the clone has another record of it, or does not need it.
func (refs *references) settled(cut ident.Snapshot) bool { return refs.volumes[ident.Volume(cut)] }

// kept is the set of objects in one container that some roots reach. It holds a
// hash of each name: two names of one hash make it keep too much, once.
type kept struct {
	store     swift.Store
	container string
	seed      maphash.Seed
	names     map[uint64]struct{}
	reacher   *snapshots.Reacher
	walked    map[snapshots.Parent]bool
}

func newKept(store swift.Store, container string) *kept {
	k := &kept{
		store: store, container: container, seed: maphash.MakeSeed(),
		names: map[uint64]struct{}{}, walked: map[snapshots.Parent]bool{},
	}
	k.reacher = snapshots.NewReacher(store, k.visit)
	return k
}

func (k *kept) visit(at snapshots.Location) error {
	if at.Container == k.container {
		k.names[maphash.String(k.seed, at.Name)] = struct{}{}
	}
	return nil
}

func (k *kept) has(name string) bool {
	_, ok := k.names[maphash.String(k.seed, name)]
	return ok
}

// walk keeps what a root reaches.
func (k *kept) walk(ctx context.Context, r *snapshots.Root) error {
	at := snapshots.Parent{Container: r.Container, Ref: r.Ref}
	if k.walked[at] {
		return nil
	}
	if err := k.reacher.Root(ctx, r); err != nil {
		return err
	}
	k.walked[at] = true
	return nil
}

// record keeps what a root of the authority reaches.
func (k *kept) record(ctx context.Context, r authority.Root) error {
	at := snapshots.Parent{Container: r.Container, Ref: snapshots.RefOf(r)}
	if k.walked[at] {
		return nil
	}
	loaded, err := snapshots.LoadRoot(ctx, k.store, at.Container, at.Ref)
	if err != nil {
		return err
	}
	return k.walk(ctx, loaded)
}

// named keeps what a root that only an object in Swift names reaches, as far as
// it is there.
func (k *kept) named(ctx context.Context, at snapshots.Parent) error {
	if at.IsZero() || k.walked[at] {
		return nil
	}
	loaded, err := snapshots.LoadRoot(ctx, k.store, at.Container, at.Ref)
	if err != nil {
		return err
	}
	// With a Reacher of its own: after an error that is of no further use.
	if err := snapshots.Reach(ctx, k.store, loaded, k.visit); err != nil {
		return err
	}
	k.walked[at] = true
	return nil
}
