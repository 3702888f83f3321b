package authority

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// Whoever asks while it is done gets one that begins later, all of them the same,
// and its error.
func TestGather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gather
		first := make(chan struct{})
		go g.do(func() error { <-first; return nil })
		synctest.Wait()

		const callers = 10
		var begun atomic.Int32
		failure, second := errors.New("failure"), make(chan struct{})
		var all sync.WaitGroup
		var failed atomic.Int32
		for range callers {
			all.Go(func() {
				err := g.do(func() error {
					begun.Add(1)
					<-second
					return failure
				})
				if errors.Is(err, failure) {
					failed.Add(1)
				}
			})
		}
		synctest.Wait()
		if n := begun.Load(); n != 0 {
			t.Errorf("%d began while another was under way", n)
		}
		close(first)
		synctest.Wait()
		// One that asks now is too late for the second.
		third := false
		all.Go(func() {
			if err := g.do(func() error { third = true; return nil }); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		if n := begun.Load(); n != 1 || third {
			t.Errorf("%d are under way for %d callers, the third: %v", n, callers, third)
		}
		close(second)
		all.Wait()
		if n := failed.Load(); n != callers || !third {
			t.Errorf("%d of %d learned of the failure, the third was done: %v", n, callers, third)
		}
	})
}
