package attach

import (
	"context"
	"testing"

	"google.golang.org/grpc"

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
	ctx, cancel := context.WithTimeout(t.Context(), 4*reportWait)
	defer cancel()
	if _, err := n.exports.Seal(ctx, &wire.SealRequest{Volume: string(n.id), Snapshot: string(ident.NewSnapshot())}); err != nil {
		t.Error(err)
	}
}
