package delta_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/delta"
)

// deed is one write of a concurrent writer; times are those of a common clock.
type deed struct {
	block         int64
	value         byte // counts up in each block
	issued, acked int64
	acknowledged  bool
	mustSurvive   bool // flushed
	present       bool
}

// Concurrent writers and a crash in the midst: after the death of the process
// every acknowledged write is there; after a power loss every flushed one, and
// never a write without all that were acknowledged before it was issued (P2).
func TestConcurrentWritersCrash(t *testing.T) {
	const seeds = 300
	for seed := range uint64(seeds) {
		crashConcurrently(t, seed)
	}
}

func crashConcurrently(t *testing.T, seed uint64) {
	t.Helper()
	n := newNode(t, seed, func(cfg *delta.Config) { cfg.Prewrite, cfg.RunDir = 24<<10, "/run" })
	r := rand.New(rand.NewPCG(seed, 3))
	power := r.IntN(2) == 0
	n.fs.CrashAfter(5 + r.IntN(60))
	failing := r.IntN(3) == 0
	if failing {
		n.fs.FailSyncs(1)
	}
	var clock, flushed atomic.Int64
	deeds := make([][]*deed, 6)
	var wg sync.WaitGroup
	for w := range deeds {
		own := rand.New(rand.NewPCG(seed, uint64(10+w)))
		wg.Go(func() {
			for value := byte(1); value < 250; value++ {
				d := &deed{block: int64(w*8 + own.IntN(8)), value: value, issued: clock.Add(1)}
				deeds[w] = append(deeds[w], d)
				fua := own.IntN(6) == 0
				p := make([]byte, delta.Block)
				for i := range p {
					p[i] = value
				}
				if n.j.Write(context.Background(), d.block*delta.Block, p, fua) != nil {
					return
				}
				d.acknowledged, d.mustSurvive, d.acked = true, fua, clock.Add(1)
				if own.IntN(10) == 0 {
					before := clock.Add(1)
					if n.j.Sync(context.Background()) != nil {
						return
					}
					for old := flushed.Load(); old < before && !flushed.CompareAndSwap(old, before); old = flushed.Load() {
					}
				}
				if own.IntN(20) == 0 {
					if _, err := n.j.Seal(context.Background(), "", false); err != nil {
						return
					}
				}
			}
		})
	}
	wg.Wait()
	reopen := n.restart
	if power {
		reopen = n.reboot
	}
	err := reopen()
	if errors.Is(err, delta.ErrDamaged) && !power && failing { // until nobody remembers
		power = true
		err = n.reboot()
	}
	if err != nil {
		t.Fatalf("seed %d, power lost %v: %v", seed, power, err)
	}
	firstLost, lastPresent := int64(1)<<62, int64(0)
	for _, own := range deeds {
		for _, d := range own {
			d.present = n.first(d.block) >= int(d.value) // itself, or a later one over it
			if d.present {
				lastPresent = max(lastPresent, d.issued)
				continue
			}
			if d.acknowledged && (!power || d.mustSurvive || d.acked < flushed.Load()) {
				t.Fatalf("seed %d, power lost %v: write %+v is lost, flushed at %d", seed, power, *d, flushed.Load())
			}
			if d.acknowledged {
				firstLost = min(firstLost, d.acked)
			}
		}
	}
	if lastPresent > firstLost {
		t.Fatalf("seed %d: a write acknowledged at %d is lost, one issued at %d is there", seed, firstLost, lastPresent)
	}
	n.check(n.j.Close())
}

// Writers of neighbouring sectors do not undo each other, though they share a
// block: nobody reads it to write it back (B1). What none of them wrote stays a
// hole, for the version table to fill.
func TestNeighboursInABlock(t *testing.T) {
	ctx := context.Background()
	n := newNode(t, 1, func(cfg *delta.Config) { cfg.Quota *= 4 })
	const perBlock = delta.Block / delta.Sector
	sector := func(s int64) byte {
		p := make([]byte, delta.Sector)
		holes, err := n.j.Read(ctx, p, s*delta.Sector)
		if err != nil || len(holes) != 0 {
			t.Errorf("sector %d: holes %v, %v", s, holes, err)
		}
		return p[0]
	}
	var wg sync.WaitGroup
	for s := range int64(perBlock - 1) {
		wg.Go(func() {
			for value := byte(1); value <= 40; value++ {
				if err := n.j.Write(ctx, s*delta.Sector, bytes.Repeat([]byte{value}, delta.Sector), false); err != nil {
					t.Error(err)
				}
				if got := sector(s); got != value {
					t.Errorf("sector %d holds %d after write %d", s, got, value)
					return
				}
			}
		})
	}
	wg.Wait()
	n.check(n.restart())
	for s := range int64(perBlock - 1) {
		if got := sector(s); got != 40 {
			t.Errorf("sector %d holds %d after a restart", s, got)
		}
	}
	last := delta.Span{Off: delta.Block - delta.Sector, Len: delta.Sector}
	holes, err := n.j.Read(ctx, make([]byte, delta.Block), 0)
	if err != nil || !slices.Equal(holes, []delta.Span{last}) {
		t.Errorf("holes %v, %v, want %v", holes, err, last)
	}
}
