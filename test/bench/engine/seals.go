package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/swiftblock/csi-swiftblock/test/bench/report"
	"github.com/swiftblock/csi-swiftblock/test/bench/rig"
)

const (
	queueDepth = 32
	backlog    = 50 * time.Millisecond // that a writer may have
)

// sample is one operation of the load: a write, or a flush.
type sample struct {
	start, end time.Duration // since the load's begin
	flush      bool
}

// load writes random blocks with queueDepth writers, of which each flushes after
// 32 writes, until it is stopped; with a period each writer begins a write in
// every period at most.
func (b *bench) load(v *opened, size int64, period time.Duration, begin time.Time, stop *atomic.Bool) ([]sample, error) {
	all := make([][]sample, queueDepth)
	p := rig.Noise(3, 1*mib) // a different block of it each time, so that nothing compresses
	err := rig.Workers(queueDepth, func(i int) error {
		r := rand.New(rand.NewPCG(uint64(begin.UnixNano()), uint64(i)))
		next := time.Now().Add(time.Duration(r.Int64N(int64(period) + 1)))
		for n := 1; !stop.Load(); n++ {
			if period > 0 {
				time.Sleep(time.Until(next))
				next = next.Add(period)
				// What a flush held up is made up for, a longer stop is not.
				if late := time.Since(next); late > backlog {
					next = next.Add(late - backlog)
				}
			}
			s := sample{start: time.Since(begin)}
			data := p[r.IntN(len(p)-block):][:block]
			err := v.WriteAt(b.Ctx, data, r.Int64N(size/block)*block, false)
			s.end = time.Since(begin)
			all[i] = append(all[i], s)
			if err == nil && n%32 == 0 {
				s = sample{start: s.end, flush: true}
				err = v.Flush(b.Ctx)
				s.end = time.Since(begin)
				all[i] = append(all[i], s)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	return slices.Concat(all...), err
}

// run runs the load for as long as during takes.
func (b *bench) underLoad(v *opened, size int64, period time.Duration, during func(begin time.Time) error) ([]sample, error) {
	var stop atomic.Bool
	type outcome struct {
		samples []sample
		err     error
	}
	begin, done := time.Now(), make(chan outcome, 1)
	go func() {
		samples, err := b.load(v, size, period, begin, &stop)
		done <- outcome{samples, err}
	}()
	err := during(begin)
	stop.Store(true)
	o := <-done
	return o.samples, errors.Join(err, o.err)
}

// act is what happens at the begin of a window.
type act int

const (
	nothing act = iota
	seal
	flush // the part of a seal that is the disk's
	acts
)

func (a act) on(ctx context.Context, v *opened) (err error) {
	switch a {
	case seal:
		_, err = v.Seal(ctx, "")
	case flush:
		err = v.Flush(ctx)
	}
	return err
}

// window is a part of a load's time.
type window struct {
	act      act
	from, to time.Duration
	acted    time.Duration // when the act was over
}

// seals measures what 100 seals do to a load of at least half of the maximum.
// Windows with a seal, with a flush and without take turns; what is sealed is
// uploaded meanwhile.
func seals(b *bench) error {
	const size = 10 * gib
	count, length := rig.Pick(b.Bench, 100, 10), rig.Pick(b.Bench, 150*time.Millisecond, 50*time.Millisecond)
	container, err := b.Main.Container(b.Ctx)
	if err != nil {
		return err
	}
	v, err := b.open(b.Main, container, nil, size, 8*gib)
	if err != nil {
		return err
	}
	defer v.end()

	// The maximum is that of writers which do not pause, with the same seals and
	// uploads; more than half of it is what the load then is.
	free, windows, err := b.sealing(v, size, 0, max(count/5, 5), length)
	if err != nil {
		return err
	}
	most := rate(free, windows)
	period := time.Duration(queueDepth / (0.85 * most) * float64(time.Second))
	samples, windows, err := b.sealing(v, size, period, count, length)
	if err != nil {
		return err
	}
	if n := v.journal.Active(); n <= uint64(count) {
		return fmt.Errorf("%d generations after %d seals", n, count)
	}
	share := rate(samples, windows) / most
	sealing, quiet := worst(windows, samples, seal), worst(windows, samples, nothing)
	gaps, flushing := gaps(windows, samples, seal), gaps(windows, samples, flush)
	if share < 0.5 {
		b.Note("The load on the seals stayed below half of the maximum: that figure does not count.")
	}
	b.Compare(fmt.Sprintf("worst latency in %d ms with a seal, at %.0f %% of %.0f IOPS", length.Milliseconds(), 100*share, most), "ms",
		sealing, "as long without a seal", quiet, report.RatioAtMost(1.2))
	b.Count(fmt.Sprintf("longest time without a finished write while Seal runs, median of %d", count), "ms", report.AtMost(10), gaps...)
	longest, disk := slices.Max(gaps), slices.Max(flushing)
	b.Count(fmt.Sprintf("by how much the worst of %d (%.1f ms) is above the worst while a flush runs in its place (%.1f ms)", count, longest, disk), "ms", report.AtMost(10), max(0, longest-disk))
	return nil
}

// sealing runs the load over count windows with each act at their begin, in turn.
func (b *bench) sealing(v *opened, size int64, period time.Duration, count int, length time.Duration) (samples []sample, windows []window, err error) {
	samples, err = b.underLoad(v, size, period, func(begin time.Time) error {
		time.Sleep(length)
		for i := range int(acts) * count {
			w := window{act: act(i % int(acts)), from: time.Since(begin)}
			if err := w.act.on(b.Ctx, v); err != nil {
				return err
			}
			w.acted = time.Since(begin)
			time.Sleep(length - (time.Since(begin) - w.from))
			w.to = time.Since(begin)
			windows = append(windows, w)
		}
		return nil
	})
	return samples, windows, err
}

// rate is how many operations began in a second of the windows.
func rate(samples []sample, windows []window) float64 {
	from, to := windows[0].from, windows[len(windows)-1].to
	n := 0
	for _, s := range samples {
		if s.start >= from && s.start < to {
			n++
		}
	}
	return float64(n) / (to - from).Seconds()
}

// worst returns the longest latency, in ms, of what began in each window with the
// given act.
func worst(windows []window, samples []sample, a act) (longest rig.Rounds) {
	slices.SortFunc(samples, func(a, b sample) int { return int(a.start - b.start) })
	for _, w := range windows {
		if w.act != a {
			continue
		}
		most := time.Duration(0)
		first, _ := slices.BinarySearchFunc(samples, w.from, func(s sample, t time.Duration) int { return int(s.start - t) })
		for _, s := range samples[first:] {
			if s.start >= w.to {
				break
			}
			most = max(most, s.end-s.start)
		}
		longest = append(longest, most.Seconds()*1e3)
	}
	return longest
}

// gaps returns the longest time, in ms, in which no write ended while each of the
// given acts was running.
func gaps(windows []window, samples []sample, a act) (longest rig.Rounds) {
	var ends []time.Duration
	for _, s := range samples {
		if !s.flush {
			ends = append(ends, s.end)
		}
	}
	slices.Sort(ends)
	for _, w := range windows {
		if w.act != a {
			continue
		}
		until := w.acted
		first, _ := slices.BinarySearch(ends, w.from)
		most, before := time.Duration(0), w.from
		for _, end := range ends[first:] {
			end = min(end, until)
			most, before = max(most, end-before), end
			if end == until {
				break
			}
		}
		longest = append(longest, most.Seconds()*1e3)
	}
	return longest
}
