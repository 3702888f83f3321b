package swifttest

import (
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/embedded"
)

func TestEmbedded(t *testing.T) {
	t.Log("store: embedded server, files, loopback HTTP")
	Conformance(t, func(t testing.TB) swift.Store {
		client, _ := NewServer(t, embedded.Options{})
		return client
	})
}

func TestRealSwift(t *testing.T) {
	store := NewRealStore(t)
	Conformance(t, func(testing.TB) swift.Store { return store })
}
