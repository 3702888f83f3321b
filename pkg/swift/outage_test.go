package swift_test

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/internal/gather"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// While the store is away its callers wait and it sees only probes; when it is back
// they all go on, and none has failed.
func TestOutage(t *testing.T) {
	r := newRig(t, swift.Options{Concurrency: 16})
	r.put(t, "o", []byte("hello"))
	const callers = 50
	var asked atomic.Int64
	outage := func(w http.ResponseWriter, req *http.Request) bool {
		asked.Add(1)
		status(http.StatusServiceUnavailable)(w, req)
		return true
	}
	r.meddle.Store(&outage)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			if obj, err := r.Get(t.Context(), container, "o", swift.GetOptions{}); err != nil || string(obj.Body) != "hello" {
				t.Errorf("%q, %v", obj.Body, err)
			}
		})
	}
	broken := func() float64 { return gather.Values(t, r.Client)["swiftblock_store_broken reading"] }
	for limit := time.Now().Add(unhurried); broken() != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("the metrics do not say so")
		}
	}
	time.Sleep(2 * time.Second)
	// What was on its way when the eighth failed, and a handful of probes.
	if n := asked.Load(); n < 8 || n > 8+16+8 {
		t.Errorf("%d requests while the store was away", n)
	}
	r.meddle.Store(nil)
	wg.Wait()
	if broken() != 0 {
		t.Error("the metrics say that it is away still")
	}
}

// Who does not want to wait for ever hears why it waited.
func TestPatienceEndsDuringAnOutage(t *testing.T) {
	r := newRig(t, swift.Options{Patience: 500 * time.Millisecond})
	r.next(1000, http.MethodGet, status(503))
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			start := time.Now()
			_, err := r.Get(t.Context(), container, "o", swift.GetOptions{})
			if !errors.Is(err, swift.ErrUnavailable) || !strings.Contains(err.Error(), "HTTP status 503") {
				t.Errorf("%v", err)
			}
			if d := time.Since(start); d > unhurried {
				t.Errorf("after %v", d)
			}
		})
	}
	wg.Wait()
}

// An object that cannot be read does not hold up the others.
func TestOneSickObjectIsNoOutage(t *testing.T) {
	r := newRig(t, swift.Options{Patience: 4 * time.Second})
	r.put(t, "o", []byte("hello"))
	sick := func(w http.ResponseWriter, req *http.Request) bool {
		if strings.HasSuffix(req.URL.Path, "/sick") {
			status(http.StatusServiceUnavailable)(w, req)
			return true
		}
		return false
	}
	r.meddle.Store(&sick)
	var wg sync.WaitGroup
	for range 3 { // more failures in all than an outage has, and fewer at a time
		wg.Go(func() {
			if _, err := r.Get(t.Context(), container, "sick", swift.GetOptions{}); !errors.Is(err, swift.ErrUnavailable) {
				t.Errorf("%v", err)
			}
		})
	}
	ended := make(chan struct{})
	go func() { wg.Wait(); close(ended) }()
	for over := false; !over; {
		start := time.Now()
		if _, err := r.Get(t.Context(), container, "o", swift.GetOptions{}); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("took %v", d)
		}
		if gather.Values(t, r.Client)["swiftblock_store_broken reading"] != 0 {
			t.Fatal("that is taken for an outage")
		}
		select {
		case <-ended:
			over = true
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestNewestAsksAllReplicas(t *testing.T) {
	r := newRig(t, swift.Options{})
	r.put(t, "o", []byte("hello"))
	var newest atomic.Int64
	look := func(_ http.ResponseWriter, req *http.Request) bool {
		if req.Header.Get("X-Newest") == "true" {
			newest.Add(1)
		}
		return false
	}
	r.meddle.Store(&look)
	for _, yes := range []bool{true, false} {
		if _, err := r.Get(t.Context(), container, "o", swift.GetOptions{Newest: yes}); err != nil {
			t.Error(err)
		}
		if _, err := r.Head(t.Context(), container, "o", swift.HeadOptions{Newest: yes}); err != nil {
			t.Error(err)
		}
	}
	if n := newest.Load(); n != 2 {
		t.Errorf("%d of 2 requests asked for the newest", n)
	}
}
