// Package rig is what the benchmarks stand on that measure csi-swiftblock against
// object stores and the disk: their command line, a directory and stores that are
// removed at the end, rounds in which ours and the peer take turns, and curl.
//
// The store is the embedded one, twice: as fast as it is, and with 15 ms before
// each answer; with ST_AUTH, ST_USER and ST_KEY set, a real Swift takes the place
// of the first. A machine that has other things to do is refused, unless -force
// is given; the table says what the load was.
package rig

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"

	"github.com/swiftblock/csi-swiftblock/test/bench/report"
)

const latency = 15 * time.Millisecond // of the slow store

// Figure is something to measure, by the name that -only knows.
type Figure struct {
	Name    string
	Measure func(*Bench) error
}

// Bench is one run of a benchmark.
type Bench struct {
	Ctx   context.Context
	Quick bool
	Main  *Store // a real Swift, or the embedded one
	Slow  *Store // the embedded one behind 15 ms

	name    string
	result  *report.Result
	dir     string // removed at the end
	closers []func() error
	serial  int // gives directories names
}

// options are the command line.
type options struct {
	quick, force bool
	only         string
	dir, json    string
	profile      string
	child        bool
}

// Main runs a benchmark as the command line says. child is what -child does, in a
// process of its own: the benchmark starts itself for what is to be measured alone.
func Main(name string, figures []Figure, child func(context.Context) error) {
	o := options{}
	flag.BoolVar(&o.quick, "quick", false, "small sizes: shows that it works, the figures mean little")
	flag.BoolVar(&o.force, "force", false, "measure on a loaded machine, too")
	flag.StringVar(&o.only, "only", "", "measure only these, separated by commas: "+names(figures))
	flag.StringVar(&o.dir, "dir", ".cache", "directory on the disk to measure")
	flag.StringVar(&o.json, "json", "", fmt.Sprintf("file for the results as JSON (default: bench/results/%s.json, with -quick or -only none)", name))
	flag.StringVar(&o.profile, "profile", "", "file for a CPU profile of the measurements")
	flag.BoolVar(&o.child, "child", false, "be the process that the benchmark measures")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	run := func(ctx context.Context) error { return o.run(ctx, name, figures) }
	if o.child {
		run = child
	}
	if err := run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

func names(figures []Figure) string {
	var list []string
	for _, f := range figures {
		list = append(list, f.Name)
	}
	return strings.Join(list, ", ")
}

func (o options) run(ctx context.Context, name string, figures []Figure) (err error) {
	for only := range strings.SplitSeq(o.only, ",") {
		if only != "" && !strings.Contains(", "+names(figures)+",", " "+only+",") {
			return fmt.Errorf("-only %s: there are %s", only, names(figures))
		}
	}
	result, err := report.Begin(name, o.force)
	if err != nil {
		return err
	}
	b, err := newBench(ctx, o, name, result)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	if o.profile != "" {
		f, err := os.Create(o.profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	for _, f := range figures {
		if o.only != "" && !strings.Contains(","+o.only+",", ","+f.Name+",") {
			continue
		}
		fmt.Fprintf(os.Stderr, "%s: %s (%.0f s)\n", name, f.Name, time.Since(result.Began).Seconds())
		if err := b.measure(f); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	b.Note("Commit %s; store: %s.", commit(ctx), b.Main.Name)
	if o.quick {
		b.Note("With -quick only counted figures mean anything.")
	}
	file := o.json
	if file == "" && !o.quick && o.only == "" {
		file = filepath.Join("bench", "results", name+".json")
	}
	return result.End(os.Stdout, file)
}

// patience is how long a measurement may take to end after it was interrupted.
const patience = time.Second

// measure runs a figure until it ends or, interrupted, does not end: one that works on
// the disk alone hears of no context, and what it has under way may take a minute. Its
// process is about to end.
func (b *Bench) measure(f Figure) error {
	measured := make(chan error, 1)
	go func() { measured <- f.Measure(b) }()
	select {
	case err := <-measured:
		return err
	case <-b.Ctx.Done():
	}
	select {
	case <-measured:
	case <-time.After(patience):
	}
	return context.Cause(b.Ctx)
}

func newBench(ctx context.Context, o options, name string, r *report.Result) (b *Bench, err error) {
	if err := os.MkdirAll(o.dir, 0o777); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(o.dir, "bench-"+name+"-")
	if err != nil {
		return nil, err
	}
	b = &Bench{
		Ctx: ctx, Quick: o.quick, name: name, dir: dir, result: r,
		closers: []func() error{func() error { return os.RemoveAll(dir) }},
	}
	if b.Main, err = b.realStore(); b.Main == nil && err == nil {
		b.Main, err = b.Embedded("embedded", 0, false)
	}
	if err == nil {
		b.Slow, err = b.Embedded("embedded with 15 ms latency", latency, false)
	}
	if err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

// close undoes everything, last things first.
func (b *Bench) close() (err error) {
	for len(b.closers) > 0 {
		last := len(b.closers) - 1
		err = errors.Join(err, b.closers[last]())
		b.closers = b.closers[:last]
	}
	return err
}

// Path names something new in the run's directory.
func (b *Bench) Path(what string) string {
	b.serial++
	return filepath.Join(b.dir, fmt.Sprintf("%03d-%s", b.serial, what))
}

// Pick is the full size, or the one of -quick.
func Pick[T any](b *Bench, full, quick T) T {
	if b.Quick {
		return quick
	}
	return full
}

// Scratch is a run with nothing but a directory, which the caller made and removes.
func Scratch(ctx context.Context, dir string) *Bench { return &Bench{Ctx: ctx, Quick: true, dir: dir} }

// Compare enters a figure whose sides took turns.
func (b *Bench) Compare(what, unit string, ours Rounds, peerName string, peer Rounds, g report.Goal) {
	b.result.Rows = append(b.result.Rows, report.Row{
		What: what, Unit: unit, Goal: g,
		Ours: report.Median(ours), Peer: report.Median(peer), PeerName: peerName,
		Runs: map[string][]float64{"ours": ours, peerName: peer},
	})
}

// Count enters a figure that has no peer, of one exact round or of several.
func (b *Bench) Count(what, unit string, g report.Goal, ours ...float64) {
	row := report.Row{What: what, Unit: unit, Goal: g, Ours: report.Median(ours)}
	if len(ours) > 1 {
		row.Runs = map[string][]float64{"ours": ours}
	}
	b.result.Rows = append(b.result.Rows, row)
}

// Note adds a line below the table.
func (b *Bench) Note(format string, args ...any) {
	b.result.Notes = append(b.result.Notes, fmt.Sprintf(format, args...))
}

// commit names the tree that is measured.
func commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
