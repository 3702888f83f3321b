package attach

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/embedded"
)

// cloud is a Swift that a fault may answer for.
type cloud struct {
	http.Handler
	fault atomic.Pointer[fault]
	over  chan struct{} // closed when there is none any more
}

// fault tells whether it has answered a request in Swift's place.
type fault func(http.ResponseWriter, *http.Request) bool

func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f := c.fault.Load(); f == nil || !(*f)(w, r) {
		c.Handler.ServeHTTP(w, r)
	}
}

func (c *cloud) fails(f fault) { c.fault.Store(&f) }
func (c *cloud) recovers()     { c.fault.Store(nil); close(c.over) }

// silence breaks every connection.
func silence(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }

// stall takes what is stored, and does not answer until the fault is over.
func (c *cloud) stall(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodPut {
		return false
	}
	io.Copy(io.Discard, r.Body)
	select {
	case <-c.over:
	case <-r.Context().Done():
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	return true
}

// refuseAll knows no token and no key.
func refuseAll(w http.ResponseWriter, _ *http.Request) bool {
	w.WriteHeader(http.StatusUnauthorized)
	return true
}

// noQuota is an account that is full.
func noQuota(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodPut {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
	}
	return r.Method == http.MethodPut
}

// nodeInCloud is a node and its Swift.
type nodeInCloud struct {
	*node
	cloud *cloud
}

func newNodeInCloud(t *testing.T) nodeInCloud {
	t.Helper()
	swiftServer, err := embedded.Open(t.TempDir(), embedded.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { swiftServer.Close() })
	c := &cloud{Handler: swiftServer, over: make(chan struct{})}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	cred := swift.Credentials{Version: 1, AuthURL: server.URL + "/auth/v1.0", User: swiftServer.User(), Key: swiftServer.Key()}
	client, err := swift.New(cred, swift.Options{Patience: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return nodeInCloud{newNodeWith(t, client), c}
}
