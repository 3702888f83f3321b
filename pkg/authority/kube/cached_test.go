package kube_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/authority/kube"
)

// fromCache reports whether the API server may answer a request from its cache, which
// lags behind, and removes from the query what says so.
func fromCache(query url.Values) bool {
	named := query.Has("resourceVersion") || query.Has("resourceVersionMatch")
	query.Del("resourceVersion")
	query.Del("resourceVersionMatch")
	return named
}

// lagging is a cache that never catches up: what may be answered from it gets the first
// answer that was seen to the same request.
type lagging struct {
	mu    sync.Mutex
	first map[string]answer
}

type answer struct {
	head http.Response
	body []byte
}

func (l *lagging) before(server http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.Method != http.MethodGet {
			return server.RoundTrip(r)
		}
		query := r.URL.Query()
		cached := fromCache(query)
		request := r.URL.Path + "?" + query.Encode()
		l.mu.Lock()
		a, known := l.first[request]
		l.mu.Unlock()
		if !known || !cached {
			response, err := server.RoundTrip(r)
			if err != nil {
				return nil, err
			}
			defer response.Body.Close()
			a.head = *response
			if a.body, err = io.ReadAll(response.Body); err != nil {
				return nil, err
			}
		}
		if !known {
			l.mu.Lock()
			l.first[request] = a
			l.mu.Unlock()
		}
		a.head.Body = io.NopCloser(bytes.NewReader(a.body))
		return &a.head, nil
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// An API server's cache does not know a record that was made just now, has one as it was
// and one that is no more: nothing may be answered from it.
func TestReadsAreAsOfNow(t *testing.T) {
	const at = "/apis/swiftblock.dev/v1alpha1/swiftblockclaims"
	now := map[string]string{"changed": "now", "made": "now"} // names by key
	cached := map[string]string{"changed": "once", "deleted": "once"}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query, records := r.URL.Query(), now
		if fromCache(query) {
			t.Errorf("%s %s may be answered from a cache", r.Method, r.URL)
			records = cached
		}
		w.Header().Set("Content-Type", "application/json")
		record := func(key string) string {
			return strings.NewReplacer(`"name":"k"`, `"name":"`+key+`"`, `"name":"n"`, `"name":"`+records[key]+`"`).Replace(good)
		}
		key, one := strings.CutPrefix(r.URL.Path, at+"/")
		switch _, is := records[key]; {
		case !one: // a listing, of one record on each page
			keys := slices.Sorted(maps.Keys(records))
			i := slices.Index(keys, query.Get("continue")) + 1
			fmt.Fprintf(w, `{"metadata":{"continue":%q},"items":[%s]}`, append(keys[:len(keys)-1:len(keys)-1], "")[i], record(keys[i]))
		case is:
			io.WriteString(w, record(key))
		default:
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`)
		}
	}))
	defer server.Close()
	claims := open(t, &rest.Config{Host: server.URL}).Claims()
	for _, key := range []string{"made", "changed"} {
		if v, _, err := claims.Get(t.Context(), key); err != nil || v.Name != "now" {
			t.Errorf("%s: %+v, %v", key, v, err)
		}
	}
	if v, _, err := claims.Get(t.Context(), "deleted"); !errors.Is(err, authority.ErrNotFound) {
		t.Errorf("deleted: %+v, %v; want ErrNotFound", v, err)
	}
	listed := map[string]string{}
	for row, err := range authority.All(t.Context(), claims) {
		if err != nil {
			t.Fatal(err)
		}
		listed[row.Key] = row.Value.Name
	}
	if !maps.Equal(listed, now) {
		t.Errorf("listed: %v", listed)
	}
	board, err := kube.NewBoard(&rest.Config{Host: server.URL}, "test")
	if err == nil {
		err = board.Show(t.Context(), nil)
	}
	if err != nil {
		t.Error(err)
	}
}
