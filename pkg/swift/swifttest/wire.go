package swifttest

import (
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/embedded"
)

// WireFaults are the probabilities, from 0 to 1, of what may happen to a request
// on its way: all of it the client has to hide.
type WireFaults struct {
	Expired float64 // 401: the token has ended; once for each kind of request
	Refused float64 // 408, 429, 498, 500, 502, 503 or 504
	Dropped float64 // the connection ends before anything was done
	Lost    float64 // it ends after everything was done
	Cut     float64 // GET: it ends in the middle of the answer's body
}

var refusals = []int{408, 429, 498, 500, 502, 503, 504}

// wire is a server with faults on the way to it. Like those of a [FaultyStore]
// they follow from the seed, the request and how many such requests there were.
type wire struct {
	inner  http.Handler
	seed   uint64
	faults WireFaults

	mu      sync.Mutex
	calls   map[string]uint64 // by method and path
	expired map[string]bool   // by the same: a client logs in anew once for a call
	met     map[string]int
}

// NewStoreOverWire is [NewStore] with faults between client and server; met says
// how often each of them has happened.
func NewStoreOverWire(t testing.TB, seed uint64, f WireFaults) (store swift.Store, met func() map[string]int) {
	t.Helper()
	handler, err := embedded.Open(t.TempDir(), embedded.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { handler.Close() })
	w := &wire{inner: handler, seed: seed, faults: f, calls: map[string]uint64{}, expired: map[string]bool{}, met: map[string]int{}}
	server := httptest.NewServer(w)
	t.Cleanup(server.Close)
	cred := swift.Credentials{Version: 1, AuthURL: server.URL + "/auth/v1.0", User: handler.User(), Key: handler.Key()}
	return NewClient(t, cred), w.count
}

func (w *wire) count() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.met)
}

// draw decides what happens to a request, "" for nothing. The random source that
// it returns belongs to the fault.
func (w *wire) draw(r *http.Request) (string, *rand.Rand) {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := r.Method + " " + r.URL.Path
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %d", key, w.calls[key])
	w.calls[key]++
	source := rand.New(rand.NewPCG(w.seed, h.Sum64()))
	x := source.Float64()
	for _, fault := range []struct {
		kind string
		p    float64
	}{
		{"expired", w.faults.Expired},
		{"refused", w.faults.Refused},
		{"dropped", w.faults.Dropped},
		{"lost", w.faults.Lost},
		{"cut", w.faults.Cut},
	} {
		if x -= fault.p; x >= 0 {
			continue
		}
		if fault.kind == "expired" && w.expired[key] || fault.kind == "cut" && r.Method != http.MethodGet {
			break
		}
		w.expired[key] = w.expired[key] || fault.kind == "expired"
		w.met[fault.kind]++
		return fault.kind, source
	}
	return "", nil
}

// ServeHTTP implements [http.Handler]. Log-ins always succeed.
func (w *wire) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/auth") {
		w.inner.ServeHTTP(rw, r)
		return
	}
	kind, source := w.draw(r)
	switch kind {
	case "expired":
		http.Error(rw, "the test says so", http.StatusUnauthorized)
	case "refused":
		http.Error(rw, "the test says so", refusals[source.IntN(len(refusals))])
	case "dropped":
		panic(http.ErrAbortHandler)
	case "lost":
		w.inner.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	case "cut":
		answer := httptest.NewRecorder()
		w.inner.ServeHTTP(answer, r)
		maps.Copy(rw.Header(), answer.Header())
		rw.Header().Set("Content-Length", strconv.Itoa(answer.Body.Len()))
		rw.WriteHeader(answer.Code)
		rw.Write(answer.Body.Bytes()[:source.IntN(answer.Body.Len()+1)])
		panic(http.ErrAbortHandler)
	default:
		w.inner.ServeHTTP(rw, r)
	}
}
