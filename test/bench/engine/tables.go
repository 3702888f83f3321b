package main

import (
	"context"
	"math/rand/v2"

	"golang.org/x/sync/errgroup"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// populated stores the tables of a volume of which every chunk was written, in
// one of 10,000 generations, and returns its root. Of the data only the chunks
// that real lists are there, with the given content.
func populated(ctx context.Context, s *store, size int64, origin snapshots.Origin, content []byte, real ...uint64) (*snapshots.Root, error) {
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
					return put(ctx, s, snapshots.Object{Location: at, Body: body})
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
			g.Go(func() error { return put(ctx, s, page) })
		}
		table, root = u.Table, u.Root
		if start+step >= last {
			g.Go(func() error { return put(ctx, s, u.RootObject) })
		}
	}
	return root, g.Wait()
}

func put(ctx context.Context, s *store, o snapshots.Object) error {
	_, err := s.Put(ctx, o.Container, o.Name, o.Body, swift.PutOptions{})
	return err
}

// newOrigin makes a container and an origin in it.
func newOrigin(ctx context.Context, s *store) (snapshots.Origin, error) {
	container, err := s.container(ctx)
	return snapshots.Origin{Container: container, Epoch: ident.NewEpoch(1), Open: ident.NewOpen()}, err
}

// populatedNew is populated in a container of its own.
func populatedNew(ctx context.Context, s *store, size int64, content []byte, real ...uint64) (*snapshots.Root, error) {
	o, err := newOrigin(ctx, s)
	if err != nil {
		return nil, err
	}
	return populated(ctx, s, size, o, content, real...)
}
