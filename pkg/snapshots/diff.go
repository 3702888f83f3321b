package snapshots

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// ErrUnrelated means that two roots have no object in common and never had.
var ErrUnrelated = errors.New("not of one lineage")

// Diff yields, ascending, the chunks that may read otherwise in to than in from;
// all others are the same. A nil root is that of a blank volume. It reads tables
// only: of the pages, those that the two do not share. A chunk that was written
// again with the bytes that it had counts as changed.
//
// Roots of volumes that neither stem from one another nor from a common one are
// [ErrUnrelated].
func Diff(ctx context.Context, store swift.Store, from, to *Root) iter.Seq2[uint64, error] {
	return func(yield func(uint64, error) bool) {
		if from != nil && to != nil && !related(from, to) {
			yield(0, fmt.Errorf("%s and %s: %w", from.Location(), to.Location(), ErrUnrelated))
			return
		}
		d := newDiff(store, from, to)
		if err := d.load(ctx); err != nil {
			yield(0, err)
			return
		}
		for number := range max(len(d.from.pages), len(d.to.pages)) {
			for _, chunk := range d.candidates(number) {
				changed, err := d.changed(ctx, number, chunk)
				if err != nil || changed {
					if !yield(uint64(number)*PageChunks+uint64(chunk), err) || err != nil {
						return
					}
				}
			}
		}
	}
}

// related reports whether two roots name a container in common: that of the one,
// or that which both were cloned from. Whoever names no object is related to all:
// it is a blank volume, grown.
func related(a, b *Root) bool {
	if len(a.Containers) == 0 || len(b.Containers) == 0 {
		return true
	}
	names := map[string]bool{a.Container: true}
	for _, c := range a.Containers {
		names[c.Name] = true
	}
	return names[b.Container] || slices.ContainsFunc(b.Containers, func(c Container) bool { return names[c.Name] })
}

// side is one of the two tables that are compared.
type side struct {
	*Table
	byPage map[int]*entries // recent ones, their chunks counted from the page's start
}

// diff compares two tables. Pages that they share are one *page in both.
type diff struct{ from, to side }

func newDiff(store swift.Store, from, to *Root) *diff {
	open := func(r *Root) side {
		t := BlankTable()
		if r != nil {
			t = OpenTable(store, r)
		}
		return side{t, t.recent.byPage()}
	}
	d := &diff{open(from), open(to)}
	for number := range min(len(d.from.pages), len(d.to.pages)) {
		a, b := d.from.pages[number], d.to.pages[number]
		if a != nil && b != nil && a.pageRef == b.pageRef {
			d.to.pages[number] = a
		}
	}
	return d
}

// load fetches the pages that differ.
func (d *diff) load(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, t := range []*Table{d.from.Table, d.to.Table} {
		var numbers []int
		for number := range t.pages {
			if d.from.page(number) != d.to.page(number) {
				numbers = append(numbers, number)
			}
		}
		g.Go(func() error { return t.loadPages(ctx, numbers) })
	}
	return g.Wait()
}

func (s side) page(number int) *page {
	if number >= len(s.pages) {
		return nil
	}
	return s.pages[number]
}

// candidates returns the chunks of a page, counted from its start, of which the
// sides may say something different: of a page that they share, those with
// recent entries.
func (d *diff) candidates(number int) []uint32 {
	var list []uint32
	for _, s := range []side{d.from, d.to} {
		if recent := s.byPage[number]; recent != nil {
			list = append(list, recent.chunks...)
		}
		if p := s.page(number); p != nil && d.from.page(number) != d.to.page(number) {
			list = append(list, p.list.Load().chunks...)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// changed compares the entries of one candidate.
func (d *diff) changed(ctx context.Context, number int, chunk uint32) (bool, error) {
	a, err := d.from.entry(ctx, number, chunk)
	if err != nil {
		return false, err
	}
	b, err := d.to.entry(ctx, number, chunk)
	return a.Base != b.Base || !slices.Equal(a.Patches, b.Patches), err
}

// entry is [Table.Entry] of a chunk that is counted from its page's start.
func (s side) entry(ctx context.Context, number int, chunk uint32) (Entry, error) {
	if recent := s.byPage[number]; recent != nil {
		if e, found := recent.find(chunk); found {
			return e, nil
		}
	}
	p := s.page(number)
	if p == nil {
		return Entry{}, nil
	}
	list, err := p.load(ctx, s.store, s.containers)
	if err != nil {
		return Entry{}, err
	}
	e, _ := list.find(chunk)
	return e, nil
}
