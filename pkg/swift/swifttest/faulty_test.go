package swifttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

func TestWithoutFaultsNothingChanges(t *testing.T) {
	Conformance(t, Exact, func(t testing.TB) swift.Store { return Count(Faulty(NewStore(t), 1, Faults{})) })
}

// Each fault, when certain, does what it says.
func TestFaults(t *testing.T) {
	ctx := t.Context()
	for _, c := range []struct {
		kind   string
		faults Faults
		check  func(*testing.T, fixture)
	}{
		{"unavailable", Faults{Unavailable: 1}, func(t *testing.T, f fixture) {
			_, err := f.Get(ctx, f.c, "o", swift.GetOptions{})
			wantErr(t, "get", err, swift.ErrUnavailable)
		}},
		{"lost answer", Faults{LostAnswer: 1}, func(t *testing.T, f fixture) {
			_, err := f.Put(ctx, f.c, "new", []byte("x"), swift.PutOptions{IfNoneMatch: true})
			wantErr(t, "put", err, swift.ErrUnavailable)
			_, err = f.Put(ctx, f.c, "new", []byte("x"), swift.PutOptions{IfNoneMatch: true})
			wantErr(t, "put again", err, swift.ErrExists)
		}},
		{"absent", Faults{Absent: 1}, func(t *testing.T, f fixture) {
			_, err := f.Get(ctx, f.c, "o", swift.GetOptions{})
			wantErr(t, "get", err, swift.ErrNotFound)
			if _, err := f.Get(ctx, f.c, "o", swift.GetOptions{Newest: true}); err != nil {
				t.Errorf("newest: %v", err)
			}
		}},
		{"vague", Faults{Vague: 1}, func(t *testing.T, f fixture) {
			_, err := f.Get(ctx, f.c, "none", swift.GetOptions{Newest: true})
			wantErr(t, "get of nothing", err, swift.ErrUnavailable)
			_, err = f.Head(ctx, f.c, "none", swift.HeadOptions{})
			wantErr(t, "head of nothing", err, swift.ErrUnavailable)
			if _, err := f.Get(ctx, f.c, "o", swift.GetOptions{}); err != nil {
				t.Errorf("get: %v", err)
			}
		}},
		{"stale", Faults{Stale: 1}, func(t *testing.T, f fixture) {
			f.put(t, "o", []byte("new"))
			obj, err := f.Get(ctx, f.c, "o", swift.GetOptions{Off: 1})
			if err != nil || string(obj.Body) != "riginal" || obj.Off != 1 || obj.Size != 8 {
				t.Errorf("%q at %d of %d, %v", obj.Body, obj.Off, obj.Size, err)
			}
			f.put(t, "first", []byte("new"))
			_, err = f.Head(ctx, f.c, "first", swift.HeadOptions{})
			wantErr(t, "head of a new name", err, swift.ErrNotFound)
		}},
		{"late row", Faults{LateRow: 1}, func(t *testing.T, f fixture) {
			if rows, err := f.List(ctx, f.c, "", "", 0); err != nil || len(rows) != 0 {
				t.Errorf("%v, %v", rows, err)
			}
		}},
		{"ghost row", Faults{GhostRow: 1}, func(t *testing.T, f fixture) {
			if err := f.Delete(ctx, f.c, "o"); err != nil {
				t.Fatal(err)
			}
			if rows, err := f.List(ctx, f.c, "", "", 0); err != nil || len(rows) != 1 || rows[0].Name != "o" {
				t.Errorf("%v, %v", rows, err)
			}
		}},
		{"both win", Faults{BothWin: 1}, func(t *testing.T, f fixture) {
			if _, err := f.Put(ctx, f.c, "o", []byte("x"), swift.PutOptions{IfNoneMatch: true}); err != nil {
				t.Error(err)
			}
		}},
		{"false exists", Faults{FalseExists: 1}, func(t *testing.T, f fixture) {
			_, err := f.Put(ctx, f.c, "new", []byte("x"), swift.PutOptions{IfNoneMatch: true})
			wantErr(t, "put", err, swift.ErrExists)
		}},
		{"flipped", Faults{Flipped: 1}, func(t *testing.T, f fixture) {
			obj, err := f.Get(ctx, f.c, "o", swift.GetOptions{})
			if err != nil || len(obj.Body) != 8 || bytes.Equal(obj.Body, []byte("original")) {
				t.Errorf("%q, %v", obj.Body, err)
			}
		}},
		{"truncated", Faults{Truncated: 1}, func(t *testing.T, f fixture) {
			obj, err := f.Get(ctx, f.c, "o", swift.GetOptions{})
			if err != nil || len(obj.Body) >= 8 || obj.Size != int64(len(obj.Body)) {
				t.Errorf("%q of %d, %v", obj.Body, obj.Size, err)
			}
		}},
	} {
		t.Run(c.kind, func(t *testing.T) {
			inner := NewStore(t)
			f := fixture{inner, scratch(t, inner), Exact}
			f.put(t, "o", []byte("original"))
			store := Faulty(inner, 1, c.faults)
			f.Store = store
			c.check(t, f)
			if store.Injected()[c.kind] == 0 {
				t.Errorf("injected %v", store.Injected())
			}
		})
	}
}

