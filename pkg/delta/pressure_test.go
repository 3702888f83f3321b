package delta

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// fillLog writes until the log holds a write, for which it waits a minute.
func fillLog(t *testing.T, j *Journal) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for i := 0; ; i++ {
		err := j.Write(ctx, int64(i%16)*mib, pattern(uint64(i), 64<<10), false)
		if errors.Is(err, context.DeadlineExceeded) {
			return
		}
		check(t, err)
	}
}

func TestFullLogHoldsWrites(t *testing.T) { // B10
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		cfg := testConfig(t)
		cfg.Quota = 8 * cfg.SegmentSize
		j := mustCreate(t, cfg, testIdentity(), 16*mib)
		fillLog(t, j)
		select {
		case <-j.Pressure():
		default:
			t.Error("no pressure was reported")
		}
		done := make(chan error, 2)
		go func() { done <- j.Write(ctx, 0, pattern(99, 64<<10), true) }()
		go func() { done <- j.Write(ctx, mib, pattern(98, 64<<10), true) }()
		check(t, j.Sync(ctx)) // passes held writes, and so do states and seals
		check(t, j.SetState(ctx, State{Size: 16 * mib, Formatted: Formatted}))
		l, err := j.Seal(ctx, "", false)
		check(t, err)
		time.Sleep(time.Hour)
		select {
		case err := <-done:
			t.Fatalf("a held write returned before there was space: %v", err)
		default:
		}
		if held := j.Stats().Held; held != 2 {
			t.Errorf("%d writes held, want 2", held)
		}
		check(t, j.Retire(ctx, l.Gen()))
		check(t, <-done)
		check(t, <-done)
		if got := contents(t, j, 0, 64<<10); !bytes.Equal(got, pattern(99, 64<<10)) {
			t.Fatal("a held write is lost")
		}
	})
}

func TestCloseEndsHeldWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig(t)
		cfg.Quota = 8 * cfg.SegmentSize
		j := mustCreate(t, cfg, testIdentity(), 16*mib)
		fillLog(t, j)
		done := make(chan error)
		go func() { done <- j.Write(context.Background(), 0, pattern(99, 64<<10), false) }()
		synctest.Wait()
		check(t, j.Close())
		if err := <-done; !errors.Is(err, ErrClosed) {
			t.Fatalf("held write: %v", err)
		}
	})
}

func TestWritesSlowDownBeforeTheyAreHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig(t)
		cfg.MaxDelay = time.Second
		j := mustCreate(t, cfg, testIdentity(), 16*mib)
		last := time.Duration(0)
		for {
			start := time.Now()
			check(t, j.Write(context.Background(), 0, pattern(1, 64<<10), false))
			took := time.Since(start)
			switch fill := j.Stats().Fill; {
			case fill < delayAt && took > 0:
				t.Fatalf("delayed by %v at %.2f", took, fill)
			case fill > delayAt+0.02 && took <= last:
				t.Fatalf("delay fell from %v to %v at %.2f", last, took, fill)
			case fill > 0.9:
				return
			}
			last = took
		}
	})
}

// The map's memory is bounded, too: near its budget writes are held until
// layers leave.
func TestMapBudgetHoldsWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig(t)
		cfg.MapBudget = 64 << 10
		j := mustCreate(t, cfg, testIdentity(), 1<<30)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		var err error
		for i := 0; err == nil; i++ { // one sector in each block
			err = j.Write(ctx, int64(i)*Block, make([]byte, Sector), false)
		}
		if s := j.Stats(); !errors.Is(err, context.DeadlineExceeded) || s.MapBytes > cfg.MapBudget {
			t.Fatalf("%v with %d bytes of map", err, s.MapBytes)
		}
		l, err := j.Seal(context.Background(), "", false)
		check(t, err)
		check(t, j.Retire(context.Background(), l.Gen()))
		check(t, j.Write(context.Background(), 0, make([]byte, Sector), false))
	})
}

// After an idle flush a mark follows, once, so that the last flushed record is
// covered by a later one.
func TestIdleFlushIsMarked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig(t)
		cfg.IdleWatermark = time.Second
		j := mustCreate(t, cfg, testIdentity(), mib)
		time.Sleep(time.Minute)
		before := j.Stats()
		check(t, j.Write(context.Background(), 0, make([]byte, Block), true))
		time.Sleep(999 * time.Millisecond)
		if n := j.Stats().Records - before.Records; n != 1 {
			t.Fatalf("%d records before the journal was idle", n)
		}
		time.Sleep(time.Hour)
		s := j.Stats()
		if s.Records-before.Records != 2 || s.Durable != s.Sequence {
			t.Fatalf("%d records, durable %d of %d", s.Records-before.Records, s.Durable, s.Sequence)
		}
	})
}

// A small journal keeps a large part for the records that make space: it is at the hold limit
// where writes are held, and never more than full.
func TestFill(t *testing.T) {
	g := gate{limit: 384, quota: 512, mapBudget: 100}
	for used, want := range map[int64]float64{0: 0, 384: HoldAt, 512: 1} {
		g.used = used
		if have := g.fill(); have != want {
			t.Errorf("%d of %d in use: %v, want %v", used, g.quota, have, want)
		}
	}
}
