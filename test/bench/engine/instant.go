package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/swifttest"
	"github.com/swiftblock/csi-swiftblock/test/bench/report"
	"github.com/swiftblock/csi-swiftblock/test/bench/rig"
)

// distant is the store on which requests take a realistic time.
func (b *bench) distant() *rig.Store {
	if b.Main.Name == "embedded" {
		return b.Slow
	}
	return b.Main
}

// emptySnapshots measures a snapshot of a populated volume that has not changed
// since, in times of a PUT, and whether a large volume costs more.
func emptySnapshots(b *bench) error {
	s, large := b.distant(), rig.Pick[int64](b.Bench, 16*tib, tib)
	var volumes [2]*opened
	for i, size := range []int64{large, gib} {
		root, err := rig.PopulatedNew(b.Ctx, s, size, nil)
		if err != nil {
			return err
		}
		if volumes[i], err = b.open(s, root.Container, root, size, 256*mib); err != nil {
			return err
		}
		defer volumes[i].end()
	}
	snapshot := func(v *opened) (float64, error) {
		return rig.Seconds(func() error {
			gen, err := v.Seal(b.Ctx, ident.NewSnapshot())
			if err != nil {
				return err
			}
			_, err = v.Published(b.Ctx, gen)
			return err
		})
	}
	container, err := s.Container(b.Ctx)
	if err != nil {
		return err
	}
	body, n := rig.Noise(4, 16*kib), 0
	puts, err := rig.Take(func() (float64, error) {
		n++
		return rig.Seconds(func() error {
			_, err := s.Put(b.Ctx, container, fmt.Sprint("put", n), body, swift.PutOptions{IfNoneMatch: true})
			return err
		})
	})
	if err != nil {
		return err
	}
	ours, small, err := rig.Turns(9, func() (float64, error) { return snapshot(volumes[0]) }, func() (float64, error) { return snapshot(volumes[1]) })
	if err != nil {
		return err
	}
	what := fmt.Sprintf("empty snapshot of a populated volume of %d GiB", large/gib)
	b.Compare(what+", "+s.Name, "ms", ours.Times(1e3), "one PUT", puts.Times(1e3), report.RatioAtMost(3))
	b.Compare(what, "ms", ours.Times(1e3), "of 1 GiB", small.Times(1e3), report.RatioAtMost(1.2))
	return nil
}

// clones counts the requests that a clone of a snapshot of 1 TiB makes until it
// is open, and the bytes of data among them.
func clones(b *bench) error {
	s := b.Main
	counter := swifttest.Count(s)
	records, err := authority.OpenFile(b.Path("authority"))
	if err != nil {
		return err
	}
	prefix := "bench-" + string(ident.NewVolume())[:8] + "-"
	c := catalog.New(catalog.Config{Authority: records, Store: counter, Prefix: prefix, Cluster: "bench"})
	const node, size = "node", tib
	confirm := func(v authority.Volume, journal string) (catalog.Opening, error) {
		s.Remove(prefix + string(v.ID))
		if _, err := c.Publish(b.Ctx, v.ID, node, catalog.Write); err != nil {
			return catalog.Opening{}, err
		}
		return c.Confirm(b.Ctx, catalog.Confirmation{Volume: v.ID, Node: node, Journal: journal})
	}

	source, err := c.CreateVolume(b.Ctx, catalog.VolumeSpec{Name: "source", Required: size})
	if err != nil {
		return err
	}
	o, err := confirm(source, "one")
	if err != nil {
		return err
	}
	root, err := rig.Populated(b.Ctx, s, size, snapshots.Origin{Container: o.Container, Epoch: o.Epoch, Open: ident.NewOpen()}, nil)
	if err != nil {
		return err
	}
	closed := &authority.Root{Container: root.Container, Epoch: root.Ref.Epoch, Generation: root.Ref.Gen, Hash: authority.Hash(root.Ref.Hash)}
	if err := c.Closed(b.Ctx, catalog.Report{Volume: source.ID, Node: node, Journal: "one", Root: closed}); err != nil {
		return err
	}
	if err := c.Unpublish(b.Ctx, source.ID, node); err != nil {
		return err
	}
	snapshot, err := c.CreateSnapshot(b.Ctx, "snapshot", source.ID)
	if err != nil {
		return err
	}

	counter.Reset()
	clone, err := c.CreateVolume(b.Ctx, catalog.VolumeSpec{Name: "clone", Source: &authority.Origin{Snapshot: snapshot.ID}})
	if err != nil {
		return err
	}
	o, err = confirm(clone, "two")
	if err != nil {
		return err
	}
	if o.Head == nil || o.Size != size {
		return fmt.Errorf("a clone of %d bytes, head %v", o.Size, o.Head)
	}
	data, names := 0., []string{}
	for _, call := range counter.Calls() {
		if call.Op != "put" {
			continue
		}
		names = append(names, call.Name[:strings.IndexAny(call.Name, "/.")])
		if strings.HasPrefix(call.Name, chunks.ChunkPrefix) || strings.HasPrefix(call.Name, chunks.PackPrefix) {
			data += float64(call.Bytes)
		}
	}
	b.Count(fmt.Sprintf("clone of 1 TiB with one ancestor, until it is open (%s)", strings.Join(names, ", ")), "PUTs", report.AtMost(4+1), float64(len(names)))
	b.Count("the same: data", "B", report.Goal{Zero: true}, data)
	return nil
}

