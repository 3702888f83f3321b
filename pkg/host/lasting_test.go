package host

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

// slow is a runner whose tools end when they are told to.
type slow struct{ started, end chan string }

func (s slow) Run(ctx context.Context, tool string, _ ...string) ([]byte, error) {
	s.started <- tool
	select {
	case out := <-s.end:
		return []byte(out), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func TestLasting(t *testing.T) { synctest.Test(t, testLasting) }

func testLasting(t *testing.T) {
	tools := slow{make(chan string, 9), make(chan string)}
	l := NewLasting(tools)

	impatient, giveUp := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := l.Run(impatient, "fsck", "/dev/sdb")
		first <- err
	}()
	<-tools.started
	giveUp()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the caller that gave up: %v", err)
	}

	second := make(chan string, 1)
	go func() {
		out, _ := l.Run(t.Context(), "fsck", "/dev/sdb")
		second <- string(out)
	}()
	go l.Run(t.Context(), "fsck", "/dev/sdc")
	synctest.Wait() // the second caller has found the tool that runs
	<-tools.started
	tools.end <- "clean"
	tools.end <- "clean"
	if out := <-second; out != "clean" {
		t.Errorf("the second caller got %q", out)
	}
	if n := len(tools.started); n > 0 {
		t.Errorf("%d more tools were started", n)
	}

	go l.Run(t.Context(), "fsck", "/dev/sdb")
	<-tools.started // what has ended is not answered from memory
	tools.end <- ""
}
