package attach

import (
	"context"
	"testing"

	"google.golang.org/grpc"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// mute is a controller that takes reports and does not answer.
type mute struct{ *controller }

func (mute) Published(ctx context.Context, _ *wire.PublishedRequest, _ ...grpc.CallOption) (*wire.PublishedResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// The publication does not wait for a controller that does not answer: the journal
// would fill.
func TestPublicationWithAMuteController(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.exports.config.Controller = mute{n.controller}
	n.attach()
	n.write(5)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := n.exports.Seal(ctx, &wire.SealRequest{Volume: string(n.id), Snapshot: string(ident.NewSnapshot())}); err != nil {
		t.Error(err)
	}
}

// late is a controller that has ended the epoch when it is told of a root.
type late struct {
	*controller
	fence func() // came between the look for it and the root's PUT
}

func (c late) Published(ctx context.Context, q *wire.PublishedRequest, _ ...grpc.CallOption) (*wire.PublishedResponse, error) {
	c.fence()
	c.lose()
	return c.controller.Published(ctx, q)
}

// That the epoch is over, in answer to the report of a root, is heeded at once if there is a
// fence (P6), and the journal keeps what is in that root. Without one the authority is an old
// copy.
func TestReportThatIsRefused(t *testing.T) {
	for _, fenced := range []bool{true, false} {
		n := newNode(t)
		n.exports.config.Controller = late{n.controller, func() {
			if fenced {
				n.put(chunks.FenceName(n.controller.epoch.Number), []byte(n.controller.epoch.String()))
			}
		}}
		n.attach()
		n.write(1)
		_, err := n.exports.Seal(t.Context(), &wire.SealRequest{Volume: string(n.id), Snapshot: string(ident.NewSnapshot()), WaitMs: patience.Milliseconds()})
		if fenced == (err == nil) {
			t.Errorf("fenced %v: seal: %v", fenced, err)
		}
		if err := n.device().WriteAt(t.Context(), make([]byte, 4096), 0, true); fenced == (err == nil) {
			t.Errorf("fenced %v: write: %v", fenced, err)
		}
	}
}
