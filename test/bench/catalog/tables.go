package main

import (
	"fmt"
	"math/rand/v2"

	"golang.org/x/sync/errgroup"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/test/bench/report"
	"github.com/swiftblock/csi-swiftblock/test/bench/rig"
)

// rewrite publishes a generation in which each of the given chunks was written.
func rewrite(b *rig.Bench, s *rig.Store, table *snapshots.Table, size int64, o snapshots.Origin, gen uint64, written []uint64) (*snapshots.Update, error) {
	entries := make(map[uint64]snapshots.Entry, len(written))
	for _, chunk := range written {
		entries[chunk] = snapshots.Entry{Base: snapshots.ChunkRef{Origin: o, Gen: gen}}
	}
	u, err := table.Update(b.Ctx, snapshots.Change{
		Origin: o, Gen: gen, State: snapshots.State{Size: size, Clean: true}, Entries: entries,
	})
	if err != nil {
		return nil, err
	}
	for _, page := range u.Pages {
		if err := rig.Put(b.Ctx, s, page); err != nil {
			return nil, err
		}
	}
	return u, rig.Put(b.Ctx, s, u.RootObject)
}

// populated makes a volume of which every chunk was written, in one of 10,000
// generations.
func (s *site) populated(name string, size int64) (v authority.Volume, root *snapshots.Root, err error) {
	if v, err = s.volume(name, size); err != nil {
		return v, nil, err
	}
	err = s.epoch(v.ID, func(o snapshots.Origin) (*snapshots.Root, error) {
		root, err = rig.Populated(s.Ctx, s.store, size, o, nil)
		return root, err
	})
	return v, root, err
}

// diff measures `snapshot diff` between two snapshots of a volume of which between
// them one chunk in ten was written, so that no page is the same.
func diff(b *rig.Bench) error {
	size := rig.Pick[int64](b, tib, 128*gib)
	s, err := newSite(b, b.Main)
	if err != nil {
		return err
	}
	v, root, err := s.populated("volume", size)
	if err != nil {
		return err
	}
	if _, err := s.CreateSnapshot(b.Ctx, "monday", v.ID); err != nil {
		return err
	}
	var written []uint64
	r := rand.New(rand.NewPCG(17, 17))
	for first := uint64(0); first < uint64(size/chunks.Size)-10; first += 10 {
		written = append(written, first+r.Uint64N(10))
	}
	pages := 0
	err = s.epoch(v.ID, func(o snapshots.Origin) (*snapshots.Root, error) {
		u, err := rewrite(b, b.Main, snapshots.OpenTable(b.Main, root), size, o, 30000, written)
		if err != nil {
			return nil, err
		}
		pages = len(u.Pages)
		return u.Root, nil
	})
	if err != nil {
		return err
	}
	if _, err := s.CreateSnapshot(b.Ctx, "tuesday", v.ID); err != nil {
		return err
	}
	ours, err := rig.Take(func() (float64, error) {
		var d struct{ Changed int64 }
		t, err := s.json(&d, "snapshot", "diff", "monday", "tuesday")
		if err == nil && d.Changed != int64(len(written))*chunks.Size {
			err = fmt.Errorf("%d bytes changed instead of those of %d chunks", d.Changed, len(written))
		}
		return t.Seconds, err
	})
	if err != nil {
		return err
	}
	b.Count(fmt.Sprintf("`snapshot diff` of %d GiB, %d chunks and %d pages of which changed, %s", size/gib, len(written), pages, b.Main.Name),
		"s", report.AtMost(1), ours...)
	return nil
}

// check measures `check --tables` of a populated volume.
func check(b *rig.Bench) error {
	size := rig.Pick[int64](b, tib, 128*gib)
	s, err := newSite(b, b.Main)
	if err != nil {
		return err
	}
	if _, _, err := s.populated("volume", size); err != nil {
		return err
	}
	pages := 0
	ours, err := rig.Take(func() (float64, error) {
		var reports []struct {
			Pages, Chunks int
			Faults        []any
		}
		t, err := s.json(&reports, "check", "--tables", "volume")
		if err == nil && (len(reports) != 1 || int64(reports[0].Chunks) != size/chunks.Size || len(reports[0].Faults) > 0) {
			err = fmt.Errorf("found %+v", reports)
		}
		if err == nil {
			pages = reports[0].Pages
		}
		return t.Seconds, err
	})
	if err != nil {
		return err
	}
	b.Count(fmt.Sprintf("`check --tables` of %d GiB, %d pages, %s", size/gib, pages, b.Main.Name), "s", report.AtMost(5), ours...)
	return nil
}

// collection measures the memory of `gc` on a volume of many chunks, of which one
// in a hundred is superseded each time.
func collection(b *rig.Bench) error {
	objects := rig.Pick[uint64](b, 100_000, 5000)
	live := objects / 100 * 99
	garbage := objects - live
	store, err := b.Embedded("embedded", 0, false) // what is measured is our memory
	if err != nil {
		return err
	}
	s, err := newSite(b, store)
	if err != nil {
		return err
	}
	size := int64(live) * chunks.Size
	v, err := s.volume("volume", size)
	if err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(19, 19))
	table, gen := snapshots.BlankTable(), uint64(0)
	// write publishes a generation of n chunks. Nobody reads them: collection goes by
	// names.
	write := func(n uint64) error {
		gen++
		var written []uint64
		for _, chunk := range r.Perm(int(live))[:n] {
			written = append(written, uint64(chunk))
		}
		return s.epoch(v.ID, func(o snapshots.Origin) (*snapshots.Root, error) {
			g, ctx := errgroup.WithContext(b.Ctx)
			g.SetLimit(16)
			for _, chunk := range written {
				g.Go(func() error {
					at := snapshots.ChunkRef{Origin: o, Gen: gen}.Location(chunk)
					return rig.Put(ctx, store, snapshots.Object{Location: at, Body: []byte("chunk")})
				})
			}
			if err := g.Wait(); err != nil {
				return nil, err
			}
			u, err := rewrite(b, store, table, size, o, gen, written)
			if err != nil {
				return nil, err
			}
			table = u.Table
			return u.Root, nil
		})
	}
	if err := write(live); err != nil {
		return err
	}
	ours, _, err := rig.Turns(5, func() (float64, error) {
		if err := write(garbage); err != nil {
			return 0, err
		}
		var c struct{ Collected uint64 }
		t, err := s.json(&c, "gc", "--grace", "0s")
		if err == nil && c.Collected <= garbage { // the chunks, and at least a root
			err = fmt.Errorf("collected %d objects of more than %d", c.Collected, garbage)
		}
		return float64(t.Memory) / mib, err
	}, func() (float64, error) { return 0, s.chunks(v.Container, live) })
	if err != nil {
		return err
	}
	b.Count(fmt.Sprintf("`gc` of %d objects, %d of them garbage, memory", objects, garbage), "MiB", report.AtMost(256), ours...)
	return nil
}

// chunks holds a container to a number of chunks.
func (s *site) chunks(container string, want uint64) error {
	have := uint64(0)
	for marker := chunks.ChunkPrefix; ; {
		rows, err := s.store.List(s.Ctx, container, chunks.ChunkPrefix, marker, 10000)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			break
		}
		have += uint64(len(rows))
		marker = rows[len(rows)-1].Name
	}
	if have != want {
		return fmt.Errorf("%d chunks are left of %d that are needed", have, want)
	}
	return nil
}
