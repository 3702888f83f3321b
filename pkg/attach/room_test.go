package attach

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// The journals of all volumes fit into the budget, or the volume is refused and
// may go to another node at once.
func TestRoomForJournals(t *testing.T) {
	n := newNode(t)
	n.exports.config.Budget = 600 << 20 // one of 512 MiB
	n.attach()
	other := ident.NewVolume()
	n.controller.mu.Lock()
	n.controller.open = false // the fake knows one volume
	n.controller.mu.Unlock()
	_, err := n.exports.Attach(t.Context(), &wire.AttachRequest{Volume: string(other)})
	if status.Code(err) != codes.ResourceExhausted {
		t.Fatalf("a second journal: %v; want RESOURCE_EXHAUSTED", err)
	}
	if n.controller.isOpen() {
		t.Error("the epoch of the volume that was refused stays open")
	}
	room, err := n.exports.Room(t.Context(), &wire.RoomRequest{})
	if err != nil || room.GetBudget() != 600<<20 || room.GetReserved() != 512<<20 {
		t.Errorf("room %v, %v", room, err)
	}
	if err := n.exports.export(n.id).reserve(512 << 20); err != nil {
		t.Errorf("a volume is counted beside itself: %v", err)
	}
}
