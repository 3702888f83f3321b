// Package authoritytest is what every implementation of [authority.Authority]
// must pass, and a decorator with which the users of one prove that they can be
// interrupted between any two steps.
package authoritytest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// Conformance runs the suite. make is called once for each test: it returns a
// function that opens another handle, as another process would, on one authority
// that is empty at first.
func Conformance(t *testing.T, make func(t *testing.T) (open func() authority.Authority)) {
	for name, test := range map[string]func(*testing.T, func() authority.Authority){
		"RecordsComeBackWhole":      recordsComeBackWhole,
		"CreateIsExclusive":         createIsExclusive,
		"UpdateComparesVersions":    updateComparesVersions,
		"VersionsAreNeverUsedAgain": versionsAreNeverUsedAgain,
		"OneOfRacingCreatorsWins":   oneOfRacingCreatorsWins,
		"NoUpdateIsLost":            noUpdateIsLost,
		"ListIsOrderedAndPaged":     listIsOrderedAndPaged,
		"ListSeesWhatStays":         listSeesWhatStays,
		"KeysAreChecked":            keysAreChecked,
		"TablesAreApart":            tablesAreApart,
		"ContextEndsCalls":          contextEndsCalls,
	} {
		t.Run(name, func(t *testing.T) { test(t, make(t)) })
	}
}

var (
	date = time.Date(2026, 2, 3, 4, 5, 6, 789000000, time.UTC)
	root = authority.Root{Container: "p-1", Epoch: ident.Epoch{Number: 1 << 40, Tag: 1<<64 - 1}, Generation: 1<<64 - 1, Hash: authority.Hash{0, 1, 255}}
)

func recordsComeBackWhole(t *testing.T, open func() authority.Authority) {
	a, b := open(), open()
	roundTrip(t, a.Volumes(), b.Volumes(), authority.Volume{
		ID: ident.NewVolume(), Name: "pvc-\x00 <é>\u2028\"", Container: "p-1", Size: 1<<63 - 1,
		Parameters: map[string]string{"rpo": "60s", "": "<&>"}, Created: date, State: authority.Deleted, Deleted: date,
		Origin:    &authority.Origin{Snapshot: ident.NewSnapshot(), Chosen: true, Root: &root, Pinned: []ident.Volume{ident.NewVolume()}},
		Binding:   &authority.Binding{Node: "n"},
		Readers:   []authority.Reader{{Node: "m", Alone: true, Root: &authority.Root{Container: "c"}}},
		Mutable:   map[string]string{"rpo": "5s"},
		Opening:   authority.Opening{Epoch: root.Epoch, Journal: "j", Node: "n", Endpoint: "unix:///x", Open: true, Lost: true},
		Ended:     []authority.Ended{{Journal: "i", Lost: true}},
		Head:      &root,
		Recovered: &authority.Recovery{Epoch: root.Epoch, Node: "n", At: date, Newest: date},
	})
	roundTrip(t, a.Volumes(), b.Volumes(), authority.Volume{})
	roundTrip(t, a.Snapshots(), b.Snapshots(), authority.Snapshot{
		ID: ident.NewSnapshot(), Name: "s", Source: ident.NewVolume(), Container: "p-1", Since: root.Epoch.Number,
		Created: date, State: authority.Ready, Deleted: date, Size: 4096, Root: &root,
	})
	roundTrip(t, a.Claims(), b.Claims(), authority.Claim{Name: "n", ID: "i", Created: date})
	roundTrip(t, a.Pins(), b.Pins(), authority.Pin{Owner: ident.NewVolume(), Child: ident.NewVolume(), Root: root, Created: date})
}

func roundTrip[T any](t *testing.T, a, b authority.Table[T], want T) {
	t.Helper()
	ctx := t.Context()
	key := string(ident.NewVolume())
	version, err := a.Create(ctx, key, want)
	if err != nil {
		t.Fatal(err)
	}
	got, gotVersion, err := b.Get(ctx, key)
	if err != nil || gotVersion != version || !reflect.DeepEqual(got, want) {
		t.Errorf("Get = %+v, %q, %v;\nwant %+v, %q", got, gotVersion, err, want, version)
	}
	rows, _, err := b.List(ctx, authority.Beginning, 10)
	for _, row := range rows {
		if row.Key == key && row.Version == version && reflect.DeepEqual(row.Value, want) {
			return
		}
	}
	t.Errorf("List = %+v, %v; it lacks %+v", rows, err, want)
}

func claim(name string) authority.Claim { return authority.Claim{Name: name, Created: date} }

func createIsExclusive(t *testing.T, open func() authority.Authority) {
	ctx, a, b := t.Context(), open().Claims(), open().Claims()
	if _, _, err := a.Get(ctx, "k"); !errors.Is(err, authority.ErrNotFound) {
		t.Errorf("Get of nothing: %v, want ErrNotFound", err)
	}
	version := must(a.Create(ctx, "k", claim("first")))(t)
	if _, err := b.Create(ctx, "k", claim("second")); !errors.Is(err, authority.ErrExists) {
		t.Errorf("second Create: %v, want ErrExists", err)
	}
	if v, _, err := b.Get(ctx, "k"); err != nil || v.Name != "first" {
		t.Errorf("Get = %+v, %v; want the first", v, err)
	}
	if err := b.Delete(ctx, "k", version); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.Get(ctx, "k"); !errors.Is(err, authority.ErrNotFound) {
		t.Errorf("Get after Delete: %v, want ErrNotFound", err)
	}
	must(a.Create(ctx, "k", claim("third")))(t)
}

