package snapshots

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// maxRecent is how many recent entries a root has at most. When there are more,
// pages are written until no more than half of it are left, so that what pages
// cost is shared by many generations.
const maxRecent = 2048

// parallelGets is how many objects are fetched at one time.
const parallelGets = 8

// Change describes the generation that follows a table.
type Change struct {
	// Origin and Gen name the objects that the change writes.
	Origin Origin
	Gen    uint64

	// Key is the id of the key that all chunks and packs in the origin's container
	// are encrypted with; 0: none.
	Key uint32

	Parent   Parent // the root that this one continues, if any
	State    State
	Snapshot ident.Snapshot   // that the generation was cut for, or ""
	Entries  map[uint64]Entry // the new entries of chunks, in full
}

// Object is an object to be put. Its bytes never change.
type Object struct {
	Location
	Body []byte
}

// Update is a new generation, not yet stored: first Pages are put, then
// RootObject (R2), then Table is the volume's.
type Update struct {
	Table      *Table
	Pages      []Object // only new versions
	Root       *Root    // Root.Ref names the new generation
	RootObject Object
}

// Update computes the generation that follows t when c is applied. It fetches
// only pages that it writes again. With no Entries it is a clone's first root or
// an empty snapshot: one root, no pages.
func (t *Table) Update(ctx context.Context, c Change) (*Update, error) {
	at := Location{Container: c.Origin.Container, Name: chunks.RootName(c.Origin.Epoch, c.Gen)}
	u, err := t.update(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("generation %s: %w", at, err)
	}
	return u, nil
}

func (t *Table) update(ctx context.Context, c Change) (*Update, error) {
	changes, err := c.check(t)
	if err != nil {
		return nil, err
	}
	c.State.Sealed = c.State.Sealed.UTC().Truncate(time.Millisecond) // as it will be read
	next := &Table{
		store:      t.store,
		size:       c.State.Size,
		containers: t.containers,
		pages:      make([]*page, pageCount(c.State.Size)),
	}
	copy(next.pages, t.pages)
	next.recent = merge(t.recent, changes, func(chunk uint32, zero bool) bool {
		// Zeros are news only to a page that may say otherwise.
		return !zero || next.pages[chunk/PageChunks] != nil
	})
	if n := len(next.recent.origins); n > maxOrigins {
		return nil, fmt.Errorf("entries of %d origins, the limit is %d", n, maxOrigins)
	}
	u := &Update{Table: next}
	d := newDictionary(t.containers, Container{Name: c.Origin.Container, Key: c.Key})
	if next.recent.count() > maxRecent {
		if err := u.writePages(ctx, c, d); err != nil {
			return nil, err
		}
	}
	u.Root = &Root{
		Container: c.Origin.Container,
		Ref:       Ref{Epoch: c.Origin.Epoch, Gen: c.Gen},
		Parent:    c.Parent,
		State:     c.State,
		Snapshot:  c.Snapshot,
		recent:    next.recent,
	}
	for _, p := range next.pages {
		if p != nil {
			u.Root.pages = append(u.Root.pages, p.pageRef)
		}
	}
	object, err := u.Root.encode(d)
	if err != nil {
		return nil, err
	}
	next.containers = u.Root.Containers
	u.RootObject = Object{Location: u.Root.Location(), Body: object}
	return u, nil
}

// check refuses what cannot follow t, and returns the new entries.
func (c Change) check(t *Table) (*entries, error) {
	s := c.State.Size
	for _, known := range t.containers {
		if known.Name == c.Origin.Container && known.Key != c.Key {
			return nil, fmt.Errorf("key %d for container %s, whose key is %d", c.Key, known.Name, known.Key)
		}
	}
	switch {
	case !c.Origin.valid(c.Gen):
		return nil, fmt.Errorf("impossible origin %+v", c.Origin)
	case s < t.size || s > MaxSize || s%chunks.Sector != 0:
		return nil, fmt.Errorf("size %d after %d", s, t.size)
	case c.State.Mark > Formatted:
		return nil, fmt.Errorf("formatted mark %d", c.State.Mark)
	}
	if err := c.Parent.check(); err != nil {
		return nil, fmt.Errorf("parent: %w", err)
	}
	if c.Snapshot != "" {
		if _, err := ident.ParseSnapshot(string(c.Snapshot)); err != nil {
			return nil, err
		}
	}
	b := newBuilder(len(c.Entries), 0)
	for _, chunk := range slices.Sorted(maps.Keys(c.Entries)) {
		e := ChunkEntry{Chunk: chunk, Entry: c.Entries[chunk]}
		if chunk >= chunkCount(s) {
			return nil, fmt.Errorf("chunk %d in a volume of %d bytes", chunk, s)
		}
		if err := e.check(); err != nil {
			return nil, err
		}
		b.add(uint32(chunk), e.Entry)
	}
	return &b.entries, nil
}

// writePages moves recent entries into pages, those of the pages with the most
// of them first, until half of maxRecent or fewer are left.
func (u *Update) writePages(ctx context.Context, c Change, d *dictionary) error {
	t := u.Table
	byPage := t.recent.byPage()
	numbers := slices.SortedFunc(maps.Keys(byPage), func(a, b int) int {
		return cmp.Or(byPage[b].count()-byPage[a].count(), a-b)
	})
	left, end := t.recent.count(), 0
	for ; left > maxRecent/2; end++ {
		left -= byPage[numbers[end]].count()
	}
	numbers = numbers[:end]
	if err := t.loadPages(ctx, numbers); err != nil {
		return err
	}
	for _, number := range numbers {
		if err := u.writePage(ctx, c, d, number, byPage[number]); err != nil {
			return err
		}
		delete(byPage, number)
	}
	t.recent = merge(t.recent, &entries{}, func(chunk uint32, _ bool) bool {
		return byPage[int(chunk/PageChunks)] != nil
	})
	return nil
}

// loadPages fetches some pages, several at a time.
func (t *Table) loadPages(ctx context.Context, numbers []int) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelGets)
	for _, number := range numbers {
		if p := t.pages[number]; p != nil {
			g.Go(func() error {
				_, err := p.load(ctx, t.store, t.containers)
				return err
			})
		}
	}
	return g.Wait()
}

// writePage writes a new version of a page, whose present one has been loaded.
func (u *Update) writePage(ctx context.Context, c Change, d *dictionary, number int, changes *entries) error {
	t := u.Table
	old := &entries{}
	if p := t.pages[number]; p != nil {
		var err error
		if old, err = p.load(ctx, t.store, t.containers); err != nil {
			return err
		}
	}
	list := merge(old, changes, notZero)
	if list.count() == 0 {
		t.pages[number] = nil
		return nil
	}
	ref := pageRef{number: number, origin: c.Origin, gen: c.Gen}
	object, err := encodePage(&ref, list, d)
	if err != nil {
		return err
	}
	t.pages[number] = newPage(ref, list)
	u.Pages = append(u.Pages, Object{Location: ref.location(), Body: object})
	return nil
}
