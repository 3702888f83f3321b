package rig

import (
	"context"
	"math/rand/v2"

	"golang.org/x/sync/errgroup"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// Populated stores the tables of a volume of which every chunk was written, in
// one of 10,000 generations, and returns its root. Of the data only the chunks
// that real lists are there, with the given content.
func Populated(ctx context.Context, s *Store, size int64, origin snapshots.Origin, content []byte, real ...uint64) (*snapshots.Root, error) {
	r := rand.New(rand.NewPCG(7, 7))
	there := map[uint64]bool{}
	for _, chunk := range real {
		there[chunk] = true
	}
	last := uint64(size / chunks.Size)
	table := snapshots.BlankTable()
	var root *snapshots.Root
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	const step = 8 * snapshots.PageChunks
	for start := uint64(0); start < last; start += step {
		entries := make(map[uint64]snapshots.Entry, step)
		for chunk := start; chunk < min(start+step, last); chunk++ {
			base := snapshots.ChunkRef{Origin: origin, Gen: 2 + r.Uint64N(10000)}
			if there[chunk] {
				base.Gen = 1
				g.Go(func() error {
					at := base.Location(chunk)
					body, err := chunks.EncodeChunk(at, content, chunks.Options{})
					if err != nil {
						return err
					}
					return Put(ctx, s, snapshots.Object{Location: at, Body: body})
				})
			}
			entries[chunk] = snapshots.Entry{Base: base}
		}
		u, err := table.Update(ctx, snapshots.Change{
			Origin: origin, Gen: 20000 + start/step,
			State: snapshots.State{Size: size, Clean: true}, Entries: entries,
		})
		if err != nil {
			return nil, err
		}
		for _, page := range u.Pages {
			g.Go(func() error { return Put(ctx, s, page) })
		}
		table, root = u.Table, u.Root
		if start+step >= last {
			g.Go(func() error { return Put(ctx, s, u.RootObject) })
		}
	}
	return root, g.Wait()
}

// Put stores an object.
func Put(ctx context.Context, s *Store, o snapshots.Object) error {
	_, err := s.Put(ctx, o.Container, o.Name, o.Body, swift.PutOptions{})
	return err
}

// NewOrigin makes a container and an origin in it.
func NewOrigin(ctx context.Context, s *Store) (snapshots.Origin, error) {
	container, err := s.Container(ctx)
	return snapshots.Origin{Container: container, Epoch: ident.NewEpoch(1), Open: ident.NewOpen()}, err
}

// PopulatedNew is Populated in a container of its own.
func PopulatedNew(ctx context.Context, s *Store, size int64, content []byte, real ...uint64) (*snapshots.Root, error) {
	o, err := NewOrigin(ctx, s)
	if err != nil {
		return nil, err
	}
	return Populated(ctx, s, size, o, content, real...)
}
