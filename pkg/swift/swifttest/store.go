// Package swifttest helps to test what stands on pkg/swift: stores for tests, the
// suite that every store must pass, and decorators that make a store fail or
// count.
package swifttest

import (
	"os"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/embedded"
)

// NewStore returns an empty file-backed store that lives as long as the test: an
// embedded server in a temporary directory, reached over loopback HTTP by the
// client that production uses.
func NewStore(t testing.TB) swift.Store {
	t.Helper()
	client, _ := NewServer(t, embedded.Options{NoSync: true})
	return client
}

// NewServer is [NewStore] with the server at hand.
func NewServer(t testing.TB, o embedded.Options) (*swift.Client, *embedded.Server) {
	t.Helper()
	server, err := embedded.Start(t.TempDir(), "127.0.0.1:0", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return NewClient(t, Credentials(server)), server
}

// Credentials are what a client of server logs in with.
func Credentials(server *embedded.Server) swift.Credentials {
	return swift.Credentials{Version: 1, AuthURL: server.URL, User: server.User(), Key: server.Key()}
}

// NewClient returns a client with little patience.
func NewClient(t testing.TB, cred swift.Credentials) *swift.Client {
	t.Helper()
	client, err := swift.New(cred, swift.Options{Patience: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// NewRealStore returns the account of a real Swift that ST_AUTH, ST_USER and
// ST_KEY name (hack/swift.sh starts one); without them the test is skipped.
func NewRealStore(t testing.TB) swift.Store {
	t.Helper()
	return NewClient(t, realCredentials(t))
}

func realCredentials(t testing.TB) swift.Credentials {
	t.Helper()
	cred := swift.Credentials{Version: 1, AuthURL: os.Getenv("ST_AUTH"), User: os.Getenv("ST_USER"), Key: os.Getenv("ST_KEY")}
	if cred.AuthURL == "" {
		t.Skip("no real Swift: ST_AUTH is not set (hack/swift.sh up starts one)")
	}
	t.Logf("store: real OpenStack Swift at %s", cred.AuthURL)
	return cred
}