// Bodies that are bad by chance are good again soon: three reads are enough.
func TestBadBodiesPass(t *testing.T) {
	inner := NewStore(t)
	f := fixture{inner, scratch(t, inner), Exact}
	f.put(t, "o", []byte("original"))
	store := Faulty(inner, 1, Faults{Flipped: 0.9, Truncated: 0.9})
	bad := 0
	for range 60 {
		obj, err := store.Get(t.Context(), f.c, "o", swift.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if bad++; string(obj.Body) == "original" {
			bad = 0
		}
		if bad > 2 {
			t.Fatalf("%d bad bodies in a row", bad)
		}
	}
}

// The same seed gives the same faults to the same calls, another seed others.
func TestFaultsFollowTheSeed(t *testing.T) {
	inner := NewStore(t)
	f := fixture{inner, scratch(t, inner), Exact}
	f.put(t, "o", []byte("x"))
	run := func(seed uint64) (outcomes []bool) {
		store := Faulty(inner, seed, Faults{Unavailable: 0.5})
		for range 64 {
			_, err := store.Head(t.Context(), f.c, "o", swift.HeadOptions{})
			outcomes = append(outcomes, err == nil)
		}
		return outcomes
	}
	one, again, two := run(1), run(1), run(2)
	if !slices.Equal(one, again) || slices.Equal(one, two) {
		t.Errorf("seed 1: %v\nagain: %v\nseed 2: %v", one, again, two)
	}
	if good := fmt.Sprint(one); !slices.Contains(one, true) || !slices.Contains(one, false) {
		t.Errorf("half of the calls should fail: %s", good)
	}
}

func TestCountAndObserve(t *testing.T) {
	inner := NewStore(t)
	refused := errors.New("refused")
	store := Count(Observe(inner, func(_ context.Context, c Call) error {
		if c.Op == "put" && c.Name == "no" {
			return refused
		}
		return nil
	}))
	f := fixture{store, scratch(t, inner), Exact}
	f.put(t, "o", noise(1000))
	if _, err := f.Put(t.Context(), f.c, "no", noise(10), swift.PutOptions{}); !errors.Is(err, refused) {
		t.Errorf("%v", err)
	}
	if _, err := f.Get(t.Context(), f.c, "o", swift.GetOptions{Off: 900}); err != nil {
		t.Fatal(err)
	}
	want := []Call{{"put", f.c, "o", 1000}, {"get", f.c, "o", 100}}
	if got := store.Calls(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if calls, bytes := store.Total("get"); calls != 1 || bytes != 100 {
		t.Errorf("get: %d calls, %d bytes", calls, bytes)
	}
	if calls, bytes := store.Total(""); calls != 2 || bytes != 1100 {
		t.Errorf("all: %d calls, %d bytes", calls, bytes)
	}
	store.Reset()
	if calls, _ := store.Total(""); calls != 0 {
		t.Errorf("%d calls after Reset", calls)
	}
}

// The client hides what happens on the way.
func TestFaultsOnTheWire(t *testing.T) {
	store, met := NewStoreOverWire(t, 1, WireFaults{Expired: 0.1, Refused: 0.1, Dropped: 0.1, Lost: 0.1, Cut: 0.1})
	f := fixture{store, "wire", Exact} // a fixed name: the same faults in every run
	if err := store.CreateContainer(t.Context(), f.c); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 60 {
		all.Go(func() {
			name, body := fmt.Sprint("o", i), noise(1000+i)
			if _, err := f.Put(t.Context(), f.c, name, body, swift.PutOptions{}); err != nil {
				t.Error(err)
			}
			if obj, err := f.Get(t.Context(), f.c, name, swift.GetOptions{Newest: true}); err != nil || !bytes.Equal(obj.Body, body) {
				t.Errorf("%d of %d bytes, %v", len(obj.Body), len(body), err)
			}
			if err := f.Delete(t.Context(), f.c, name); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, kind := range []string{"expired", "refused", "dropped", "lost", "cut"} {
		if met()[kind] == 0 {
			t.Errorf("never %s: %v", kind, met())
		}
	}
}
