package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// tree is the source, which stays as it is: what a mutant changes is laid over it when
// its package is compiled.
type tree struct {
	dir     string // top of the source
	scratch string
	limit   time.Duration // of one run of a test
}

// outcome is how a run of a test ended.
type outcome int

const (
	passed outcome = iota
	failed         // by its own judgement
	hung
	crashed // a panic
)

func (o outcome) String() string {
	return [...]string{"passed", "failed", "hung", "crashed"}[o]
}

// mutate lays the mutant over the tree and returns the overlay's file.
func (t tree) mutate(ctx context.Context, m mutant) (string, error) {
	dir := filepath.Join(t.scratch, m.name)
	replace := map[string]string{}
	for _, file := range m.touched {
		source, copied := filepath.Join(t.dir, file), filepath.Join(dir, file)
		text, err := os.ReadFile(source)
		if err != nil {
			return "", err
		}
		if err := os.MkdirAll(filepath.Dir(copied), 0o700); err != nil {
			return "", err
		}
		if err := os.WriteFile(copied, text, 0o600); err != nil {
			return "", err
		}
		replace[source] = copied
	}
	apply := exec.CommandContext(ctx, "git", "apply", "--whitespace=nowarn", "-")
	apply.Dir = dir
	apply.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+t.scratch) // not a part of any repository
	apply.Stdin = bytes.NewReader(m.patch)
	if out, err := apply.CombinedOutput(); err != nil {
		return "", fmt.Errorf("the patch does not apply: %s", bytes.TrimSpace(out))
	}
	overlay, err := json.Marshal(struct{ Replace map[string]string }{replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, overlay, 0o600)
}

// compile makes the test binary of a package, with an overlay or "".
func (t tree) compile(ctx context.Context, pkg, overlay, binary string) error {
	build := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-overlay="+overlay, "-o", binary, pkg)
	build.Dir = t.dir
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%s does not compile: %s", pkg, bytes.TrimSpace(out))
	}
	return nil
}

// run runs the mutant's test in a binary of its package.
func (t tree) run(ctx context.Context, m mutant, binary string) (outcome, string, error) {
	args := append([]string{"-test.v", "-test.run=^" + m.test + "$", "-test.timeout=" + t.limit.String()}, m.flags...)
	test := exec.CommandContext(ctx, binary, args...)
	test.Dir = filepath.Join(t.dir, m.pkg)
	test.WaitDelay = time.Second // children of a test that crashed
	raw, err := test.CombinedOutput()
	out := string(raw)
	if ctx.Err() != nil {
		return crashed, out, ctx.Err()
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return crashed, out, err
	}
	switch {
	case strings.Contains(out, "warning: no tests to run"):
		return crashed, out, fmt.Errorf("%w: %s has no test %s", errStale, m.pkg, m.test)
	case strings.Contains(out, "panic: test timed out"):
		return hung, out, nil
	case err == nil && strings.Contains(out, "--- PASS: "+m.test+" "):
		return passed, out, nil
	case err != nil && strings.Contains(out, "--- FAIL: "+m.test+" ") && !strings.Contains(out, "\npanic: "):
		return failed, out, nil
	}
	return crashed, out, nil
}
