package kube_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/authority/authoritytest"
	"github.com/swiftblock/csi-swiftblock/pkg/authority/kube"
	"github.com/swiftblock/csi-swiftblock/test/kube/apiserver"
)

// definitions are the chart's custom resource definitions.
const definitions = "../../../charts/csi-swiftblock/crds/*.yaml"

func start(t *testing.T) *apiserver.Server {
	server := apiserver.Start(t)
	server.Define(definitions)
	return server
}

func open(t *testing.T, config *rest.Config) *kube.Authority {
	t.Helper()
	config.QPS = -1 // no limit
	a, err := kube.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// The API server's cache never catches up here, as no promise says when it does.
func TestConforms(t *testing.T) {
	server, cache := start(t), lagging{first: map[string]answer{}}
	config := func() *rest.Config {
		config := server.Config()
		config.Wrap(cache.before)
		return config
	}
	authoritytest.Conformance(t, func(t *testing.T) func() authority.Authority {
		clear(t, open(t, config()))
		return func() authority.Authority { return open(t, config()) }
	})
}

func clear(t *testing.T, a authority.Authority) {
	clearTable(t, a.Volumes())
	clearTable(t, a.Snapshots())
	clearTable(t, a.Claims())
	clearTable(t, a.Pins())
}

func clearTable[T any](t *testing.T, table authority.Table[T]) {
	t.Helper()
	for row, err := range authority.All(t.Context(), table) {
		if err == nil {
			err = table.Delete(t.Context(), row.Key, row.Version)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A listing longer than one request of it, and than one page of the caller.
func TestLongListings(t *testing.T) {
	const n = 1203
	ctx, claims := t.Context(), open(t, start(t).Config()).Claims()
	for i := range n {
		if _, err := claims.Create(ctx, fmt.Sprintf("k%04d", i), authority.Claim{}); err != nil {
			t.Fatal(err)
		}
	}
	seen := 0
	for row, err := range authority.All(ctx, claims) {
		if want := fmt.Sprintf("k%04d", seen); err != nil || row.Key != want {
			t.Fatalf("row %d is %q, %v", seen, row.Key, err)
		}
		seen++
	}
	if seen != n {
		t.Errorf("%d of %d records", seen, n)
	}
}

// Without its definition a table is not empty: nobody knows what is in it.
func TestWithoutDefinition(t *testing.T) {
	ctx, server := t.Context(), start(t)
	volumes := open(t, server.Config()).Volumes()
	if _, _, err := volumes.Get(ctx, "k"); !errors.Is(err, authority.ErrNotFound) {
		t.Fatalf("with it: %v, want ErrNotFound", err)
	}
	server.Undefine("swiftblockvolumes.swiftblock.dev")
	_, _, get := volumes.Get(ctx, "k")
	_, _, list := volumes.List(ctx, authority.Beginning, 1)
	_, update := volumes.Update(ctx, "k", authority.Volume{}, "uid/1")
	for verb, err := range map[string]error{"Get": get, "List": list, "Update": update, "Delete": volumes.Delete(ctx, "k", "uid/1")} {
		if err == nil || errors.Is(err, authority.ErrNotFound) || errors.Is(err, authority.ErrConflict) {
			t.Errorf("%s: %v, want an error that decides nothing", verb, err)
		}
	}
}

// What the API server does while it is away is an error that decides nothing; when
// it is back, everything is as it was.
func TestServerAway(t *testing.T) {
	ctx, server := t.Context(), start(t)
	claims := open(t, server.Config()).Claims()
	version, err := claims.Create(ctx, "k", authority.Claim{Name: "n"})
	if err != nil {
		t.Fatal(err)
	}
	server.Stop()
	_, create := claims.Create(ctx, "l", authority.Claim{})
	_, _, get := claims.Get(ctx, "k")
	_, update := claims.Update(ctx, "k", authority.Claim{}, version)
	for verb, err := range map[string]error{"Create": create, "Get": get, "Update": update, "Delete": claims.Delete(ctx, "k", version)} {
		if err == nil || errors.Is(err, authority.ErrNotFound) || errors.Is(err, authority.ErrConflict) || errors.Is(err, authority.ErrExists) {
			t.Errorf("%s: %v, want an error that decides nothing", verb, err)
		}
	}
	server.Resume()
	if v, now, err := claims.Get(ctx, "k"); err != nil || v.Name != "n" || now != version {
		t.Errorf("when it is back: %+v, %q, %v; want n at %q", v, now, err, version)
	}
}

// An etcd restored from a backup counts its revisions again: a version from the
// time that it forgot must not fit what has its key and its revision since.
func TestRestoredBackup(t *testing.T) {
	ctx, server := t.Context(), start(t)
	claims := open(t, server.Config()).Claims()
	server.Stop()
	server.BackUp()
	server.Resume()
	revision := func(v authority.Version) string { return string(v[strings.Index(string(v), "/"):]) }
	// live makes a record and changes it. The API server stores something, too, so that not
	// each of its revisions comes again.
	live := func(at func(authority.Version)) {
		t.Helper()
		version, err := claims.Create(ctx, "k", authority.Claim{})
		for i := 0; err == nil && i < 200; i++ {
			at(version)
			version, err = claims.Update(ctx, "k", authority.Claim{Name: "in time"}, version)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	forgotten := map[string]authority.Version{}
	live(func(v authority.Version) { forgotten[revision(v)] = v })
	server.Stop()
	server.Restore()
	server.Resume()
	if _, _, err := claims.Get(ctx, "k"); !errors.Is(err, authority.ErrNotFound) {
		t.Fatalf("after the restore: %v, want ErrNotFound", err)
	}
	again := 0
	live(func(v authority.Version) {
		old, is := forgotten[revision(v)]
		if !is {
			return
		}
		again++
		if _, err := claims.Update(ctx, "k", authority.Claim{Name: "late"}, old); !errors.Is(err, authority.ErrConflict) {
			t.Fatalf("an update from before the restore, at %s: %v, want ErrConflict", v, err)
		}
		if err := claims.Delete(ctx, "k", old); !errors.Is(err, authority.ErrConflict) {
			t.Fatalf("a deletion from before the restore, at %s: %v, want ErrConflict", v, err)
		}
	})
	if again == 0 {
		t.Error("no revision came again: nothing is proved")
	}
}

// A listing asks for each record once, and goes on where it was when the API server
// has forgotten the state that it began with. A place that is gone is told.
func TestListingGoesOn(t *testing.T) {
	const n = 1203
	sent, forgotten := 0, true
	claims := serving(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		from, limit := 0, 0
		fmt.Sscan(r.FormValue("limit"), &limit)
		switch token := r.FormValue("continue"); {
		case token == "lost":
			w.WriteHeader(http.StatusGone)
			io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410}`)
			return
		case token == "at 500" && forgotten:
			forgotten = false
			w.WriteHeader(http.StatusGone)
			io.WriteString(w, `{"kind":"Status","apiVersion":"v1","metadata":{"continue":"at 500 now"},"status":"Failure","reason":"Expired","code":410}`)
			return
		case token != "":
			fmt.Sscanf(token, "at %d", &from)
		}
		var items []string
		for i := from; i < min(from+limit, n); i++ {
			items = append(items, strings.Replace(good, `"name":"k"`, fmt.Sprintf(`"name":"k%04d"`, i), 1))
		}
		next := ""
		if sent += len(items); from+limit < n {
			next = fmt.Sprintf("at %d", from+limit)
		}
		fmt.Fprintf(w, `{"metadata":{"continue":%q},"items":[%s]}`, next, strings.Join(items, ","))
	}).Claims()
	seen := 0
	for row, err := range authority.All(t.Context(), claims) {
		if want := fmt.Sprintf("k%04d", seen); err != nil || row.Key != want {
			t.Fatalf("row %d is %q, %v", seen, row.Key, err)
		}
		seen++
	}
	if seen != n || sent != n || forgotten {
		t.Errorf("%d of %d records, %d were sent; the state was forgotten: %v", seen, n, sent, !forgotten)
	}
	if _, _, err := claims.List(t.Context(), "lost", 1); !errors.Is(err, authority.ErrPlace) {
		t.Errorf("from a place that is gone: %v, want ErrPlace", err)
	}
}

const good = `{"apiVersion":"swiftblock.dev/v1alpha1","kind":"SwiftblockClaim",
	"metadata":{"name":"k","uid":"u","resourceVersion":"1"},
	"format":1,"revision":"r","record":{"name":"n","id":"i","created":"2026-01-02T03:04:05Z"}}`

// Records that this release cannot read whole are errors, not records.
func TestDamagedRecords(t *testing.T) {
	for name, c := range map[string]struct {
		body string
		want error
	}{
		"good":           {good, nil},
		"another format": {replaced(`"format":1`, `"format":2`), authority.ErrDamaged},
		"unknown field":  {replaced(`"id":"i"`, `"id":"i","colour":"blue"`), authority.ErrDamaged},
		"no record":      {replaced(`"record"`, `"spec"`), authority.ErrDamaged},
		"another key":    {replaced(`"name":"k"`, `"name":"l"`), authority.ErrDamaged},
		"no version":     {replaced(`"resourceVersion":"1"`, `"resourceVersion":""`), authority.ErrDamaged},
		"no JSON":        {"<html>", authority.ErrDamaged},
	} {
		server := answering(t, http.StatusOK, c.body)
		if _, _, err := server.Claims().Get(t.Context(), "k"); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func replaced(from, to string) string { return strings.Replace(good, from, to, 1) }

// A write whose outcome is unknown is not sent again: the second would find the
// first's record and report another creator.
func TestWritesAreSentOnce(t *testing.T) {
	sent := map[string]int{}
	server := serving(t, func(w http.ResponseWriter, r *http.Request) {
		sent[r.Method]++
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	ctx, claims := t.Context(), server.Claims()
	_, create := claims.Create(ctx, "k", authority.Claim{})
	_, update := claims.Update(ctx, "k", authority.Claim{}, "u/1")
	for verb, err := range map[string]error{http.MethodPost: create, http.MethodPut: update, http.MethodDelete: claims.Delete(ctx, "k", "u/1")} {
		if err == nil || sent[verb] != 1 {
			t.Errorf("%s was sent %d times: %v", verb, sent[verb], err)
		}
	}
}

func answering(t *testing.T, code int, body string) *kube.Authority {
	return serving(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		io.WriteString(w, body)
	})
}

func serving(t *testing.T, answer http.HandlerFunc) *kube.Authority {
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	return open(t, &rest.Config{Host: server.URL})
}
