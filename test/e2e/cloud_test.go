package e2e

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// address is this kernel's, as the other guest and the store's users reach it.
func address() string { return cmp.Or(os.Getenv("E2E_ADDRESS"), "127.0.0.1") }

// cloud stands between the processes and the object store, and answers in its
// place where a test wants it to.
type cloud struct {
	fault    atomic.Pointer[fault]
	requests atomic.Int64
}

// fault answers a request, or reports that the store shall.
type fault func(http.ResponseWriter, *http.Request) (answered bool)

// cloudPort is where processes reach the cloud.
const cloudPort = "18080"

// startCloud passes requests on to the store at authURL.
func startCloud(t *testing.T, authURL string) *cloud {
	t.Helper()
	store, err := url.Parse(authURL)
	if err != nil {
		t.Fatal(err)
	}
	c := &cloud{}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: store.Scheme, Host: store.Host})
			r.Out.URL.Path, r.Out.URL.RawPath = r.In.URL.Path, r.In.URL.RawPath
		},
		ModifyResponse: func(r *http.Response) error {
			if at := r.Header.Get("X-Storage-Url"); at != "" {
				r.Header.Set("X-Storage-Url", strings.Replace(at, store.Host, net.JoinHostPort(address(), cloudPort), 1))
			}
			return nil
		},
		ErrorLog: log.New(io.Discard, "", 0),
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(address(), cloudPort))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.requests.Add(1)
		if f := c.fault.Load(); f == nil || !(*f)(w, r) {
			proxy.ServeHTTP(w, r)
		}
	})}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return c
}

// be makes the cloud faulty until the returned function is called.
func (c *cloud) be(f fault) (better func()) {
	c.fault.Store(&f)
	return func() { c.fault.Store(nil) }
}

// away closes every connection without an answer.
func away(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }

// slow makes each request take longer.
func slow(by time.Duration) fault {
	return func(_ http.ResponseWriter, r *http.Request) bool {
		select {
		case <-time.After(by):
		case <-r.Context().Done():
		}
		return false
	}
}

// failing answers every other request with an error.
func failing(code int) fault {
	var n atomic.Int64
	return func(w http.ResponseWriter, _ *http.Request) bool {
		if n.Add(1)%2 == 0 {
			return false
		}
		w.WriteHeader(code)
		return true
	}
}

// store is the object store itself, for a test to look into.
func (m *machine) store() swift.Store {
	m.t.Helper()
	credentials, err := swift.LoadCredentials("", "")
	if err != nil {
		m.t.Fatal(err)
	}
	store, err := swift.New(credentials, swift.Options{})
	if err != nil {
		m.t.Fatal(err)
	}
	return store
}

// containerPrefix begins the name of every container of ours: the default of --prefix.
const containerPrefix = "swiftblock_"

func (v volume) container() string { return containerPrefix + v.id }

// containers are the names of all containers of volumes in the store.
func (m *machine) containers() []string {
	m.t.Helper()
	names, err := m.store().Containers(m.t.Context(), containerPrefix, "", 0)
	m.must(err)
	return names
}

// objects lists the volume's container; nothing if that is gone.
func (v volume) objects() []swift.Info {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.t.Context(), time.Minute)
	defer cancel()
	list, err := v.store().List(ctx, v.container(), "", "", 0)
	if err != nil && !errors.Is(err, swift.ErrNotFound) {
		v.t.Fatal(err)
	}
	return list
}
