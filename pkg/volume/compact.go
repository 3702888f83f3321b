package volume

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
)

// Compaction. A pack stays in Swift as long as one chunk names it, so one of which
// little is still needed is mostly garbage. Now and then the table is searched for
// such packs; the chunks that name them have their patches merged in the following
// generations, as if they had become too many, and then nobody needs those packs.
// The writer deletes nothing: roots that are kept may need what the newest one
// does not, and only collection knows of them (R8).

const (
	// A pack is sparse when less than 2/5 of its data is needed.
	sparseNeeded, sparseOf = 2, 5

	maxPacks    = 1 << 16 // that one search counts; their names take 10 MiB
	maxExamined = 1 << 10 // footers that one search reads, of random packs
	maxFound    = 1 << 12 // chunks that one search finds
	maxCompact  = 32      // chunks of one generation: its other data waits for them
)

// sparse is a chunk that names a sparse pack.
type sparse struct {
	chunk uint64
	pack  snapshots.PackRef
}

// sparseList is what was found and not yet merged.
type sparseList struct {
	mu   sync.Mutex
	list []sparse // by chunk
}

func (s *sparseList) replace(list []sparse) {
	slices.SortFunc(list, func(a, b sparse) int { return int(a.chunk) - int(b.chunk) })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = list
}

func (s *sparseList) empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.list) == 0
}

// take removes the next n chunks.
func (s *sparseList) take(n int) []sparse {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = slices.CompactFunc(s.list, func(a, b sparse) bool { return a.chunk == b.chunk })
	n = min(n, len(s.list))
	list := s.list[:n]
	s.list = s.list[n:]
	return list
}

// watchSparse searches for sparse packs once in a while: for the first time after
// a random part of it, so that the volumes of a node do not do so together.
func (p *publisher) watchSparse(ctx context.Context) error {
	if p.config.compact < 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	due := time.NewTimer(rand.N(p.config.compact))
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-due.C:
		}
		due.Reset(p.config.compact)
		if _, snapshotOnly, _ := p.pace.get(); snapshotOnly {
			continue
		}
		// What one search cannot read the next one may.
		if found, err := p.searchSparse(ctx, p.head.Load()); err == nil {
			p.sparse.replace(found)
		}
	}
}

// searchSparse returns chunks of a version that name sparse packs of the volume's
// own container: what a clone shares with its source is not garbage there.
func (p *publisher) searchSparse(ctx context.Context, v *version) (found []sparse, err error) {
	if v.root == nil {
		return nil, nil
	}
	table := snapshots.OpenTable(p.objects.store, v.root) // of its own, so that its pages go with it
	packs := make(map[snapshots.PackRef]bool)
	err = p.compacting(ctx, func(ctx context.Context) error {
		for e, err := range table.Entries(ctx) {
			if err != nil {
				return err
			}
			for _, pack := range e.Patches {
				if len(packs) < maxPacks && pack.Origin.Container == p.config.Container {
					packs[pack] = true
				}
			}
		}
		return nil
	})
	examined := 0
	for pack := range packs { // in random order: all get their turn in the end
		if err != nil || examined == maxExamined || len(found) >= maxFound {
			break
		}
		examined++
		err = p.compacting(ctx, func(ctx context.Context) error {
			naming, err := p.examine(ctx, table, pack)
			found = append(found, naming...)
			return err
		})
	}
	return found, err
}

// compacting runs work when nothing else wants to be done.
func (p *publisher) compacting(ctx context.Context, work func(context.Context) error) error {
	return p.config.Traffic.inTurn(ctx, func() class { return compacting }, work)
}

// examine returns the chunks that name a pack if it is sparse. One that cannot be
// read is left alone.
func (p *publisher) examine(ctx context.Context, table *snapshots.Table, pack snapshots.PackRef) ([]sparse, error) {
	x, err := snapshots.ReadIndex(ctx, p.objects.store, pack.Location(), p.objects.keys)
	if err != nil {
		return nil, ctx.Err()
	}
	var naming []sparse
	var all, needed int64
	for _, chunk := range x.Chunks() {
		bytes := int64(0)
		for _, e := range x.Extents(chunk) {
			if !e.Zero {
				bytes += int64(e.Len)
			}
		}
		entry, err := table.Entry(ctx, chunk)
		if err != nil {
			return nil, err
		}
		all += bytes
		if slices.Contains(entry.Patches, pack) {
			needed += bytes
			naming = append(naming, sparse{chunk, pack})
		}
	}
	if needed*sparseOf >= all*sparseNeeded {
		return nil, nil
	}
	return naming, nil
}

// planCompaction decides what to do for a chunk that names a sparse pack: nothing
// if it no longer does, or if the layer has changed it, which the next search sees.
func (u *upload) planCompaction(ctx context.Context, s sparse) (w work, err error) {
	w.chunk = s.chunk
	err = u.try(ctx, func() (err error) {
		w.entry, err = u.base.table.Entry(ctx, s.chunk)
		return err
	})
	if err != nil || !slices.Contains(w.entry.Patches, s.pack) || len(u.layer.Extents(s.chunk)) > 0 {
		return w, err
	}
	w.kind = merge
	if err = u.addPatched(ctx, &w); w.bytes >= rewriteAt {
		w.kind = rewrite
	}
	return w, err
}
