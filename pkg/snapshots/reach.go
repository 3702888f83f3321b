package snapshots

import (
	"context"

	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// Reach calls visit for every object that root needs: itself, its pages, and
// the chunks and packs that these name, each once. It does not follow Parent: a
// table needs no other root.
func Reach(ctx context.Context, store swift.Store, root *Root, visit func(Location) error) error {
	return NewReacher(store, visit).Root(ctx, root)
}

// Reacher finds what many roots need, which have most of their pages in common:
// it reads such a page once. It is for one goroutine, and remembers the hashes of
// pages and the names of packs.
type Reacher struct {
	store swift.Store
	visit func(Location) error
	pages map[Hash]bool // true: all that the page names was visited
	packs map[PackRef]bool
}

// NewReacher makes a Reacher that calls visit for every object, once for pages
// and packs and once or several times for chunks.
func NewReacher(store swift.Store, visit func(Location) error) *Reacher {
	return &Reacher{store: store, visit: visit, pages: make(map[Hash]bool), packs: make(map[PackRef]bool)}
}

// Root visits what root needs, as [Reach] does, unless it was visited before.
// After an error r is of no further use.
func (r *Reacher) Root(ctx context.Context, root *Root) error {
	if err := r.visit(root.Location()); err != nil {
		return err
	}
	byPage := root.recent.byPage()
	for _, ref := range root.pages {
		if err := r.page(ctx, root, ref, byPage[ref.number]); err != nil {
			return err
		}
	}
	return r.entries(root.recent, 0, &entries{})
}

// page visits a page and what it names, except for entries that recent ones
// hide: what only they need is garbage.
func (r *Reacher) page(ctx context.Context, root *Root, ref pageRef, recent *entries) error {
	whole, known := r.pages[ref.hash]
	if whole {
		return nil
	}
	if !known {
		if err := r.visit(ref.location()); err != nil {
			return err
		}
	}
	list, err := newPage(ref, nil).load(ctx, r.store, root.Containers)
	if err != nil {
		return err
	}
	r.pages[ref.hash] = recent == nil
	if recent == nil {
		recent = &entries{}
	}
	return r.entries(list, uint64(ref.number)*PageChunks, recent)
}

// entries visits what the entries of list name, whose chunks are counted from
// first, except for those that hiding has entries for as well.
func (r *Reacher) entries(list *entries, first uint64, hiding *entries) error {
	for e := range list.all(first) {
		if _, hidden := hiding.find(uint32(e.Chunk - first)); hidden {
			continue
		}
		if !e.Base.IsZero() {
			if err := r.visit(e.Base.Location(e.Chunk)); err != nil {
				return err
			}
		}
		for _, p := range e.Patches {
			if r.packs[p] {
				continue
			}
			r.packs[p] = true
			if err := r.visit(p.Location()); err != nil {
				return err
			}
		}
	}
	return nil
}
