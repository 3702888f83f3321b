package snapshots

import (
	"context"
	"iter"

	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// Table maps the chunks of a volume to their entries as of one generation. It
// is immutable and safe for concurrent use; tables made from one another share
// their pages. A page is fetched when it is first needed, once however many
// wait, verified by its hash, and then kept.
type Table struct {
	store      swift.Store
	size       int64
	containers []Container // the dictionary, for pages and for the next root
	pages      []*page     // by number; nil: no entries
	recent     *entries    // go before those of the pages; may be zero entries
}

// BlankTable returns the table of a volume that was never written.
func BlankTable() *Table { return &Table{recent: &entries{}} }

// OpenTable returns the table of root. It fetches nothing.
func OpenTable(store swift.Store, root *Root) *Table {
	t := &Table{
		store:      store,
		size:       root.State.Size,
		containers: root.Containers,
		pages:      make([]*page, pageCount(root.State.Size)),
		recent:     root.recent,
	}
	for _, ref := range root.pages {
		t.pages[ref.number] = newPage(ref, nil)
	}
	return t
}

// Entry returns the entry of chunk; the zero entry beyond the volume's size.
// Errors are those of the store, or ErrDamaged of package chunks.
func (t *Table) Entry(ctx context.Context, chunk uint64) (Entry, error) {
	if chunk >= chunkCount(t.size) {
		return Entry{}, nil
	}
	if e, found := t.recent.find(uint32(chunk)); found {
		return e, nil
	}
	p := t.pages[chunk/PageChunks]
	if p == nil {
		return Entry{}, nil
	}
	list, err := p.load(ctx, t.store, t.containers)
	if err != nil {
		return Entry{}, err
	}
	e, _ := list.find(uint32(chunk % PageChunks))
	return e, nil
}

// Entries iterates over the entries that are not zero, by chunk. The first
// error ends it.
func (t *Table) Entries(ctx context.Context) iter.Seq2[ChunkEntry, error] {
	return func(yield func(ChunkEntry, error) bool) {
		for p, err := range t.entries(ctx) {
			if err != nil {
				yield(ChunkEntry{}, err)
				return
			}
			for e := range p.all {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

// pageEntries are the entries of the chunks of one page, recent ones included.
type pageEntries struct {
	at  Location // of the page; zero if there is none
	all iter.Seq[ChunkEntry]
}

// entries iterates over the pages, each of which may fail by itself.
func (t *Table) entries(ctx context.Context) iter.Seq2[pageEntries, error] {
	return func(yield func(pageEntries, error) bool) {
		byPage := t.recent.byPage()
		for number, p := range t.pages {
			var found pageEntries
			list, err := &entries{}, error(nil)
			if p != nil {
				found.at = p.location()
				list, err = p.load(ctx, t.store, t.containers)
			}
			if changes := byPage[number]; err == nil && changes != nil {
				list = merge(list, changes, notZero)
			}
			if err == nil {
				found.all = list.all(uint64(number) * PageChunks)
			}
			if !yield(found, err) {
				return
			}
		}
	}
}

// byPage returns s, whose chunks are counted from the volume's start, by the
// pages they belong to, counted from the pages' starts.
func (s *entries) byPage() map[int]*entries {
	pages := make(map[int]*entries)
	for start := 0; start < s.count(); {
		number := s.chunks[start] / PageChunks
		b := newBuilder(0, 0)
		c := b.copier(s)
		for ; start < s.count() && s.chunks[start]/PageChunks == number; start++ {
			c.add(s.chunks[start]%PageChunks, start)
		}
		pages[int(number)] = &b.entries
	}
	return pages
}
