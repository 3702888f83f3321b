package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Runner runs one tool of the host to its end and returns its standard output.
// A tool that ran and failed is a [*ToolError].
type Runner interface {
	Run(ctx context.Context, tool string, args ...string) ([]byte, error)
}

// ToolError says how a tool failed. Arguments never hold secrets, so it may be
// shown to anyone.
type ToolError struct {
	Tool   string
	Args   []string
	Code   int    // exit code; -1: not started or ended by a signal
	Stderr string // the last lines
	Err    error  // why it did not run to its end, if so
}

func (e *ToolError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: ", e.Tool, strings.Join(e.Args, " "))
	if e.Err != nil {
		fmt.Fprintf(&b, "%v", e.Err)
	} else {
		fmt.Fprintf(&b, "exit code %d", e.Code)
	}
	if e.Stderr != "" {
		fmt.Fprintf(&b, ": %s", e.Stderr)
	}
	return b.String()
}

func (e *ToolError) Unwrap() error { return e.Err }

// exitCode returns the exit code of the tool that failed with err, and -1 if err
// is anything else.
func exitCode(err error) int {
	var tool *ToolError
	if errors.As(err, &tool) && tool.Err == nil {
		return tool.Code
	}
	return -1
}

// maxStderr bounds what a ToolError keeps, in bytes.
const maxStderr = 1024

// killWait is how long a tool may take to die once its context has ended. One
// that sleeps in the kernel on a device that does not answer cannot be killed
// at all; the caller goes on without it.
const killWait = 2 * time.Second

// Exec is the [Runner] that starts processes.
type Exec struct {
	// Prefix is put before every command, for example
	// "nsenter", "--target", "1", "--mount", "--".
	Prefix []string
}

// Run starts the tool in a process group of its own, so that what it started
// dies with it when ctx ends. It returns soon after that even if the tool does not: a
// goroutine is left to wait for it.
func (x Exec) Run(ctx context.Context, tool string, args ...string) ([]byte, error) {
	line := append(append(append([]string{}, x.Prefix...), tool), args...)
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = killWait

	ended, lost := make(chan error, 1), make(chan struct{})
	defer context.AfterFunc(ctx, func() { time.AfterFunc(2*killWait, func() { close(lost) }) })()
	go func() { ended <- cmd.Run() }()
	var err error
	select {
	case err = <-ended:
	case <-lost: // it may still write to the buffers
		return nil, &ToolError{Tool: tool, Args: args, Code: -1, Err: ctx.Err()}
	}
	if err == nil {
		return stdout.Bytes(), nil
	}
	failed := &ToolError{Tool: tool, Args: args, Code: -1, Stderr: lastBytes(stderr.Bytes(), maxStderr)}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		failed.Err = ctx.Err()
	case errors.As(err, &exit) && exit.Exited():
		failed.Code = exit.ExitCode()
	default:
		failed.Err = err
	}
	return stdout.Bytes(), failed
}

func lastBytes(b []byte, n int) string {
	b = bytes.TrimSpace(b)
	return string(b[max(0, len(b)-n):])
}
