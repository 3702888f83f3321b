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
		byPage := t.recent.byPage()
		for number, p := range t.pages {
			list, changes := &entries{}, byPage[number]
			if p != nil {
				var err error
				if list, err = p.load(ctx, t.store, t.containers); err != nil {
					yield(ChunkEntry{}, err)
					return
				}
			}
			if changes != nil {
				list = merge(list, changes, notZero)
			}
			for chunk, e := range list.all() {
				if !yield(ChunkEntry{Chunk: uint64(number)*PageChunks + uint64(chunk), Entry: e}, nil) {
					return
				}
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
		b := newBuilder(0)
		c := b.copier(s)
		for ; start < s.count() && s.chunks[start]/PageChunks == number; start++ {
			c.add(s.chunks[start]%PageChunks, start)
		}
		pages[int(number)] = &b.entries
	}
	return pages
}
