package volume

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
)

// always is a class that does not change.
func always(c class) func() class { return func() class { return c } }

// hold takes a turn and keeps it until the returned function is called.
func hold(t *testing.T, traffic *Traffic, c class) (release func()) {
	t.Helper()
	done := make(chan struct{})
	go traffic.inTurn(t.Context(), always(c), func(context.Context) error { <-done; return nil })
	synctest.Wait()
	return func() { close(done); synctest.Wait() }
}

// Turns go by class, whenever it is known, and within one by arrival; no more
// than the limit are given.
func TestTurnsGoByClass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		traffic := NewTraffic(2)
		releases := []func(){hold(t, traffic, uploading), hold(t, traffic, compacting)}
		var order []string
		late := uploading // of one that waits
		enter := func(name string, c func() class) {
			go traffic.inTurn(t.Context(), c, func(context.Context) error {
				order = append(order, name)
				return nil
			})
			synctest.Wait()
		}
		enter("compaction", always(compacting))
		enter("upload", always(uploading))
		enter("ahead", always(readahead))
		enter("late", func() class { return late })
		enter("snapshot", always(overdue))
		if len(order) > 0 {
			t.Fatal("more than two turns:", order)
		}
		late = overdue
		releases[0]()
		if want := []string{"late", "snapshot", "ahead", "upload", "compaction"}; !slices.Equal(order, want) {
			t.Errorf("turns went to %v, want %v", order, want)
		}
		releases[1]()
	})
}

// While somebody waits for a read, uploads that can wait have a quarter of the
// turns; overdue ones and reading ahead have all.
func TestReadsGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		traffic := NewTraffic(4)
		first := hold(t, traffic, uploading)
		ran := false
		traffic.read(func() {
			go traffic.inTurn(t.Context(), always(uploading), func(context.Context) error { ran = true; return nil })
			synctest.Wait()
			if ran {
				t.Error("a second upload began during a read")
			}
			for _, c := range []class{readahead, overdue} {
				hold(t, traffic, c)()
			}
		})
		synctest.Wait()
		if !ran {
			t.Error("the upload was not begun after the read")
		}
		first()
		if traffic.busy != 0 || len(traffic.waiting) != 0 {
			t.Errorf("%d turns were not given back, %d wait", traffic.busy, len(traffic.waiting))
		}
	})
}

// Whoever gives up waiting for a turn leaves no trace.
func TestTurnGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		traffic := NewTraffic(1)
		release := hold(t, traffic, uploading)
		ctx, cancel := context.WithCancel(t.Context())
		outcome := make(chan error, 1)
		go func() { outcome <- traffic.inTurn(ctx, always(overdue), func(context.Context) error { return nil }) }()
		synctest.Wait()
		cancel()
		wantIs(t, <-outcome, context.Canceled)
		release()
		if err := traffic.inTurn(t.Context(), always(compacting), func(context.Context) error { return nil }); err != nil {
			t.Error(err)
		}
	})
}

// A work that fails gives its turn back, as long as there is room for what it keeps in memory;
// all are given back in the end, once, also where a read goes on that others share.
func TestTurnsOfFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		traffic := NewTraffic(2)
		var turns []*turn
		var ends []chan struct{}
		fail := func(bytes int64) {
			end := make(chan struct{})
			go traffic.inTurn(t.Context(), always(uploading), func(ctx context.Context) error {
				turns = append(turns, turnOf(ctx))
				keeps(ctx, bytes)
				turnOf(ctx).pause()
				<-end
				return nil
			})
			synctest.Wait()
			ends = append(ends, end)
		}
		fail(strayRoom)
		fail(strayRoom)
		fail(1)
		fail(1)
		if fail(1); len(turns) != 4 || traffic.busy != 2 {
			t.Errorf("%d began with %d turns, want 4 with 2: two kept all the room", len(turns), traffic.busy)
		}
		for _, end := range ends {
			close(end)
		}
		synctest.Wait()
		turns[2].pause()
		if traffic.busy != 0 || traffic.strays != 0 || len(traffic.waiting) != 0 {
			t.Errorf("%d turns and %d bytes are left, %d wait", traffic.busy, traffic.strays, len(traffic.waiting))
		}
	})
}

// The uploads of all volumes of a process together stay within the turns, and a
// volume that cannot be written to holds up no other.
func TestVolumesShareTurns(t *testing.T) {
	traffic := NewTraffic(2)
	tune := func(c *Config) { c.Traffic = traffic }
	broken := newRig(t, 64*mib, tune)
	broken.store.set(func(s *spy) {
		s.before = func(op, name string) error {
			if op == "put" {
				return errAway
			}
			return nil
		}
	})
	for i := range int64(4) {
		broken.write(i*chunks.Size, noise(uint64(i), 5*mib))
	}
	_, err := broken.Seal(broken.ctx, "")
	broken.must(err)
	waitFor(t, func() bool { return errors.Is(broken.Stats().Failing, errAway) })

	var mu sync.Mutex
	flying, most := 0, 0
	count := func(name string, n int) error {
		if strings.HasPrefix(name, chunks.ChunkPrefix) {
			mu.Lock()
			defer mu.Unlock()
			flying += n
			most = max(most, flying)
		}
		return nil
	}
	var volumes sync.WaitGroup
	for range 3 {
		r := newRig(t, 64*mib, tune)
		r.store.set(func(s *spy) {
			s.before = func(_, name string) error { return count(name, 1) }
			s.after = func(_, name string) error { return count(name, -1) }
		})
		for i := range int64(6) {
			r.write(i*chunks.Size, noise(uint64(i), 5*mib))
		}
		volumes.Go(func() {
			if _, err := r.Close(r.ctx); err != nil {
				t.Error(err)
			}
		})
	}
	within(t, func() error { volumes.Wait(); return nil })
	if most > 2 {
		t.Errorf("%d chunks were on their way at one time, for 2 turns", most)
	}
	if most < 2 {
		t.Error("nothing ever shared the turns")
	}
}

// While Swift is away, what waits to be put again takes no more memory than there is room
// for, however many volumes there are: 24 MiB for each turn, and 16 MiB beside it.
func TestAnOutageTakesBoundedMemory(t *testing.T) {
	const turns, volumes, body = 2, 6, 5 * mib
	traffic := NewTraffic(turns)
	var mu sync.Mutex
	waiting := map[string]bool{} // objects that were put in vain
	for range volumes {
		r := newRig(t, 64*mib, func(c *Config) { c.Traffic = traffic })
		r.store.set(func(s *spy) {
			s.before = func(op, name string) error {
				if op != "put" || !strings.HasPrefix(name, chunks.ChunkPrefix) {
					return nil
				}
				mu.Lock()
				defer mu.Unlock()
				waiting[name+string(r.id)] = true
				return errAway
			}
		})
		for i := range int64(4) {
			r.write(i*chunks.Size, noise(uint64(i), body))
		}
		_, err := r.Seal(r.ctx, "")
		r.must(err)
	}
	kept := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(waiting)
	}
	waitFor(t, func() bool { return kept() > turns })
	time.Sleep(time.Second) // ample for all of them, if nothing holds them back
	if most := turns * 40 * mib / body; kept() > most {
		t.Errorf("%d bodies of 5 MiB in memory, want at most %d", kept(), most)
	}
}
