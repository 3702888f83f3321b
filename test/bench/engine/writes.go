package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"

	"golang.org/x/sys/unix"

	"github.com/swiftblock/csi-swiftblock/test/bench/report"
	"github.com/swiftblock/csi-swiftblock/test/bench/rig"
)

// pair is a volume and the file of its peer, on the same disk.
type pair struct {
	*opened
	file *os.File
}

func (b *bench) pair(size, quota int64, file string) (*pair, error) {
	container, err := b.Main.Container(b.Ctx)
	if err != nil {
		return nil, err
	}
	v, err := b.open(b.Main, container, nil, size, quota)
	if err != nil {
		return nil, err
	}
	f, err := os.Create(b.Path(file))
	if err != nil {
		return nil, errors.Join(err, v.end())
	}
	return &pair{v, f}, nil
}

func (p *pair) end() error { return errors.Join(p.file.Close(), p.opened.end()) }

// flushedWrites measures batches of random 4 KiB writes that are each followed by
// a flush, against pwrite and fdatasync on a sparse file of the same size: with a
// log that is new, and with one of which every byte was in use before, as after the
// first gigabytes of a volume's life.
func flushedWrites(b *bench) error {
	const size = 100 * gib
	for _, log := range []struct {
		what  string
		quota int64
		used  bool
	}{
		{", new log", 4 * gib, false},
		{", log used before", rig.Pick[int64](b.Bench, gib, 256*mib), true},
	} {
		p, err := b.pair(size, log.quota, "sparse")
		if err != nil {
			return err
		}
		defer p.end()
		if err := p.file.Truncate(size); err != nil {
			return err
		}
		if log.used {
			if err := p.wear(b, log.quota); err != nil {
				return err
			}
		}
		for _, c := range []struct {
			batch, batches int // in a round
			goal           float64
		}{
			{32, rig.Pick(b.Bench, 100, 5), 3},
			{1, rig.Pick(b.Bench, 300, 10), 1.5},
		} {
			what := fmt.Sprintf("flushed 4 KiB random writes, batch %d%s", c.batch, log.what)
			if err := p.flushed(b, what, size, c.batch, c.batches, c.goal); err != nil {
				return err
			}
		}
	}
	return nil
}

// wear writes and publishes until the log has been through all of its quota.
func (p *pair) wear(b *bench, quota int64) error {
	data := rig.Noise(3, mib)
	for range 3 {
		for off := int64(0); off < quota*2/5; off += mib {
			if err := p.WriteAt(b.Ctx, data, off, false); err != nil {
				return err
			}
		}
		if _, err := p.publish(b.Ctx); err != nil {
			return err
		}
	}
	return nil
}

// flushed measures rounds of batches on either side.
func (p *pair) flushed(b *bench, what string, size int64, batch, batches int, goal float64) error {
	data := rig.Noise(1, block)
	r := rand.New(rand.NewPCG(1, uint64(batch))) // other places for each figure: the file is to be sparse
	rate := func(seconds float64, err error) (float64, error) {
		return float64(batch*batches) / seconds, err
	}
	ours, peer, err := rig.Turns(7, func() (float64, error) {
		return rate(rig.Seconds(func() error {
			for range batches {
				seeds := [2]uint64{r.Uint64(), r.Uint64()}
				err := rig.Workers(batch, func(i int) error {
					off := rand.New(rand.NewPCG(seeds[0], seeds[1]+uint64(i))).Int64N(size/block) * block
					return p.WriteAt(b.Ctx, data, off, false)
				})
				if err != nil {
					return err
				}
				if err := p.Flush(b.Ctx); err != nil {
					return err
				}
			}
			return nil
		}))
	}, func() (float64, error) {
		return rate(rig.Seconds(func() error {
			for range batches {
				for range batch {
					if _, err := p.file.WriteAt(data, r.Int64N(size/block)*block); err != nil {
						return err
					}
				}
				if err := unix.Fdatasync(int(p.file.Fd())); err != nil {
					return err
				}
			}
			return nil
		}))
	})
	if err != nil {
		return err
	}
	b.Compare(what, "IOPS", ours, "pwrite and fdatasync, sparse file", peer, report.RatioAtLeast(goal))
	return nil
}

// unflushedWrites measures 32 writers against plain write calls, by one process,
// of records as large as the journal makes them then, into a file that was
// written before: the bytes that go to the disk in a second.
func unflushedWrites(b *bench) error {
	const size, writers = 100 * gib, 32
	each := rig.Pick(b.Bench, 400, 20)
	v, err := b.pair(size, 4*gib, "plain")
	if err != nil {
		return err
	}
	defer v.end()
	f := v.file
	zeros := make([]byte, mib)
	const length = 256 * mib
	for off := int64(0); off < length; off += mib {
		if _, err := f.WriteAt(zeros, off); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	p, seed := rig.Noise(1, block), uint64(0)
	var record, at int64
	ours, peer, err := rig.Turns(7, func() (float64, error) {
		before := v.Stats().Journal
		seed++
		s, err := rig.Seconds(func() error {
			return rig.Workers(writers, func(i int) error {
				r := rand.New(rand.NewPCG(seed, uint64(i)))
				for range each {
					if err := v.WriteAt(b.Ctx, p, r.Int64N(size/block)*block, false); err != nil {
						return err
					}
				}
				return nil
			})
		})
		records := int64(v.Stats().Journal.Records - before.Records)
		logged := records*block + int64(writers*each)*block // a header of a block for each record
		record = max(logged/max(records, 1)/block, 2) * block
		return float64(logged) / s / mib, err
	}, func() (float64, error) {
		written := int64(0)
		buf := rig.Noise(2, int(record))
		s, err := rig.Seconds(func() error {
			for written < int64(writers*each)*block {
				if at+record > length {
					at = 0
				}
				if _, err := f.WriteAt(buf, at); err != nil {
					return err
				}
				at, written = at+record, written+record
			}
			return nil
		})
		return float64(written) / s / mib, err
	})
	if err != nil {
		return err
	}
	b.Compare("32 writers of unflushed 4 KiB, bytes of records", "MiB/s",
		ours, fmt.Sprintf("plain write calls of %d KiB, the mean record", record/kib), peer, report.RatioAtLeast(0.7))
	peer, err = rig.Take(func() (float64, error) {
		seed++
		s, err := rig.Seconds(func() error {
			return rig.Workers(writers, func(i int) error {
				r := rand.New(rand.NewPCG(seed, uint64(i)))
				for range each {
					if _, err := f.WriteAt(p, r.Int64N(length/block)*block); err != nil {
						return err
					}
				}
				return nil
			})
		})
		return float64(writers*each) / s, err
	})
	if err != nil {
		return err
	}
	perSecond := mib / float64(block) * float64(record-block) / float64(record) // writes in a MiB of records
	b.Compare("the same, writes", "IOPS", ours.Times(perSecond), "32 writers of plain 4 KiB", peer, report.RatioAtLeast(0.7))
	return nil
}
