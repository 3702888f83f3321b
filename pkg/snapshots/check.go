package snapshots

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// Fault is an object that is missing or is not what it must be.
type Fault struct {
	At  Location
	Err error // Is swift.ErrNotFound or chunks.ErrDamaged, or a *chunks.KeyError
}

// Checked is what [Check] has looked at.
type Checked struct {
	Pages, Chunks, Packs int
	Bytes                int64 // of the chunks and packs
	Faults               int
}

// Depth is how much [Check] reads.
type Depth int

const (
	Tables  Depth = iota // pages, by their hashes
	Footers              // besides, chunks and packs by their footers: one request for each
	Data                 // chunks and packs whole, every byte
)

// Check proves that everything root reaches is there and is what it must be, down
// to depth, and that packs hold something of each chunk that they are said to
// patch. Each fault is reported, one at a time; an error means that the check
// itself could not go on. It keeps the names of all packs in memory, and 8 bytes
// for each patch in the table. keys are those of root's dictionary.
func Check(ctx context.Context, store swift.Store, root *Root, keys chunks.Keys, depth Depth, report func(Fault)) (Checked, error) {
	c := &checker{store: store, keys: keys, data: depth == Data, report: report}
	c.done.Pages = len(root.pages)
	packs := make(map[PackRef][]uint64) // the chunks that each is to hold something of
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelGets)
	for page, err := range OpenTable(store, root).entries(ctx) {
		if err != nil {
			if err := c.fault(page.at, err); err != nil {
				return c.done, cmp.Or(g.Wait(), err)
			}
			continue
		}
		for e := range page.all {
			for _, p := range e.Patches {
				packs[p] = append(packs[p], e.Chunk)
			}
			if !e.Base.IsZero() {
				c.done.Chunks++
				if at := e.Base.Location(e.Chunk); depth > Tables {
					g.Go(func() error { return c.fault(at, c.object(ctx, at, nil)) })
				}
			}
		}
	}
	c.done.Packs = len(packs)
	if depth == Tables {
		clear(packs)
	}
	for p, patched := range packs {
		at := p.Location()
		g.Go(func() error { return c.fault(at, c.object(ctx, at, patched)) })
	}
	err := g.Wait()
	return c.done, err
}

// checker is a check under way.
type checker struct {
	store swift.Store
	keys  chunks.Keys
	data  bool

	mu     sync.Mutex // held while report is called; guards Bytes and Faults
	report func(Fault)
	done   Checked
}

// fault reports err, if it is a fault of the object at; any other it returns.
func (c *checker) fault(at Location, err error) error {
	if err == nil {
		return nil
	}
	_, key := errors.AsType[*chunks.KeyError](err)
	if !key && !errors.Is(err, swift.ErrNotFound) && !errors.Is(err, chunks.ErrDamaged) {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done.Faults++
	c.report(Fault{At: at, Err: err})
	return nil
}

// object checks a chunk or pack, which must hold something of each patched chunk.
func (c *checker) object(ctx context.Context, at Location, patched []uint64) error {
	get := readTail
	if c.data {
		get = readWhole
	}
	x, object, err := get(ctx, c.store, at, c.keys)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.done.Bytes += object.Size
	c.mu.Unlock()
	for _, chunk := range patched {
		if len(x.Frames(chunk, 0, chunks.Size)) == 0 {
			return damaged(at, fmt.Errorf("nothing of chunk %d", chunk))
		}
	}
	if !c.data {
		return nil
	}
	raw := make([]byte, chunks.FrameSize)
	for _, chunk := range x.Chunks() {
		for _, f := range x.Frames(chunk, 0, chunks.Size) {
			if err := x.Decode(f, object.Body[f.Pos:][:f.Stored], raw[:f.Len]); err != nil {
				return err
			}
		}
	}
	return nil
}