func updateComparesVersions(t *testing.T, open func() authority.Authority) {
	ctx, a, b := t.Context(), open().Claims(), open().Claims()
	first := must(a.Create(ctx, "k", claim("1")))(t)
	second := must(b.Update(ctx, "k", claim("2"), first))(t)
	if _, err := a.Update(ctx, "k", claim("3"), first); !errors.Is(err, authority.ErrConflict) {
		t.Errorf("Update at an old version: %v, want ErrConflict", err)
	}
	if err := a.Delete(ctx, "k", first); !errors.Is(err, authority.ErrConflict) {
		t.Errorf("Delete at an old version: %v, want ErrConflict", err)
	}
	if _, err := a.Update(ctx, "none", claim("3"), second); !errors.Is(err, authority.ErrConflict) {
		t.Errorf("Update of nothing: %v, want ErrConflict", err)
	}
	if err := a.Delete(ctx, "none", second); !errors.Is(err, authority.ErrConflict) {
		t.Errorf("Delete of nothing: %v, want ErrConflict", err)
	}
	if v, version, err := a.Get(ctx, "k"); err != nil || v.Name != "2" || version != second {
		t.Errorf("Get = %+v, %q, %v; want 2 at %q", v, version, err, second)
	}
}

func versionsAreNeverUsedAgain(t *testing.T, open func() authority.Authority) {
	ctx, a := t.Context(), open().Claims()
	seen := map[authority.Version]bool{}
	for range 3 {
		version := must(a.Create(ctx, "k", claim("same")))(t)
		for range 3 {
			if seen[version] {
				t.Fatalf("version %q was used before", version)
			}
			seen[version] = true
			version = must(a.Update(ctx, "k", claim("same"), version))(t)
		}
		if err := a.Delete(ctx, "k", version); err != nil {
			t.Fatal(err)
		}
		seen[version] = true
	}
}

func oneOfRacingCreatorsWins(t *testing.T, open func() authority.Authority) {
	handles := []authority.Table[authority.Claim]{open().Claims(), open().Claims()}
	for round := range 10 {
		key := fmt.Sprintf("k%d", round)
		won := make(chan string, 8)
		var racers sync.WaitGroup
		for i := range cap(won) {
			racers.Go(func() {
				name := fmt.Sprint(i)
				switch _, err := handles[i%2].Create(t.Context(), key, claim(name)); {
				case err == nil:
					won <- name
				case !errors.Is(err, authority.ErrExists):
					t.Errorf("Create: %v", err)
				}
			})
		}
		racers.Wait()
		if len(won) != 1 {
			t.Fatalf("%d of %d racing creators won", len(won), cap(won))
		}
		if v, _, err := handles[0].Get(t.Context(), key); err != nil || v.Name != <-won {
			t.Errorf("Get = %+v, %v; want the winner's record", v, err)
		}
	}
}

func noUpdateIsLost(t *testing.T, open func() authority.Authority) {
	const racers, each = 4, 10
	ctx, a, b := t.Context(), open().Volumes(), open().Volumes()
	must(a.Create(ctx, "k", authority.Volume{}))(t)
	var all sync.WaitGroup
	for i := range racers {
		all.Go(func() {
			table := []authority.Table[authority.Volume]{a, b}[i%2]
			conflicts := 0
			for done := 0; done < each; {
				v, version, err := table.Get(ctx, "k")
				if err == nil {
					v.Size++
					_, err = table.Update(ctx, "k", v, version)
				}
				switch {
				case err == nil:
					done++
				case errors.Is(err, authority.ErrConflict) && conflicts < (racers-1)*each:
					conflicts++ // each with another update of the others
				default:
					t.Errorf("increment: %v", err)
					return
				}
			}
		})
	}
	all.Wait()
	if v, _, err := a.Get(ctx, "k"); err != nil || v.Size != racers*each {
		t.Errorf("the counter is %d, %v; want %d", v.Size, err, racers*each)
	}
}

