// Command mutants proves that the tests notice the defects they are there for: each
// file *.patch breaks one rule (R2 …) or promise (P6 …) of the design or what makes its
// recovery safe (REC), or makes one bug that others have made (B1 …), and the behavioural
// test that it names must fail with it and pass without it.
//
//	go run ./test/mutants [-parallel n] [-limit duration] [-within duration] [prefix of a name ...]
//
// It prints a table and exits with 1 if a mutant survived, or is stale: it no longer
// applies or compiles, or its test is gone. A test that panics or hangs with a mutant
// in it has not noticed anything. With -within no mutant is begun after that time;
// which ones come first changes from day to day.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

const patches = "test/mutants"

func main() {
	parallel := flag.Int("parallel", max(1, runtime.NumCPU()/2), "mutants at a time")
	limit := flag.Duration("limit", 6*time.Minute, "of one run of a test")
	within := flag.Duration("within", 0, "begin none after this time; 0: all")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	mutants, err := load(patches, flag.Args())
	if err == nil {
		if *within > 0 {
			mutants = rotate(mutants, time.Now())
		}
		err = prove(ctx, mutants, *parallel, *limit, *within)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

// rotate lets another tenth of the mutants come first each day.
func rotate(mutants []mutant, now time.Time) []mutant {
	day := int(now.Unix() / (24 * 60 * 60))
	first := day % 10 * len(mutants) / 10
	return slices.Concat(mutants[first:], mutants[:first])
}

// errStale says that a mutant does not fit the tree any more, whatever the tests are
// worth.
var errStale = errors.New("STALE")

// prove runs the mutants and prints a line for each.
func prove(ctx context.Context, mutants []mutant, parallel int, limit, within time.Duration) error {
	start := time.Now()
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	p := prover{tree: tree{dir, scratch, limit}, plain: map[string]func() error{}}

	fmt.Println("| mutant | breaks | test | verdict |\n|---|---|---|---|")
	var ran, survived, stale int
	var print sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, m := range mutants {
		g.Go(func() error {
			began := time.Now()
			if within > 0 && began.Sub(start) > within {
				return nil
			}
			err := p.kill(ctx, m)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			print.Lock()
			defer print.Unlock()
			ran++
			verdict := fmt.Sprintf("killed in %.0f s", time.Since(began).Seconds())
			if err != nil {
				verdict = err.Error()
				if errors.Is(err, errStale) {
					stale++
				} else {
					survived++
				}
			}
			fmt.Printf("| %s | %s | %s %s | %s |\n", m.name, m.breaks, m.pkg, m.test, verdict)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	fmt.Printf("mutants: %d of %d run, %d killed, %d survived, %d stale\n", ran, len(mutants), ran-survived-stale, survived, stale)
	if survived+stale > 0 {
		return errors.New("make a test notice what survives; mend or remove what is stale")
	}
	return nil
}

// prover judges mutants. What the tests do without any is found out once.
type prover struct {
	tree
	mu    sync.Mutex
	plain map[string]func() error
}

// once returns the function that does something once, however many call it.
func (p *prover) once(what string, do func() error) func() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.plain[what] == nil {
		p.plain[what] = sync.OnceValue(do)
	}
	return p.plain[what]
}

// kill returns nil if m is killed: its test passes without it and fails with it.
func (p *prover) kill(ctx context.Context, m mutant) error {
	plain := filepath.Join(p.scratch, strings.ReplaceAll(m.pkg, "/", "_"))
	if err := p.once(m.pkg, func() error { return p.compile(ctx, m.pkg, "", plain) })(); err != nil {
		return err
	}
	overlay, err := p.mutate(ctx, m)
	if err != nil {
		return fmt.Errorf("%w: %w", errStale, err)
	}
	mutated := filepath.Join(p.scratch, m.name, "test")
	if err := p.compile(ctx, m.pkg, overlay, mutated); err != nil {
		return fmt.Errorf("%w: %w", errStale, err)
	}
	defer os.Remove(mutated)
	how, out, err := p.run(ctx, m, mutated)
	if err != nil {
		return err
	}
	if how != failed {
		return fmt.Errorf("SURVIVED: the test %s%s", how, tail(how, out))
	}
	return p.once(m.pkg+" "+m.test+strings.Join(m.flags, " "), func() error {
		how, out, err := p.run(ctx, m, plain)
		if err == nil && how != passed {
			err = errors.New("BROKEN: without the mutant the test " + how.String() + tail(how, out))
		}
		return err
	})()
}

// tail returns the end of a test's output, if it tells something.
func tail(how outcome, out string) string {
	if how == passed {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return ":\n" + strings.Join(lines[max(0, len(lines)-20):], "\n")
}
