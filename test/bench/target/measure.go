package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/swiftblock/csi-swiftblock/test/bench/report"
	"github.com/swiftblock/csi-swiftblock/test/targets"
)

const (
	kib = 1 << 10
	mib = 1 << 20
)

// busyReads is the workload whose cost per request has goals of its own.
var busyReads = workload{"4 KiB random read, QD 32", 4 * kib, 32, false, false, 0, 1.5}

// workloads with the goals of the project.
var workloads = []workload{
	{"4 KiB random read, QD 1", 4 * kib, 1, false, false, 0, 1.0},
	busyReads,
	{"4 KiB random write, QD 1", 4 * kib, 1, true, false, 0, 0.8},
	{"4 KiB random write, QD 32", 4 * kib, 32, true, false, 0, 0.9},
	{"64 KiB sequential read, QD 1", 64 * kib, 1, false, true, 0, 1.3},
	{"64 KiB sequential read, QD 32", 64 * kib, 32, false, true, 0, 1.3},
	{"64 KiB sequential write, QD 1", 64 * kib, 1, true, true, 0, 1.0},
	{"64 KiB sequential write, QD 32", 64 * kib, 32, true, true, 0, 1.0},
	{"1 MiB sequential read, QD 1", mib, 1, false, true, 0, 1.3},
	{"1 MiB sequential read, QD 32", mib, 32, false, true, 0, 1.3},
	{"1 MiB sequential write, QD 1", mib, 1, true, true, 0, 1.0},
	{"1 MiB sequential write, QD 32", mib, 32, true, true, 0, 1.0},
}

// flushed is measured on devices that have something to flush.
var flushed = workload{"4 KiB random write, QD 32, flush every 32", 4 * kib, 32, true, false, 32, 2.0}

// careless is the server that answers SYNCHRONIZE CACHE and syncs nothing: strace sees
// its io_submit and never an fdatasync. It is no peer for a workload that flushes.
const careless = "tgt aio"

// fill writes the whole device once.
var fill = workload{what: "fill", size: mib, depth: 4, write: true, seq: true}

// bench measures; its files are in dir, which is in RAM, and in disk.
type bench struct {
	effort
	dir, disk string
}

// setting is a pair of devices behind ours and behind tgt.
type setting struct {
	what      string   // before the name of a workload
	dir       string   // of the file behind tgt
	arguments []string // of ours
	workloads []workload
}

// inRAM has RAM behind ours, and a file in RAM behind tgt.
func (b *bench) inRAM() setting { return setting{dir: b.dir, workloads: workloads} }

// onDisk has the block engine behind ours, and a file behind tgt.
func (b *bench) onDisk() setting {
	return setting{
		what:      "engine, disk: ",
		dir:       b.disk,
		arguments: []string{"-engine", b.disk},
		workloads: append(slices.Clone(workloads), flushed),
	}
}

