package host

import (
	"context"
	"fmt"
	"strings"
	"sync"
)

// Lasting is a [Runner] whose tools outlive their callers. The check of a large
// file system takes longer than kubelet waits for an answer: a tool that was
// killed with its caller would start anew each time and never end. So it goes
// on, and a call with the same command line waits for the one that runs.
//
// Two different tools never work on one device at a time: mkfs, fsck, blkdiscard
// and mount open it exclusively (O_EXCL), also when a process before us started
// one of them.
type Lasting struct {
	run Runner

	mu      sync.Mutex
	running map[string]*job // by command line
}

type job struct {
	done chan struct{} // closed when the fields below are set
	out  []byte
	err  error
}

// NewLasting returns a runner that starts its tools with run.
func NewLasting(run Runner) *Lasting { return &Lasting{run: run, running: map[string]*job{}} }

// Run implements [Runner]; it returns early when ctx ends.
func (l *Lasting) Run(ctx context.Context, tool string, args ...string) ([]byte, error) {
	j := l.start(ctx, tool, args)
	select {
	case <-j.done:
		return j.out, j.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%s goes on: %w", tool, ctx.Err())
	}
}

// start returns the job that runs the command, or makes one.
func (l *Lasting) start(ctx context.Context, tool string, args []string) *job {
	line := tool + "\x00" + strings.Join(args, "\x00")
	l.mu.Lock()
	defer l.mu.Unlock()
	if j := l.running[line]; j != nil {
		return j
	}
	j := &job{done: make(chan struct{})}
	l.running[line] = j
	go func() {
		j.out, j.err = l.run.Run(context.WithoutCancel(ctx), tool, args...)
		l.mu.Lock()
		delete(l.running, line)
		l.mu.Unlock()
		close(j.done)
	}()
	return j
}
