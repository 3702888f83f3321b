package main

import (
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/test/bench/report"
	"github.com/swiftblock/csi-swiftblock/test/bench/rig"
)

// sequentialReads reads a volume from its begin to its end, with nothing cached,
// against four parallel curls that fetch the same objects, a quarter each.
func sequentialReads(b *bench) error {
	size := rig.Pick[int64](b.Bench, gib, 128*mib)
	for _, s := range []*rig.Store{b.Main, b.Slow} {
		root, objects, err := b.fill(s, size)
		if err != nil {
			return err
		}
		curl, err := rig.NewCurl(b.Bench, s)
		if err != nil {
			return err
		}
		rate := func(seconds float64, err error) (float64, error) { return float64(size) / seconds / mib, err }
		container, err := s.Container(b.Ctx)
		if err != nil {
			return err
		}
		ours, peer, err := rig.Turns(5, func() (float64, error) {
			v, err := b.open(s, container, root, size, 256*mib)
			if err != nil {
				return 0, err
			}
			p := make([]byte, mib)
			t, err := rate(rig.Seconds(func() error {
				for off := int64(0); off < size; off += mib {
					if err := v.ReadAt(b.Ctx, p, off); err != nil {
						return err
					}
				}
				return nil
			}))
			return t, errors.Join(err, v.end())
		}, func() (float64, error) {
			return rate(rig.Seconds(func() error { return curl.Fetch(b.Bench, objects, "") }))
		})
		if err != nil {
			return err
		}
		b.Compare(fmt.Sprintf("cold sequential read of %d MiB, %s", size/mib, s.Name), "MiB/s", ours, "4 parallel curls", peer, report.RatioAtLeast(0.9))
	}
	return nil
}

// fill stores a volume of incompressible chunks.
func (b *bench) fill(s *rig.Store, size int64) (*snapshots.Root, []rig.Stored, error) {
	o, err := rig.NewOrigin(b.Ctx, s)
	if err != nil {
		return nil, nil, err
	}
	objects := make([]rig.Stored, size/chunks.Size)
	entries := make(map[uint64]snapshots.Entry)
	var g errgroup.Group
	g.SetLimit(4)
	for i := range objects {
		ref := snapshots.ChunkRef{Origin: o, Gen: 1}
		entries[uint64(i)] = snapshots.Entry{Base: ref}
		g.Go(func() error {
			at := ref.Location(uint64(i))
			body, err := chunks.EncodeChunk(at, rig.Noise(uint64(i)+100, chunks.Size), chunks.Options{})
			if err != nil {
				return err
			}
			objects[i] = rig.Stored{At: at, Size: len(body)}
			return rig.Put(b.Ctx, s, snapshots.Object{Location: at, Body: body})
		})
	}
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	u, err := snapshots.BlankTable().Update(b.Ctx, snapshots.Change{Origin: o, Gen: 1, State: snapshots.State{Size: size}, Entries: entries})
	if err != nil {
		return nil, nil, err
	}
	return u.Root, objects, rig.Put(b.Ctx, s, u.RootObject)
}