// start starts servers and fills their devices; stop ends them all.
func (b *bench) start(ctx context.Context, servers ...*targets.Server) (stop func(), err error) {
	stop = func() {
		for _, s := range servers {
			s.Stop()
		}
	}
	for _, s := range servers {
		if err = s.Start(ctx); err == nil {
			_, err = fill.do(ctx, s, targets.DeviceSize/fill.size)
		}
		if err != nil {
			stop()
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	return stop, nil
}

// compare measures all workloads of a setting on ours and on tgt, and the CPU time of
// busyReads.
func (b *bench) compare(ctx context.Context, with setting) ([]report.Row, error) {
	ours, err := targets.Ours(ctx, b.dir, false, with.arguments...)
	if err != nil {
		return nil, err
	}
	servers := []*targets.Server{ours}
	for i, store := range []string{"rdwr", "aio"} {
		tgt, err := targets.Tgt(targets.TgtConfig{
			Name: "tgt " + store, Dir: with.dir, Control: 4711 + i, Store: store, Limits: limits(),
		})
		if err != nil {
			return nil, err
		}
		servers = append(servers, tgt)
	}
	stop, err := b.start(ctx, servers...)
	if err != nil {
		return nil, err
	}
	defer stop()
	samples := make([]map[string][]sample, len(with.workloads)) // by workload, then server
	counts := make([]int, len(with.workloads))
	for i, w := range with.workloads {
		samples[i] = map[string][]sample{}
		if counts[i], err = w.calibrate(ctx, ours, b.run); err != nil {
			return nil, err
		}
	}
	for round := range b.rounds {
		for i, w := range with.workloads {
			for turn := range servers {
				// Whoever comes first differs from round to round.
				s := servers[(turn+round)%len(servers)]
				if w.flush > 0 && s.Name == careless {
					continue
				}
				got, err := w.do(ctx, s, counts[i])
				if err != nil {
					return nil, err
				}
				samples[i][s.Name] = append(samples[i][s.Name], got)
			}
		}
	}
	var rows []report.Row
	for i, w := range with.workloads {
		unit, scale := "IOPS", 1.0
		if w.seq {
			unit, scale = "MB/s", float64(w.size)/1e6
		}
		goal := report.Goal{Relative: true, AtLeast: w.goal}
		rows = append(rows, row(with.what+w.what, unit, goal, samples[i], func(s sample) float64 { return s.rate() * scale }))
	}
	cost := func(s sample) float64 { return float64(s.cpu.Microseconds()) / float64(s.requests) }
	busy := samples[slices.Index(with.workloads, busyReads)]
	return append(rows, row(with.what+"CPU of a "+busyReads.what, "µs", report.Goal{AtMost: 8}, busy, cost)), nil
}

// row makes a figure of the samples by server: the medians, that of the peer
// being the better one of its stores.
func row(what, unit string, goal report.Goal, samples map[string][]sample, figure func(sample) float64) report.Row {
	r := report.Row{What: what, Unit: unit, Goal: goal, Runs: map[string][]float64{}}
	for name, list := range samples {
		for _, s := range list {
			r.Runs[name] = append(r.Runs[name], figure(s))
		}
		m := report.Median(r.Runs[name])
		lower := goal.AtMost > 0
		switch {
		case name == "ours":
			r.Ours = m
		case r.PeerName == "", lower && m < r.Peer, !lower && m > r.Peer:
			r.Peer, r.PeerName = m, name
		}
	}
	return r
}

// allocations measures those of a 4 KiB read in a process of its own; the few of
// its start count as well.
func (b *bench) allocations(ctx context.Context) ([]report.Row, error) {
	const requests = 100_000
	ours, err := targets.Ours(ctx, b.dir, false, "-mallocs")
	if err != nil {
		return nil, err
	}
	stop, err := b.start(ctx, ours)
	if err != nil {
		return nil, err
	}
	_, err = busyReads.do(ctx, ours, requests)
	stop()
	if err != nil {
		return nil, err
	}
	var n float64
	if _, err := fmt.Sscanf(strings.TrimSpace(ours.Tail()), "mallocs %f", &n); err != nil {
		return nil, fmt.Errorf("allocations: %w: %q", err, ours.Tail())
	}
	return []report.Row{{
		What: "allocations of a " + busyReads.what, Ours: n / requests, Goal: report.Goal{AtMost: 5},
	}}, nil
}

// parallelism compares a full queue with one request at a time on a device of
// which each request takes 10 ms.
func (b *bench) parallelism(ctx context.Context) ([]report.Row, error) {
	ours, err := targets.Ours(ctx, b.dir, false, "-delay", (10 * time.Millisecond).String())
	if err != nil {
		return nil, err
	}
	stop, err := b.start(ctx, ours)
	if err != nil {
		return nil, err
	}
	defer stop()
	runs := map[string][]float64{}
	for range b.rounds {
		for name, w := range map[string]workload{"QD 1": workloads[0], "QD 32": busyReads} {
			got, err := w.do(ctx, ours, w.depth*int(b.run/(10*time.Millisecond)))
			if err != nil {
				return nil, err
			}
			runs[name] = append(runs[name], got.rate())
		}
	}
	return []report.Row{{
		What: "4 KiB random reads on a 10 ms device, QD 32 : QD 1", Unit: "×",
		Ours: report.Median(runs["QD 32"]) / report.Median(runs["QD 1"]),
		Goal: report.Goal{AtLeast: 25}, Runs: runs,
	}}, nil
}