func listIsOrderedAndPaged(t *testing.T, open func() authority.Authority) {
	ctx, a, b := t.Context(), open().Claims(), open().Claims()
	keys := []string{"a", "a-1", "a.b", "a.b.c", "a0", "aa", "b", "b.1", "c"}
	for i := range keys {
		// Not in order; 4 and 9 have no common divisor.
		must(a.Create(ctx, keys[i*4%len(keys)], claim("x")))(t)
	}
	for _, limit := range []int{1, 2, 4, 9, 100} {
		var got []string
		for place := authority.Beginning; ; {
			rows, next, err := b.List(ctx, place, limit)
			if err != nil {
				t.Fatal(err)
			}
			for _, row := range rows {
				got = append(got, row.Key)
			}
			if len(rows) > limit {
				t.Fatalf("a page of %d has %d records", limit, len(rows))
			}
			if place = next; place == authority.Beginning {
				break
			}
		}
		if !reflect.DeepEqual(got, keys) {
			t.Errorf("pages of %d: %v, want %v", limit, got, keys)
		}
	}
	// What the place stands at may be deleted meanwhile; what comes after it is listed.
	rows, next, err := b.List(ctx, authority.Beginning, 3)
	if err != nil || len(rows) != 3 {
		t.Fatal(rows, err)
	}
	if err := a.Delete(ctx, rows[2].Key, rows[2].Version); err != nil {
		t.Fatal(err)
	}
	if rows, _, err := b.List(ctx, next, 1); err != nil || len(rows) != 1 || rows[0].Key != keys[3] {
		t.Errorf("the page after a record that was deleted = %v, %v; want %s", rows, err, keys[3])
	}
	for _, place := range []authority.Place{"invalid-token", "after/", "after/../x", "bm8gcGxhY2U"} {
		if rows, _, err := b.List(ctx, place, 1); !errors.Is(err, authority.ErrPlace) {
			t.Errorf("List from %q = %v, %v; want ErrPlace", place, rows, err)
		}
	}
}

// listSeesWhatStays lists while other records come and go: what was there before
// and stays must be in every listing, as the sweep's decisions stand on that.
func listSeesWhatStays(t *testing.T, open func() authority.Authority) {
	const steady, changes = 20, 30
	ctx, a, b := t.Context(), open().Claims(), open().Claims()
	for i := range steady {
		must(a.Create(ctx, fmt.Sprintf("k%02d", i), claim("steady")))(t)
	}
	var changing sync.WaitGroup
	defer changing.Wait()
	changing.Go(func() {
		for i := range changes {
			key := fmt.Sprintf("k%02dx", i%steady)
			version, err := a.Create(ctx, key, claim("passing"))
			if err == nil {
				err = a.Delete(ctx, key, version)
			}
			if err != nil {
				t.Errorf("change: %v", err)
			}
		}
	})
	for range 10 {
		n := 0
		for row, err := range authority.All(ctx, b) {
			if err != nil {
				t.Fatal(err)
			}
			if row.Value.Name == "steady" {
				n++
			}
		}
		if n != steady {
			t.Fatalf("a listing has %d of %d records that stay", n, steady)
		}
	}
}

func keysAreChecked(t *testing.T, open func() authority.Authority) {
	ctx, a := t.Context(), open().Claims()
	for _, key := range []string{"", ".", "..", "a/b", "../a", "A", "a_b", "a b", "a\x00", "é", ".a", "a.", "-a", "a-", strings.Repeat("k", 201)} {
		_, create := a.Create(ctx, key, claim("x"))
		_, _, get := a.Get(ctx, key)
		_, update := a.Update(ctx, key, claim("x"), "1")
		for verb, err := range map[string]error{"Create": create, "Get": get, "Update": update, "Delete": a.Delete(ctx, key, "1")} {
			if !errors.Is(err, authority.ErrKey) {
				t.Errorf("%s(%q): %v, want ErrKey", verb, key, err)
			}
		}
	}
	must(a.Create(ctx, strings.Repeat("k", 200), claim("x")))(t)
}

func tablesAreApart(t *testing.T, open func() authority.Authority) {
	ctx, a := t.Context(), open()
	must(a.Volumes().Create(ctx, "k", authority.Volume{Name: "v"}))(t)
	must(a.Claims().Create(ctx, "k", claim("c")))(t)
	if v, _, err := a.Volumes().Get(ctx, "k"); err != nil || v.Name != "v" {
		t.Errorf("volume = %+v, %v", v, err)
	}
	if rows, _, err := a.Pins().List(ctx, authority.Beginning, 10); err != nil || len(rows) != 0 {
		t.Errorf("pins = %v, %v; want none", rows, err)
	}
}

func contextEndsCalls(t *testing.T, open func() authority.Authority) {
	a := open().Claims()
	version := must(a.Create(t.Context(), "k", claim("x")))(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, create := a.Create(ctx, "l", claim("x"))
	_, _, get := a.Get(ctx, "k")
	_, update := a.Update(ctx, "k", claim("y"), version)
	_, _, list := a.List(ctx, authority.Beginning, 10)
	for verb, err := range map[string]error{"Create": create, "Get": get, "Update": update, "Delete": a.Delete(ctx, "k", version), "List": list} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s after the context ended: %v, want context.Canceled", verb, err)
		}
	}
	if v, now, err := a.Get(t.Context(), "k"); err != nil || v.Name != "x" || now != version {
		t.Errorf("Get = %+v, %q, %v; want it unchanged", v, now, err)
	}
}

// must returns a function that ends the test on an error, or returns the value.
func must[V any](v V, err error) func(*testing.T) V {
	return func(t *testing.T) V {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
