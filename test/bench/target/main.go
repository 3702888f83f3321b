// Command target measures our iSCSI target against Debian's tgt, with the same
// initiator (qemu-img bench on libiscsi) and the same limits of a session: with RAM
// behind ours and a file in RAM behind tgt, and then with the block engine behind ours
// and a file on the same disk behind tgt.
//
//	go run ./test/bench/target [-quick] [-force] [-only ram|disk] [-dir d] [-o file]
//
// Rounds are interleaved: in each, every workload runs on ours and on both
// backing stores of tgt, in turn. The peer's figure is the better median of the
// two. It needs root for tgtd, and to install what is missing.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/target/login"
	"github.com/swiftblock/csi-swiftblock/test/bench/report"
	"github.com/swiftblock/csi-swiftblock/test/targets"
)

// effort is how much is measured.
type effort struct {
	rounds int
	run    time.Duration // that one run is to take
}

var (
	full  = effort{5, 500 * time.Millisecond}
	quick = effort{3, 150 * time.Millisecond}
)

func main() {
	fast := flag.Bool("quick", false, "fewer and shorter runs, for a first look; keeps no file unless -o is given")
	force := flag.Bool("force", false, "measure on a busy machine, too")
	only := flag.String("only", "", "half of it: ram or disk")
	dir := flag.String("dir", ".cache", "directory on the disk to measure")
	out := flag.String("o", "", "file for the result (default bench/results/target.json)")
	flag.Parse()
	e := full
	switch {
	case *fast:
		e = quick
	case *out == "":
		*out = "bench/results/target.json"
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, e, *force, *only, *dir, *out); err != nil {
		fmt.Fprintln(os.Stderr, "bench-target:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, e effort, force bool, only, dir, out string) error {
	result, err := report.Begin("bench-target", force)
	if err != nil {
		return err
	}
	err = targets.Install(ctx, []string{"qemu-img", "/usr/lib/*/qemu/block-iscsi.so", "tgtd", "tgtadm"}, []string{"qemu-utils", "qemu-block-extra", "tgt"})
	if err != nil {
		return err
	}
	bench := bench{effort: e}
	if bench.dir, err = os.MkdirTemp("/dev/shm", "bench-target-"); err != nil {
		return err
	}
	defer os.RemoveAll(bench.dir)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	if bench.disk, err = os.MkdirTemp(dir, "bench-target-"); err != nil {
		return err
	}
	defer os.RemoveAll(bench.disk)
	for _, part := range bench.parts(only) {
		rows, err := part(ctx)
		if err != nil {
			return err
		}
		result.Rows = append(result.Rows, rows...)
	}
	result.Notes = []string{
		fmt.Sprintf("Medians of %d interleaved rounds of %v; peer: the better of tgt's stores rdwr and aio. "+
			"The initiator runs on the same CPUs. Random: a stride that meets every block once. "+
			"With flushes only rdwr is a peer: aio acknowledges them and syncs nothing.", e.rounds, e.run),
	}
	return result.End(os.Stdout, out)
}

// parts are what is measured, in turn.
func (b *bench) parts(only string) (parts []func(context.Context) ([]report.Row, error)) {
	compare := func(with setting) func(context.Context) ([]report.Row, error) {
		return func(ctx context.Context) ([]report.Row, error) { return b.compare(ctx, with) }
	}
	if only != "disk" {
		parts = append(parts, compare(b.inRAM()), b.allocations, b.parallelism)
	}
	if only != "ram" {
		parts = append(parts, compare(b.onDisk()))
	}
	return parts
}

// limits of a session, the same for tgt as those that ours offers.
func limits() map[string]string {
	return map[string]string{
		"MaxRecvDataSegmentLength": strconv.Itoa(login.Offer.MaxRecv),
		"MaxXmitDataSegmentLength": strconv.Itoa(login.Offer.MaxSend),
		"MaxBurstLength":           strconv.Itoa(login.Offer.MaxBurst),
		"FirstBurstLength":         strconv.Itoa(login.Offer.FirstBurst),
		"MaxOutstandingR2T":        strconv.Itoa(login.Offer.MaxOutstandingR2T),
		"InitialR2T":               "No",
		"ImmediateData":            "Yes",
	}
}