// restores measures the time from a root's name to the first data of a volume
// that nobody has read yet, in times of the GET of one slot.
func restores(b *bench) error {
	s, large := b.distant(), rig.Pick[int64](b.Bench, 16*tib, tib)
	content := rig.Noise(5, chunks.Size)
	counter := swifttest.Count(s)
	var roots [2]*snapshots.Root
	var data snapshots.Location // of the chunk that is read of the large one
	for i, size := range []int64{gib, large} {
		o, err := rig.NewOrigin(b.Ctx, s)
		if err != nil {
			return err
		}
		if roots[1-i], err = rig.Populated(b.Ctx, s, size, o, content, middle(size)); err != nil {
			return err
		}
		data = snapshots.ChunkRef{Origin: o, Gen: 1}.Location(middle(size))
	}
	gets := 0
	first := func(root *snapshots.Root) (elapsed float64, err error) {
		size := root.State.Size
		j, err := b.journal(root, size, 256*mib) // is there before the volume is confirmed
		if err != nil {
			return 0, err
		}
		container, err := s.Container(b.Ctx)
		if err != nil {
			return 0, errors.Join(err, j.Destroy())
		}
		counter.Reset()
		p := make([]byte, block)
		start := time.Now()
		again, err := snapshots.LoadRoot(b.Ctx, counter, root.Container, root.Ref)
		if err != nil {
			return 0, errors.Join(err, j.Destroy())
		}
		v, err := b.attach(counter, container, again, j)
		if err != nil {
			return 0, errors.Join(err, j.Destroy())
		}
		err = v.ReadAt(b.Ctx, p, int64(middle(size))*chunks.Size)
		elapsed = time.Since(start).Seconds()
		if err == nil && !bytes.Equal(p, content[:block]) {
			err = errors.New("other data")
		}
		gets, _ = counter.Total("get")
		return elapsed, errors.Join(err, v.end())
	}
	one, err := rig.Take(func() (float64, error) {
		return rig.Seconds(func() error {
			_, err := s.Get(b.Ctx, data.Container, data.Name, swift.GetOptions{Len: chunks.SlotSize})
			return err
		})
	})
	if err != nil {
		return err
	}
	var largeGets int
	ours, small, err := rig.Turns(9, func() (float64, error) {
		t, err := first(roots[0])
		largeGets = gets
		return t, err
	}, func() (float64, error) { return first(roots[1]) })
	if err != nil {
		return err
	}
	what := fmt.Sprintf("first byte after a restore of %d GiB", large/gib)
	b.Compare(fmt.Sprintf("%s, %d GETs, %s", what, largeGets, s.Name), "ms", ours.Times(1e3), "one GET of 512 KiB", one.Times(1e3), report.RatioAtMost(6))
	b.Compare(what, "ms", ours.Times(1e3), fmt.Sprintf("of 1 GiB, %d GETs", gets), small.Times(1e3), report.RatioAtMost(1.2))
	return nil
}

// middle is the chunk in the middle of a volume.
func middle(size int64) uint64 { return uint64(size / chunks.Size / 2) }
