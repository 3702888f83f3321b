package target

import (
	"context"
	"errors"
	"testing"

	"golang.org/x/sync/semaphore"
)

// What sessions take together is bounded, and one that takes all of it, and keeps it,
// keeps no other from its largest command.
func TestSessionsShareBuffers(t *testing.T) {
	s := newServer(nil)
	s.buffers = semaphore.NewWeighted(reserve + 4096)
	hog, other := s.newBudget(), s.newBudget()
	var kept []*buffer
	take := func(b budget, n int) error {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // it does not wait
		buffer, err := budgetedBuffer(ctx, b, n)
		if err == nil {
			kept = append(kept, buffer)
		}
		return err
	}
	for _, n := range []int{reserve, 4096, reserve} {
		if err := take(hog, n); err != nil {
			t.Fatalf("%d bytes within the bounds: %v", n, err)
		}
	}
	if err := take(hog, 4096); !errors.Is(err, context.Canceled) {
		t.Errorf("beyond the bounds: %v", err)
	}
	if err := take(other, reserve); err != nil {
		t.Errorf("another session's command: %v", err)
	}
	if err := take(other, 4096); !errors.Is(err, context.Canceled) {
		t.Errorf("another session beyond its reserve: %v", err)
	}
	for _, b := range kept {
		b.release()
	}
	if !s.buffers.TryAcquire(reserve+4096) || !hog.own.TryAcquire(reserve) || !other.own.TryAcquire(reserve) {
		t.Error("a part of the budgets is lost")
	}
}
