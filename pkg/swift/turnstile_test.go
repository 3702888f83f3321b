package swift

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var errSilent = errors.New("no answer")

// mustEnter fails the test if there is no turn at once.
func mustEnter(t *testing.T, turns *turnstile, k kind) *ticket {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	own, err := turns.enter(ctx, k, 0)
	if err != nil {
		t.Fatalf("%v: %v", k, err)
	}
	return own
}

// mustWait fails the test if there is a turn within d.
func mustWait(t *testing.T, turns *turnstile, k kind, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if own, err := turns.enter(ctx, k, 0); err == nil {
		t.Fatalf("%v has a turn: %+v", k, own)
	}
}

func TestTurnsAreGivenInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := &turnstile{limit: 2}
		var mu sync.Mutex
		var order []int
		for i := range 10 {
			go func() {
				own, err := turns.enter(t.Context(), kind(i)%kinds, 0)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				time.Sleep(time.Second)
				turns.leave(own, nil, false)
			}()
			time.Sleep(time.Millisecond)
			if under, waiting := turns.counts(); under != min(i+1, 2) || waiting != max(0, i-1) {
				t.Errorf("%d under way and %d waiting of %d", under, waiting, i+1)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if want := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}; !slices.Equal(order, want) {
			t.Errorf("went out as %v", order)
		}
	})
}

// breakIt makes the store look broken for requests of a kind.
func breakIt(t *testing.T, turns *turnstile, k kind) {
	t.Helper()
	for range tolerance {
		turns.leave(mustEnter(t, turns, k), errSilent, false)
	}
	if turns.trouble(k) == nil {
		t.Fatal("not broken")
	}
}

func TestBrokenStoreSeesOnlyProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := &turnstile{limit: 32}
		breakIt(t, turns, reading)
		const callers = 20
		var probes, through int
		var mu sync.Mutex
		healthy := false
		for range callers {
			go func() {
				for {
					own, err := turns.enter(t.Context(), reading, 0)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					works := healthy
					if !works {
						probes++
					}
					mu.Unlock()
					time.Sleep(10 * time.Millisecond)
					if works {
						turns.leave(own, nil, false)
						mu.Lock()
						through++
						mu.Unlock()
						return
					}
					turns.leave(own, errSilent, false)
				}
			}()
		}
		time.Sleep(10 * time.Minute)
		mu.Lock()
		// One at a time, each pause 2.5 to 7.5 s in the end.
		if probes < 80 || probes > 260 || through > 0 {
			t.Errorf("%d probes in ten minutes, %d requests went through", probes, through)
		}
		healthy = true
		mu.Unlock()
		time.Sleep(8 * time.Second)
		synctest.Wait()
		if through != callers {
			t.Errorf("%d of %d went on", through, callers)
		}
		if turns.trouble(reading) != nil {
			t.Error("still broken")
		}
	})
}

func TestFailuresAreCountedInARow(t *testing.T) {
	turns := &turnstile{limit: 4}
	for range 10 {
		for range tolerance - 1 {
			turns.leave(mustEnter(t, turns, reading), errSilent, false)
		}
		turns.leave(mustEnter(t, turns, reading), nil, false)
	}
	if err := turns.trouble(reading); err != nil {
		t.Errorf("broken: %v", err)
	}
	// Too many requests, or a caller that went away, says nothing either way.
	for range tolerance - 1 {
		turns.leave(mustEnter(t, turns, reading), errSilent, false)
		turns.leave(mustEnter(t, turns, reading), errSilent, true)
	}
	if err := turns.trouble(reading); err != nil {
		t.Errorf("broken: %v", err)
	}
	turns.leave(mustEnter(t, turns, reading), errSilent, false)
	if turns.trouble(reading) == nil {
		t.Error("not broken")
	}
}

// A cluster that has lost its quorum takes no changes and serves reads.
func TestReadsGoOnWhileChangesFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := &turnstile{limit: 4}
		breakIt(t, turns, changing)
		mustWait(t, turns, changing, time.Millisecond)
		turns.leave(mustEnter(t, turns, reading), nil, false)
		if turns.trouble(changing) == nil {
			t.Error("a read ended the trouble with changes")
		}
	})
}

func TestPatienceAtABrokenStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := &turnstile{limit: 1}
		breakIt(t, turns, reading)
		time.Sleep(time.Minute)
		probe := mustEnter(t, turns, reading) // which hangs
		start := time.Now()
		if _, err := turns.enter(t.Context(), reading, 30*time.Second); !errors.Is(err, errSilent) {
			t.Errorf("%v, want the reason", err)
		}
		if d := time.Since(start); d != 30*time.Second {
			t.Errorf("waited %v", d)
		}
		turns.leave(probe, nil, false)

		// A store that is only busy makes nobody fail.
		busy := mustEnter(t, turns, reading)
		time.AfterFunc(10*time.Minute, func() { turns.leave(busy, nil, false) })
		own, err := turns.enter(t.Context(), reading, 30*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		turns.leave(own, nil, false)
	})
}

// Whoever gives up leaves nothing behind, whether it was admitted by then or not.
func TestGivingUp(t *testing.T) {
	turns := &turnstile{limit: 2}
	for range 1000 {
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		if own, err := turns.enter(ctx, reading, 0); err == nil {
			turns.leave(own, nil, false)
		}
	}
	first := mustEnter(t, turns, reading)
	second := mustEnter(t, turns, reading)
	mustWait(t, turns, reading, time.Millisecond)
	if under, waiting := turns.counts(); under != 2 || waiting != 0 {
		t.Errorf("%d under way, %d waiting", under, waiting)
	}
	turns.leave(first, nil, false)
	turns.leave(second, nil, false)
}
