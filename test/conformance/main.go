// Command conformance runs every test of libiscsi's iscsi-test-cu against our
// target and against Debian's tgt, one process per test, and compares.
//
//	go run ./test/conformance [-race] [-o file]
//
// It needs root only to install libiscsi-bin and tgt where they are missing, and
// for tgtd. It fails if our target crashes or hangs, or fails or skips a test
// that tgt passes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/swiftblock/csi-swiftblock/test/targets"
)

// outcome of one test against one target.
type outcome string

const (
	pass  outcome = "pass"
	fail  outcome = "FAIL"
	skip  outcome = "skip"
	hang  outcome = "HANG"
	crash outcome = "CRASH"
)

// disputed tests are wrong themselves: failing them is right.
var disputed = map[string]string{
	"ALL.WriteSame10.UnmapUntilEnd": "asks to unmap with a data-out of FFh (it is cleared in the sibling tests) and expects zeros; " +
		"with LBPRZ set the blocks must read as the data-out (SBC-3), as qemu's disk has it, too",
	"ALL.GetLBAStatus.UnmapSingle": "asks for the status of block i+1 and expects a descriptor that begins at i+8; " +
		"it begins at the block asked for (SBC-3)",
	"ALL.iSCSITMF.LUNResetSimpleAsync": "asserts, before the response can have come, a flag that only the callback of the response sets",
}

func main() {
	race := flag.Bool("race", false, "build our target with the race detector")
	out := flag.String("o", "", "file for the whole table (default: in the temporary directory)")
	timeout := flag.Duration("timeout", 2*time.Minute, "limit per test, after which it hangs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *race, *out, *timeout); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, race bool, out string, timeout time.Duration) error {
	if err := targets.Install(ctx, []string{"iscsi-test-cu", "tgtd", "tgtadm"}, []string{"libiscsi-bin", "tgt"}); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "conformance-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if out == "" {
		out = filepath.Join(os.TempDir(), "conformance.txt")
	}
	tests, err := list(ctx)
	if err != nil {
		return err
	}
	ours, err := targets.Ours(ctx, dir, race)
	if err != nil {
		return err
	}
	peer, err := targets.Tgt(targets.TgtConfig{Name: "tgt", Dir: dir, Control: 4711})
	if err != nil {
		return err
	}
	results := make([]map[string]outcome, 2)
	for i, t := range []*targets.Server{ours, peer} {
		fmt.Printf("%s: %d tests of iscsi-test-cu\n", t.Name, len(tests))
		if results[i], err = runAll(ctx, t, tests, timeout); err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
	}
	return report(out, tests, results[0], results[1])
}

// list returns the names of all single tests.
func list(ctx context.Context) ([]string, error) {
	text, err := exec.CommandContext(ctx, "iscsi-test-cu", "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("iscsi-test-cu --list: %w", err)
	}
	var tests []string
	for name := range strings.FieldsSeq(string(text)) {
		if strings.HasPrefix(name, "ALL.") && strings.Count(name, ".") == 2 {
			tests = append(tests, name)
		}
	}
	if len(tests) == 0 {
		return nil, errors.New("iscsi-test-cu --list: no tests")
	}
	return tests, nil
}

// runAll runs the tests against a server, which is started again when it dies.
func runAll(ctx context.Context, s *targets.Server, tests []string, timeout time.Duration) (map[string]outcome, error) {
	results := map[string]outcome{}
	defer s.Stop()
	for _, name := range tests {
		if !s.Running() {
			if err := s.Start(ctx); err != nil {
				return nil, err
			}
		}
		o, err := runOne(ctx, s.URL, name, timeout)
		for try := 1; errors.Is(err, errDied) && try < tries && s.Running(); try++ {
			fmt.Fprintf(os.Stderr, "%s goes on; %v; again\n", s.Name, err)
			o, err = runOne(ctx, s.URL, name, timeout)
		}
		if err != nil && !errors.Is(err, errDied) {
			return nil, err
		}
		if !s.Running() {
			o = crash
			fmt.Fprintf(os.Stderr, "%s died in %s:\n%s\n", s.Name, name, s.Tail())
		}
		results[name] = o
	}
	if races := s.Races(); races > 0 {
		return nil, fmt.Errorf("%d data races:\n%s", races, s.Tail())
	}
	return results, nil
}

// errDied is the death of the test program by a signal, which says nothing about
// a target that lives on. AbortTaskSimpleAsync does so in about 7 of 100 runs:
// the write that it is about to abort can be answered before, the more often the busier the
// machine is. Each death is printed; a test that dies in every try has failed.
var errDied = errors.New("iscsi-test-cu died")

const tries = 20

// runOne runs one test in a process of its own.
func runOne(ctx context.Context, url, name string, timeout time.Duration) (outcome, error) {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(limited, "iscsi-test-cu", "--dataloss", "--test="+name, url)
	cmd.WaitDelay = time.Second
	text, err := cmd.CombinedOutput()
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case limited.Err() != nil:
		return hang, nil
	case cmd.ProcessState != nil && !cmd.ProcessState.Exited():
		return fail, fmt.Errorf("%w in %s: %v", errDied, name, cmd.ProcessState)
	case strings.Contains(string(text), "[SKIPPED]"):
		return skip, nil
	case err == nil && passed.Match(text):
		return pass, nil
	}
	return fail, nil
}

// passed is the summary of a run of one test that passed: total, ran, passed.
var passed = regexp.MustCompile(`(?m)^\s*tests\s+1\s+1\s+1\s`)

// report writes the whole table to a file, differences and totals to stdout, and
// says whether our target does what it should.
func report(out string, tests []string, ours, theirs map[string]outcome) error {
	file, err := os.Create(out)
	if err != nil {
		return err
	}
	defer file.Close()
	full := tabwriter.NewWriter(file, 0, 0, 2, ' ', 0)
	brief := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(io.MultiWriter(full, brief), "test\tours\ttgt\t")
	var bad []string
	for _, name := range tests {
		o, t := ours[name], theirs[name]
		note := ""
		switch reason, known := disputed[name]; {
		case o == crash || o == hang:
			bad = append(bad, name)
		case o != pass && known:
			note = "test is wrong: " + reason
		case o != pass && t == pass:
			bad = append(bad, name)
		}
		line := fmt.Sprintf("%s\t%s\t%s\t%s\n", name, o, t, note)
		fmt.Fprint(full, line)
		if o != t || note != "" {
			fmt.Fprint(brief, line)
		}
	}
	totals := fmt.Sprintf("ours: %s\ntgt:  %s\n", total(ours), total(theirs))
	if err := errors.Join(full.Flush(), brief.Flush()); err != nil {
		return err
	}
	fmt.Fprint(file, totals)
	fmt.Printf("%sall tests: %s\n", totals, out)
	if len(bad) > 0 {
		return fmt.Errorf("crashed, hung, or worse than tgt: %s", strings.Join(bad, ", "))
	}
	return nil
}

func total(results map[string]outcome) string {
	count := map[outcome]int{}
	for _, o := range results {
		count[o]++
	}
	return fmt.Sprintf("%d pass, %d fail, %d skip, %d hang, %d crash of %d",
		count[pass], count[fail], count[skip], count[hang], count[crash], len(results))
}
