package swift_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/embedded"
)

const container = "c"

// unhurried is how long a busy machine may take for what ends by itself in ten seconds at
// most; what does not end by itself takes far longer.
const unhurried = 45 * time.Second

// rig is a client and an embedded server with a hand on the way between them.
type rig struct {
	*swift.Client
	cred  swift.Credentials
	inner *embedded.Handler
	// meddle sees every request but log-ins first; it returns true if it answered.
	meddle atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
	logIns atomic.Int64
}

func newRig(t *testing.T, o swift.Options) *rig {
	t.Helper()
	inner, err := embedded.Open(t.TempDir(), embedded.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { inner.Close() })
	r := &rig{inner: inner}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.cred = swift.Credentials{Version: 1, AuthURL: server.URL + "/auth/v1.0", User: inner.User(), Key: inner.Key()}
	r.Client = newClient(t, r.cred, o)
	if err := r.CreateContainer(t.Context(), container); err != nil {
		t.Fatal(err)
	}
	return r
}

func newClient(t *testing.T, cred swift.Credentials, o swift.Options) *swift.Client {
	t.Helper()
	client, err := swift.New(cred, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func (r *rig) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if strings.HasPrefix(req.URL.Path, "/auth") {
		r.logIns.Add(1)
	} else if m := r.meddle.Load(); m != nil && (*m)(w, req) {
		return
	}
	r.inner.ServeHTTP(w, req)
}

// next lets f answer the next n requests of a method.
func (r *rig) next(n int64, method string, f http.HandlerFunc) {
	var seen atomic.Int64
	m := func(w http.ResponseWriter, req *http.Request) bool {
		if req.Method != method || seen.Add(1) > n {
			return false
		}
		f(w, req)
		return true
	}
	r.meddle.Store(&m)
}

func (r *rig) put(t *testing.T, name string, body []byte) {
	t.Helper()
	if _, err := r.Put(t.Context(), container, name, body, swift.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<h1>Sorry</h1> no", code) }
}

func drop(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func TestPassingFailuresAreRepeated(t *testing.T) {
	r := newRig(t, swift.Options{})
	r.put(t, "o", []byte("hello"))
	for _, code := range []int{408, 429, 498, 500, 502, 503, 504, 507} {
		r.next(1, http.MethodGet, status(code))
		if obj, err := r.Get(t.Context(), container, "o", swift.GetOptions{}); err != nil || string(obj.Body) != "hello" {
			t.Errorf("get after %d: %q, %v", code, obj.Body, err)
		}
	}
	r.next(1, http.MethodPut, drop)
	r.put(t, "o", []byte("other"))
	r.next(1, http.MethodPut, status(422)) // damaged on its way
	r.put(t, "o", []byte("third"))
}

func TestPatienceEnds(t *testing.T) {
	r := newRig(t, swift.Options{Patience: 300 * time.Millisecond})
	r.next(1000, http.MethodGet, status(503))
	start := time.Now()
	_, err := r.Get(t.Context(), container, "o", swift.GetOptions{})
	var e *swift.Error
	if !errors.Is(err, swift.ErrUnavailable) || !errors.As(err, &e) || e.Status != 503 || e.Object != "o" {
		t.Errorf("%v", err)
	}
	if want := "get c/o: object store unavailable (HTTP status 503): Sorry no; check that the store runs"; err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want it to say %q", err, want)
	}
	if d := time.Since(start); d < 200*time.Millisecond || d > unhurried {
		t.Errorf("gave up after %v", d)
	}
}

func TestFinalFailuresAreNotRepeated(t *testing.T) {
	r := newRig(t, swift.Options{})
	for code, want := range map[int]error{400: swift.ErrRejected, 403: swift.ErrUnauthorized, 413: swift.ErrQuota} {
		var requests atomic.Int64
		r.next(1000, http.MethodPut, func(w http.ResponseWriter, req *http.Request) {
			requests.Add(1)
			status(code)(w, req)
		})
		_, err := r.Put(t.Context(), container, "o", []byte("x"), swift.PutOptions{})
		if !errors.Is(err, want) || requests.Load() != 1 {
			t.Errorf("%d: %v after %d requests, want %v", code, err, requests.Load(), want)
		}
	}
}

// When the token ends, many callers log in once between them.
func TestOneLogInForAll(t *testing.T) {
	const callers = 16
	r := newRig(t, swift.Options{Concurrency: callers})
	var expired sync.Map // what was asked for with the first token, which is refused
	var arrived sync.WaitGroup
	arrived.Add(callers)
	m := func(w http.ResponseWriter, req *http.Request) bool {
		if _, seen := expired.LoadOrStore(req.URL.Path, true); seen {
			return false
		}
		arrived.Done()
		arrived.Wait() // all have been sent
		status(http.StatusUnauthorized)(w, req)
		return true
	}
	r.meddle.Store(&m)
	before := r.logIns.Load()
	var wg sync.WaitGroup
	body := bytes.Repeat([]byte("x"), 100_000)
	for i := range callers {
		wg.Go(func() {
			name := fmt.Sprint(i)
			if _, err := r.Put(t.Context(), container, name, body, swift.PutOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := r.logIns.Load() - before; n != 1 {
		t.Errorf("%d log-ins, want 1", n)
	}
}

// A store that refuses every second request, log-ins too, though nothing is wrong with
// the credentials, is one that has a passing trouble.
func TestRefusalsThatPass(t *testing.T) {
	r := newRig(t, swift.Options{})
	if err := r.CreateContainer(t.Context(), container); err != nil {
		t.Fatal(err)
	}
	var n atomic.Int64
	m := func(w http.ResponseWriter, req *http.Request) bool {
		if n.Add(1)%2 == 0 {
			return false
		}
		status(http.StatusUnauthorized)(w, req)
		return true
	}
	r.meddle.Store(&m)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 8 {
				if _, err := r.Put(t.Context(), container, fmt.Sprint(i, j), []byte("x"), swift.PutOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// A key that is good no more is refused soon, and without many log-ins: an identity
// service may lock the user out.
func TestKeyThatEnded(t *testing.T) {
	v, server := newVault(t, "first")
	cred := swift.Credentials{Version: 1, AuthURL: server.URL + "/auth/v1.0", User: v.inner.User(), Key: "first"}
	client := newClient(t, cred, swift.Options{})
	if err := client.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	v.accept()
	v.endTokens()
	began := time.Now()
	if err := client.Check(t.Context()); !errors.Is(err, swift.ErrUnauthorized) {
		t.Error(err)
	}
	if took := time.Since(began); took > unhurried {
		t.Errorf("refused after %v", took)
	}
	if n := v.asked(); n > 9 { // the one that was good, and four for which ncw asks twice
		t.Errorf("%d log-ins", n)
	}
}

func TestWrongKey(t *testing.T) {
	r := newRig(t, swift.Options{})
	cred := r.cred
	cred.Key = "SECRET"
	client := newClient(t, cred, swift.Options{})
	start := time.Now()
	err := client.Check(t.Context())
	if !errors.Is(err, swift.ErrUnauthorized) || time.Since(start) > unhurried {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	if s := fmt.Sprintf("%v %+v", err, err); strings.Contains(s, "SECRET") || !strings.Contains(s, "check user, key and project") {
		t.Errorf("%s", s)
	}
	// The credentials are read again for the next log-in.
	good := r.cred
	client = newClient(t, cred, swift.Options{Reload: func() (swift.Credentials, error) { return good, nil }})
	if err := client.Check(t.Context()); !errors.Is(err, swift.ErrUnauthorized) {
		t.Errorf("first: %v", err)
	}
	if err := client.Check(t.Context()); err != nil {
		t.Errorf("after the change: %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close() // nobody listens there now
	cred := swift.Credentials{Version: 1, AuthURL: "http://" + l.Addr().String() + "/auth/v1.0", User: "u", Key: "k"}
	err = newClient(t, cred, swift.Options{Patience: -1}).Check(t.Context())
	if !errors.Is(err, swift.ErrUnavailable) || !strings.Contains(err.Error(), "this host reaches it") {
		t.Errorf("%v", err)
	}
}

func TestStalledAnswer(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift.Options{})
	impatient := newClient(t, r.cred, swift.Options{Stall: 2 * time.Second, Patience: -1})
	body := bytes.Repeat([]byte("x"), 1<<20)
	r.put(t, "o", body)
	r.next(1, http.MethodGet, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		w.Write(body[:1000])
		w.(http.Flusher).Flush()
		<-req.Context().Done()
	})
	start := time.Now()
	_, err := impatient.Get(t.Context(), container, "o", swift.GetOptions{})
	if !errors.Is(err, swift.ErrUnavailable) || !strings.Contains(err.Error(), "no progress for 2s") {
		t.Errorf("%v", err)
	}
	if d := time.Since(start); d > unhurried {
		t.Errorf("after %v", d)
	}
	if _, err := impatient.Get(t.Context(), container, "o", swift.GetOptions{}); err != nil {
		t.Errorf("the next: %v", err)
	}
}

// A slow answer that moves is no stalled one.
func TestSlowAnswer(t *testing.T) {
	t.Parallel()
	const stall = 2 * time.Second
	r := newRig(t, swift.Options{})
	impatient := newClient(t, r.cred, swift.Options{Stall: stall, Patience: -1})
	r.next(1, http.MethodGet, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Length", "8")
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		for range 8 {
			time.Sleep(stall / 6)
			w.Write([]byte("x"))
			w.(http.Flusher).Flush()
		}
	})
	if obj, err := impatient.Get(t.Context(), container, "o", swift.GetOptions{}); err != nil || len(obj.Body) != 8 {
		t.Errorf("%q, %v", obj.Body, err)
	}
}

func TestBodyCutShortIsReadAgain(t *testing.T) {
	r := newRig(t, swift.Options{})
	body := bytes.Repeat([]byte("x"), 1<<20)
	r.put(t, "o", body)
	r.next(1, http.MethodGet, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		w.Write(body[:1000])
		panic(http.ErrAbortHandler)
	})
	if obj, err := r.Get(t.Context(), container, "o", swift.GetOptions{}); err != nil || !bytes.Equal(obj.Body, body) {
		t.Errorf("%d bytes, %v", len(obj.Body), err)
	}
}

func TestWrongAnswersAreRefused(t *testing.T) {
	r := newRig(t, swift.Options{})
	r.put(t, "o", []byte("hello"))
	for name, answer := range map[string]http.HandlerFunc{
		"range ignored": func(w http.ResponseWriter, req *http.Request) {
			req.Header.Del("Range")
			r.inner.ServeHTTP(w, req)
		},
		"other range": func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Content-Range", "bytes 1-9/2")
			w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
			w.WriteHeader(http.StatusPartialContent)
			w.Write([]byte("el"))
		},
		"more than asked for": func(w http.ResponseWriter, req *http.Request) {
			req.Header.Set("Range", "bytes=1-4")
			r.inner.ServeHTTP(w, req)
		},
	} {
		r.next(1, http.MethodGet, answer)
		if obj, err := r.Get(t.Context(), container, "o", swift.GetOptions{Off: 1, Len: 2}); !errors.Is(err, swift.ErrRejected) {
			t.Errorf("%s: %+v, %v", name, obj, err)
		}
	}
}

// An answer that is lost after the deed: the repeated request meets it.
func TestLostAnswers(t *testing.T) {
	r := newRig(t, swift.Options{})
	lose := func(method string) {
		r.next(1, method, func(_ http.ResponseWriter, req *http.Request) {
			r.inner.ServeHTTP(httptest.NewRecorder(), req)
			panic(http.ErrAbortHandler)
		})
	}
	lose(http.MethodPut)
	_, err := r.Put(t.Context(), container, "o", []byte("x"), swift.PutOptions{IfNoneMatch: true})
	if !errors.Is(err, swift.ErrExists) {
		t.Errorf("put: %v, want ErrExists", err)
	}
	lose(http.MethodPut)
	r.put(t, "o", []byte("y"))
	lose(http.MethodDelete)
	if err := r.Delete(t.Context(), container, "o"); err != nil {
		t.Errorf("delete: %v", err)
	}
	if err := r.Delete(t.Context(), container, "o"); !errors.Is(err, swift.ErrNotFound) {
		t.Errorf("delete again: %v", err)
	}
}

func TestClusterWithoutBulkDelete(t *testing.T) {
	r := newRig(t, swift.Options{})
	r.put(t, "a", nil)
	r.put(t, "b", nil)
	r.next(1, http.MethodPost, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	if err := r.DeleteMany(t.Context(), container, []string{"a", "absent", "b"}); err != nil {
		t.Error(err)
	}
	if rows, err := r.List(t.Context(), container, "", "", 0); err != nil || len(rows) != 0 {
		t.Errorf("%v, %v left", rows, err)
	}
}

func TestConcurrencyIsBounded(t *testing.T) {
	const bound = 3
	r := newRig(t, swift.Options{Concurrency: bound})
	r.put(t, "o", []byte("x"))
	var now, most atomic.Int64
	arrived, answer := make(chan struct{}, 12), make(chan struct{})
	m := func(http.ResponseWriter, *http.Request) bool {
		for n, old := now.Add(1), most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		arrived <- struct{}{}
		<-answer
		now.Add(-1)
		return false
	}
	r.meddle.Store(&m)
	var wg sync.WaitGroup
	for range cap(arrived) {
		wg.Go(func() { r.Head(t.Context(), container, "o", swift.HeadOptions{}) })
	}
	for range bound {
		<-arrived
	}
	time.Sleep(50 * time.Millisecond) // another one would come
	close(answer)
	wg.Wait()
	if n := most.Load(); n != bound {
		t.Errorf("%d requests at one time, want %d", n, bound)
	}
}

func TestContextEndsAWaitingCall(t *testing.T) {
	r := newRig(t, swift.Options{})
	arrived := make(chan struct{})
	r.next(1, http.MethodGet, func(_ http.ResponseWriter, req *http.Request) {
		close(arrived)
		<-req.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	start := time.Now()
	_, err := r.Get(ctx, container, "o", swift.GetOptions{})
	if !errors.Is(err, context.Canceled) || errors.Is(err, swift.ErrUnavailable) || time.Since(start) > unhurried {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

// keystone answers log-ins of version 3 with a token of the embedded server.
func (r *rig) keystone(t *testing.T, want string) *httptest.Server {
	token := func() (url, token string) {
		rec := httptest.NewRecorder()
		req := httptest.NewRequest(http.MethodGet, r.cred.AuthURL, nil)
		req.Header.Set("X-Auth-User", r.cred.User)
		req.Header.Set("X-Auth-Key", r.cred.Key)
		r.inner.ServeHTTP(rec, req)
		return rec.Header().Get("X-Storage-Url"), rec.Header().Get("X-Auth-Token")
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var got, wanted any
		json.NewDecoder(req.Body).Decode(&got)
		json.Unmarshal([]byte(want), &wanted)
		if req.Method != http.MethodPost || req.URL.Path != "/v3/auth/tokens" || fmt.Sprint(got) != fmt.Sprint(wanted) {
			t.Logf("%s %s %v", req.Method, req.URL, got)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		r.logIns.Add(1)
		url, tok := token()
		w.Header().Set("X-Subject-Token", tok)
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"token": {"expires_at": %q, "catalog": [{"type": "object-store", "endpoints": [
			{"interface": "internal", "region": "one", "url": "http://wrong"},
			{"interface": "public", "region": "one", "url": %q}]}]}}`, time.Now().Add(61*time.Second).UTC().Format(time.RFC3339), url)
	}))
	t.Cleanup(s.Close)
	return s
}

func TestVersion3(t *testing.T) {
	for name, c := range map[string]struct {
		cred swift.Credentials
		body string
	}{
		"password": {
			swift.Credentials{User: "demo", Key: "k", UserDomain: "Default", Project: "p", ProjectDomainID: "d"},
			`{"auth": {"identity": {"methods": ["password"], "password": {"user": {"domain": {"name": "Default"}, "name": "demo", "password": "k"}}},
			  "scope": {"project": {"name": "p", "domain": {"id": "d"}}}}}`,
		},
		"application credential": {
			swift.Credentials{AppID: "4711", AppSecret: "s"},
			`{"auth": {"identity": {"methods": ["application_credential"], "application_credential": {"id": "4711", "secret": "s", "user": {}}}}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, swift.Options{})
			keystone := r.keystone(t, c.body)
			c.cred.Version, c.cred.AuthURL = 3, keystone.URL+"/v3"
			client := newClient(t, c.cred, swift.Options{})
			before := r.logIns.Load()
			if err := client.CreateContainer(t.Context(), "v3"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second) // the token has less than a minute left: a new one is due
			if err := client.Check(t.Context()); err != nil {
				t.Error(err)
			}
			if n := r.logIns.Load() - before; n != 2 {
				t.Errorf("%d log-ins, want 2", n)
			}
			c.cred.Region = "two"
			err := newClient(t, c.cred, swift.Options{}).Check(t.Context())
			if !errors.Is(err, swift.ErrRejected) || !strings.Contains(err.Error(), `region "two"`) {
				t.Errorf("unknown region: %v", err)
			}
		})
	}
}
