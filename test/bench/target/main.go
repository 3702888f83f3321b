// Command target measures our iSCSI target, with RAM behind it, against Debian's
// tgt on a file in RAM, with the same initiator (qemu-img bench on libiscsi) and
// the same limits of a session.
//
//	go run ./test/bench/target [-quick] [-force] [-o file]
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
	if err := run(ctx, e, *force, *out); err != nil {
		fmt.Fprintln(os.Stderr, "bench-target:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, e effort, force bool, out string) error {
	result, err := report.Begin("bench-target", force)
	if err != nil {
		return err
	}
	err = targets.Install(ctx, []string{"qemu-img", "tgtd", "tgtadm"}, []string{"qemu-utils", "qemu-block-extra", "tgt"})
	if err != nil {
		return err
	}
	bench := bench{effort: e}
	if bench.dir, err = os.MkdirTemp("/dev/shm", "bench-target-"); err != nil {
		return err
	}
	defer os.RemoveAll(bench.dir)
	for _, measure := range []func(context.Context) ([]report.Row, error){bench.compare, bench.allocations, bench.parallelism} {
		rows, err := measure(ctx)
		if err != nil {
			return err
		}
		result.Rows = append(result.Rows, rows...)
	}
	result.Notes = []string{
		fmt.Sprintf("Medians of %d interleaved rounds of %v; peer: the better of tgt's stores rdwr and aio. "+
			"The initiator runs on the same CPUs. Random: a stride that meets every block once.", e.rounds, e.run),
	}
	return result.End(os.Stdout, out)
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
