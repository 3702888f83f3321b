package cache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func key(n int) Key { return Key{Container: "c", Object: fmt.Sprint("o", n/16), Slot: uint32(n % 16)} }

// value is what key(n) holds.
func value(n int) []byte { return fmt.Appendf(make([]byte, 0, 100), "%100d", n) }

// newTestCache makes a cache with room for n values.
func newTestCache(n int64) *Cache[[]byte] {
	return New(n*(100+overhead), func(v []byte) int64 { return int64(len(v)) })
}

func get(t testing.TB, c *Cache[[]byte], n int) {
	t.Helper()
	v, err := c.Get(context.Background(), key(n), func(context.Context) ([]byte, error) { return value(n), nil })
	if err != nil || string(v) != string(value(n)) {
		t.Fatalf("key %d: got %q, %v", n, v, err)
	}
}

func TestOneFetchHoweverManyWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCache(100)
		release := make(chan struct{})
		var fetches atomic.Int32
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				v, err := c.Get(t.Context(), key(1), func(context.Context) ([]byte, error) {
					fetches.Add(1)
					<-release
					return value(1), nil
				})
				if err != nil || string(v) != string(value(1)) {
					t.Errorf("got %q, %v", v, err)
				}
			})
		}
		synctest.Wait()
		close(release)
		wg.Wait()
		get(t, c, 1)
		if s := c.Stats(); fetches.Load() != 1 || s.Misses != 1 || s.Joined != 49 || s.Hits != 1 {
			t.Errorf("%d fetches, %+v", fetches.Load(), s)
		}
	})
}

func TestCancelledWaiterFailsNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCache(100)
		release := make(chan struct{})
		fetch := func(ctx context.Context) ([]byte, error) {
			select {
			case <-release:
				return value(1), nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		first, cancel := context.WithCancel(t.Context())
		left := make(chan error)
		go func() {
			_, err := c.Get(first, key(1), fetch)
			left <- err
		}()
		synctest.Wait()
		stayed := make(chan error)
		go func() {
			_, err := c.Get(t.Context(), key(1), fetch)
			stayed <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("who left got %v", err)
		}
		close(release)
		if err := <-stayed; err != nil {
			t.Errorf("who stayed got %v", err)
		}
	})
}

func TestFetchEndsWhenAllHaveGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCache(100)
		ended := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		hang := func(ctx context.Context) ([]byte, error) {
			<-ctx.Done()
			<-ended // still on its way out when the next one comes
			return nil, ctx.Err()
		}
		left := make(chan error, 2)
		for range 2 {
			go func() {
				_, err := c.Get(ctx, key(1), hang)
				left <- err
			}()
		}
		synctest.Wait()
		cancel()
		<-left
		<-left
		get(t, c, 1) // does not join the fetch that was given up
		close(ended)
		synctest.Wait()
		get(t, c, 1)
	})
}

func TestErrorsAreNotKept(t *testing.T) {
	c := newTestCache(100)
	boom := errors.New("boom")
	if _, err := c.Get(t.Context(), key(1), func(context.Context) ([]byte, error) { return nil, boom }); err != boom {
		t.Errorf("got %v", err)
	}
	get(t, c, 1)
}

func TestBoundHolds(t *testing.T) {
	const limit = 50
	c := newTestCache(limit)
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		n := int(r.ExpFloat64() * 40)
		if r.IntN(4) == 0 {
			c.Add(key(n), value(n))
		} else {
			get(t, c, n)
		}
		if n := len(c.kept.byKey); n > limit || c.Stats().Bytes != int64(n)*(100+overhead) {
			t.Fatalf("%d bytes kept in %d values", c.Stats().Bytes, n)
		}
		if len(c.kept.ghosts) > limit+1 || len(c.kept.ghosts) != c.kept.order.Len() {
			t.Fatalf("%d ghosts", len(c.kept.ghosts))
		}
	}
	if s := c.Stats(); s.Hits < s.Misses {
		t.Errorf("a skewed load hits too seldom: %+v", s)
	}
}

func TestLargeValuesAreNotKept(t *testing.T) {
	c := newTestCache(9)
	get(t, c, 1)
	if _, kept := c.Peek(key(1)); kept {
		t.Error("a value above a tenth of the limit was kept")
	}
}

func TestScanDoesNotPushOutWhatIsUsed(t *testing.T) {
	c := newTestCache(100)
	for range 4 {
		for n := range 50 {
			get(t, c, n)
		}
	}
	for n := 1000; n < 2000; n++ {
		get(t, c, n)
	}
	kept := 0
	for n := range 50 {
		if _, ok := c.Peek(key(n)); ok {
			kept++
		}
	}
	if kept < 45 {
		t.Errorf("%d of 50 values in use survived a scan", kept)
	}
}

func TestConcurrentUse(t *testing.T) {
	c := newTestCache(30)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 0))
			for range 2000 {
				n := r.IntN(100)
				ctx, cancel := context.WithCancel(t.Context())
				if r.IntN(5) == 0 {
					cancel()
				}
				v, err := c.Get(ctx, key(n), func(context.Context) ([]byte, error) { return value(n), nil })
				if err == nil && string(v) != string(value(n)) {
					t.Errorf("key %d: got %q", n, v)
				}
				if err != nil && ctx.Err() == nil {
					t.Errorf("key %d: %v", n, err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
}

// What is read ahead stays until it is used, even in a cache full of what is used
// often; more than [Cache.Fresh] of it does not push that out.
func TestFreshValuesStay(t *testing.T) {
	c := newTestCache(400)
	for range 3 {
		for i := range 400 {
			get(t, c, i)
		}
	}
	fresh := int(c.Fresh() / (100 + overhead))
	for i := range fresh {
		c.Add(key(1000+i), value(1000+i))
	}
	for i := range fresh {
		if _, ok := c.Peek(key(1000 + i)); !ok {
			t.Fatalf("value %d of %d that were read ahead is gone", i, fresh)
		}
	}
	for i := range 10 * fresh {
		c.Add(key(2000+i), value(2000+i))
	}
	kept := 0
	for i := range 400 {
		if _, ok := c.Peek(key(i)); ok {
			kept++
		}
	}
	if kept < 200 {
		t.Errorf("%d of 400 values that are used often were left", kept)
	}
}
