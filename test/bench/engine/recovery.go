package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/test/bench/report"
	"github.com/swiftblock/csi-swiftblock/test/bench/rig"
)

// recovery dirties every second block of a volume, in random order, and measures
// the journal's map, and its recovery against reading as many bytes of the same
// files past the page cache.
func recovery(b *bench) (err error) {
	dirty := rig.Pick[int64](b.Bench, gib, 64*mib)
	config := delta.Config{Dir: b.Path("journal"), Quota: max(3*dirty, 512*mib), AllowAnyFS: b.Quick}
	id := delta.Identity{Volume: ident.NewVolume(), Epoch: ident.NewEpoch(1)}
	j, err := delta.Create(config, id, delta.State{Size: 2 * dirty})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, j.Destroy()) }()
	order := rand.New(rand.NewPCG(13, 13)).Perm(int(dirty / block))
	data := rig.Noise(13, mib)
	err = rig.Workers(queueDepth, func(i int) error {
		for n := i; n < len(order); n += queueDepth {
			p := data[n%(len(data)/block)*block:][:block]
			if err := j.Write(b.Ctx, 2*int64(order[n])*block, p, false); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	stats := j.Stats()
	blocks := stats.DirtyBytes / block
	if blocks != int64(len(order)) {
		return fmt.Errorf("%d dirty blocks instead of %d", blocks, len(order))
	}
	b.Count(fmt.Sprintf("map for each dirty 4 KiB, every second of %d MiB", 2*dirty/mib), "B", report.AtMost(8), float64(stats.MapBytes)/float64(blocks))

	files, err := filepath.Glob(filepath.Join(config.Dir, "segment.*")) // in the order of the log: no segment was used twice
	if err != nil {
		return err
	}
	ours, peer, err := rig.Turns(5, func() (float64, error) {
		if err := j.Close(); err != nil {
			return 0, err
		}
		return rig.Seconds(func() (err error) {
			opened, err := delta.Open(config, id)
			if err == nil {
				j = opened
			}
			return err
		})
	}, func() (float64, error) {
		return rig.Seconds(func() error { return readDirect(files, stats.LogBytes) })
	})
	if err != nil {
		return err
	}
	if again := j.Stats().DirtyBytes; again != stats.DirtyBytes {
		return fmt.Errorf("%d dirty bytes after recovery instead of %d", again, stats.DirtyBytes)
	}
	b.Compare(fmt.Sprintf("recovery of %d MiB dirty", dirty/mib), "s",
		ours, fmt.Sprintf("reading %d MiB of log with O_DIRECT", stats.LogBytes/mib), peer, report.RatioAtMost(1.5))
	return nil
}

// readDirect reads n bytes of files, one after the other, by 1 MiB.
func readDirect(files []string, n int64) error {
	p, err := unix.Mmap(-1, 0, mib, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE) // aligned
	if err != nil {
		return err
	}
	defer unix.Munmap(p)
	for _, name := range files {
		f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_DIRECT, 0)
		if err != nil {
			return err
		}
		for n > 0 {
			got, err := f.Read(p)
			if got == 0 {
				break
			}
			if err != nil {
				return errors.Join(err, f.Close())
			}
			n -= int64(got)
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	if n > 0 {
		return fmt.Errorf("the journal's files are %d bytes short", n)
	}
	return nil
}
