package main

import (
	"fmt"
	"math/rand/v2"

	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/swifttest"
	"github.com/swiftblock/csi-swiftblock/test/bench/report"
	"github.com/swiftblock/csi-swiftblock/test/bench/rig"
)

// uploads counts all bytes that random, incompressible 4 KiB writes put into the
// store: packs, tables and roots.
func uploads(b *bench) error {
	const size = 100 * gib
	large := rig.Pick[int64](b.Bench, 16*tib, tib)
	total := rig.Pick(b.Bench, 10000, 1000)
	for _, c := range []struct {
		generations, writes int // writes of each generation
		populated           bool
		goal                float64
	}{
		{1, total, false, 1.05},
		{60, total / 60, false, 1.5},
		{10, total / 10, true, 3},
	} {
		what := fmt.Sprintf("uploaded ÷ dirty: %d random 4 KiB writes on 100 GiB in %d generations", c.generations*c.writes, c.generations)
		var head *snapshots.Root
		volume := int64(size)
		container, err := b.Main.Container(b.Ctx)
		if err != nil {
			return err
		}
		if c.populated {
			volume = large
			what = fmt.Sprintf("uploaded ÷ dirty: %d scattered 4 KiB writes in each of %d generations on populated %d GiB", c.writes, c.generations, large/gib)
			if head, err = rig.PopulatedNew(b.Ctx, b.Main, large, nil); err != nil {
				return err
			}
		}
		counter := swifttest.Count(b.Main)
		v, err := b.open(counter, container, head, volume, gib)
		if err != nil {
			return err
		}
		dirty, mapBytes, err := v.scatter(b, volume, c.generations, c.writes)
		if err != nil {
			v.end()
			return err
		}
		puts, bytes := counter.Total("put")
		if c.generations == 1 {
			b.Count(fmt.Sprintf("map for each dirty 4 KiB, %d random writes on 100 GiB, most alone in their 8 MiB", c.writes), "B",
				report.AtMost(8), float64(mapBytes)/float64(dirty/block))
		}
		b.Count(fmt.Sprintf("%s, %d PUTs", what, puts), "×", report.AtMost(c.goal), float64(bytes)/float64(dirty))
		if err := v.end(); err != nil {
			return err
		}
	}
	return nil
}

// scatter publishes generations of random writes and returns their dirty bytes,
// and the size of the journal's map at the end of the first.
func (v *opened) scatter(b *bench, size int64, generations, writes int) (dirty, mapBytes int64, err error) {
	r := rand.New(rand.NewPCG(11, 11))
	for g := range generations {
		written := map[int64]bool{}
		data := rig.Noise(uint64(g), writes*block)
		for ; len(data) > 0; data = data[block:] {
			off := r.Int64N(size/block) * block
			if err := v.WriteAt(b.Ctx, data[:block], off, false); err != nil {
				return 0, 0, err
			}
			written[off] = true
		}
		dirty += int64(len(written)) * block
		if g == 0 {
			mapBytes = v.journal.Stats().MapBytes
		}
		if _, err := v.publish(b.Ctx); err != nil {
			return 0, 0, err
		}
	}
	return dirty, mapBytes, nil
}
