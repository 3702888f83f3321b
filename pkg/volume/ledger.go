package volume

import (
	"context"
	"sync"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
)

// remembered is how many published generations a ledger can still tell of.
const remembered = 64

// ledger is what this process has published of the epoch.
type ledger struct {
	mu      sync.Mutex
	entries map[uint64]entry
	cuts    map[ident.Snapshot]uint64 // generations of entries that were cut for a snapshot
	newest  uint64
	changed chan struct{} // closed, and replaced, when something is added
}

func newLedger() *ledger {
	return &ledger{entries: map[uint64]entry{}, cuts: map[ident.Snapshot]uint64{}, changed: make(chan struct{})}
}

// entry is a published generation: its root, and why the snapshot that it was cut
// for is not there nevertheless.
type entry struct {
	root *snapshots.Root
	err  error
}

// add enters a generation; they come in order.
func (l *ledger) add(root *snapshots.Root, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	gen := root.Ref.Gen
	l.entries[gen] = entry{root, err}
	if root.Snapshot != "" {
		l.cuts[root.Snapshot] = gen
	}
	l.newest = gen
	if gen > remembered {
		delete(l.entries, gen-remembered)
		for s, cut := range l.cuts {
			if cut <= gen-remembered {
				delete(l.cuts, s)
			}
		}
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// cut returns the generation that was cut for s.
func (l *ledger) cut(s ident.Snapshot) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cuts[s]
}

// wait returns gen's root once it is published.
func (l *ledger) wait(ctx context.Context, gen uint64) (*snapshots.Root, error) {
	for {
		l.mu.Lock()
		e, ok := l.entries[gen]
		newest, changed := l.newest, l.changed
		l.mu.Unlock()
		switch {
		case ok:
			return e.root, e.err
		case gen <= newest:
			return nil, ErrForgotten
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
