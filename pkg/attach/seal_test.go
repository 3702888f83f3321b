package attach

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// A snapshot whose upload takes longer than its caller waits says how far it is, and
// the next call gets the same cut.
func TestSealTellsItsProgress(t *testing.T) {
	n := newNode(t)
	n.attach()
	n.write(7)
	n.store.set(false)
	q := &wire.SealRequest{Volume: string(n.id), Snapshot: string(ident.NewSnapshot()), WaitMs: 2000}
	_, err := n.exports.Seal(t.Context(), q)
	if s := status.Convert(err); s.Code() != codes.DeadlineExceeded || !strings.Contains(s.Message(), "8192 bytes of the volume are not in Swift yet") {
		t.Errorf("with Swift away: %v", err)
	} else if strings.Count(s.Message(), string(n.id)) != 1 {
		t.Errorf("it does not name the volume once: %v", err)
	}
	n.write(8)
	n.store.set(true)
	q.WaitMs = 0
	first, err := n.exports.Seal(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := n.exports.Seal(t.Context(), q); err != nil || !proto.Equal(first, again) {
		t.Errorf("the same snapshot is cut at %v and at %v, %v", first.GetRoot(), again.GetRoot(), err)
	}
}
