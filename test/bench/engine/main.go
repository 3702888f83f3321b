// Command engine measures the block engine against what it must beat, and prints
// a Markdown table: what, ours, the peer, the ratio, the goal, ok or short.
//
//	go run ./test/bench/engine [-quick] [-force] [-only name] [-dir d] [-json file] [-profile file]
//
// Ours and the peer take turns within one run, on the same disk and the same
// store, at least five times; figures are medians of these rounds. Counted figures
// (requests, bytes) are exact and measured once. Nothing is stubbed: the peers are
// system calls, requests of the same client, and curl.
//
// The store is the embedded one, twice: as fast as it is, and with 15 ms before
// each answer; with ST_AUTH, ST_USER and ST_KEY set, a real Swift takes the place
// of the first. A machine that has other things to do is refused, unless -force
// is given; the table says what the load was.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"

	"github.com/swiftblock/csi-swiftblock/test/bench/report"
)

// figures are measured in this order.
var figures = []struct {
	name    string
	measure func(*bench) error
}{
	{"writes", flushedWrites},
	{"records", unflushedWrites},
	{"seals", seals},
	{"snapshots", emptySnapshots},
	{"clones", clones},
	{"restores", restores},
	{"uploads", uploads},
	{"reads", sequentialReads},
	{"tables", tableMemory},
	{"recovery", recovery},
}

func main() {
	o := options{}
	flag.BoolVar(&o.quick, "quick", false, "small sizes: shows that it works, the figures mean little")
	flag.BoolVar(&o.force, "force", false, "measure on a loaded machine, too")
	flag.StringVar(&o.only, "only", "", "measure only these, separated by commas")
	flag.StringVar(&o.dir, "dir", ".cache", "directory on the disk to measure")
	flag.StringVar(&o.json, "json", "", "file for the results as JSON (default: bench/results/engine.json, with -quick none)")
	flag.StringVar(&o.profile, "profile", "", "file for a CPU profile of the measurements")
	child := flag.Bool("child", false, "attach a volume that stdin describes, and say what memory it takes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	run := o.run
	if *child {
		run = attachChild
	}
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "engine:", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	quick, force bool
	only         string
	dir, json    string
	profile      string
}

func (o options) run(ctx context.Context) (err error) {
	result, err := report.Begin("engine", o.force)
	if err != nil {
		return err
	}
	b, err := newBench(ctx, o, result)
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
		if o.only != "" && !strings.Contains(","+o.only+",", ","+f.name+",") {
			continue
		}
		fmt.Fprintf(os.Stderr, "engine: %s (%.0f s)\n", f.name, time.Since(result.Began).Seconds())
		if err := f.measure(b); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	result.Notes = append(result.Notes, fmt.Sprintf("Commit %s; store: %s.", commit(ctx), b.main.name))
	if o.quick {
		result.Notes = append(result.Notes, "With -quick only counted figures mean anything.")
	}
	file := o.json
	if file == "" && !o.quick && o.only == "" {
		file = filepath.Join("bench", "results", "engine.json")
	}
	return result.End(os.Stdout, file)
}
