package driver

import (
	"cmp"
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/trust"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// Nodes reaches the export processes for the catalog. Calls are rare, so each
// has a connection of its own and none can be stale.
type Nodes struct {
	// ConnectTimeout is how long a node may take to accept a connection before
	// it counts as unreachable, also where it refuses them, which it does while its
	// export process is started again; 0 is 10 seconds.
	ConnectTimeout time.Duration
	// Keys are for nodes that are reached over the network; nil: there are none.
	Keys *trust.Keys
}

var _ catalog.Nodes = Nodes{}

// sealMargin is how much earlier than its caller a node gives up to wait for the
// publication of a cut, so that what it says of the progress arrives.
const sealMargin = time.Second

// Seal cuts v for snapshot s.
func (n Nodes) Seal(ctx context.Context, endpoint string, v ident.Volume, s ident.Snapshot) (cut catalog.Cut, err error) {
	err = n.call(ctx, endpoint, func(exports wire.ExportsClient) error {
		q := &wire.SealRequest{Volume: string(v), Snapshot: string(s)}
		if deadline, ok := ctx.Deadline(); ok {
			q.WaitMs = max(1, time.Until(deadline.Add(-sealMargin)).Milliseconds())
		}
		answer, err := exports.Seal(ctx, q)
		if err != nil {
			return err
		}
		root, err := answer.GetRoot().Record()
		if err != nil {
			return err
		}
		if root == nil {
			return fmt.Errorf("the cut names no root")
		}
		cut = catalog.Cut{Root: *root, Size: answer.GetSize()}
		return nil
	})
	return cut, err
}

// Handover makes the node upload and close v, whoever uses it there.
func (n Nodes) Handover(ctx context.Context, endpoint string, v ident.Volume) error {
	return n.call(ctx, endpoint, func(exports wire.ExportsClient) error {
		_, err := exports.Detach(ctx, &wire.DetachRequest{Volume: string(v), Revoke: true})
		return err
	})
}

// Modify gives v's node the parameters that it has now.
func (n Nodes) Modify(ctx context.Context, endpoint string, v ident.Volume, parameters map[string]string) error {
	return n.call(ctx, endpoint, func(exports wire.ExportsClient) error {
		_, err := exports.Modify(ctx, &wire.ModifyRequest{Volume: string(v), Parameters: parameters})
		return err
	})
}

// Ask asks the node how v fares, and what an administrator must know of it.
func (n Nodes) Ask(ctx context.Context, endpoint string, v ident.Volume) (answer *wire.StatusResponse, err error) {
	err = n.call(ctx, endpoint, func(exports wire.ExportsClient) (err error) {
		answer, err = exports.Status(ctx, &wire.StatusRequest{Volume: string(v)})
		return err
	})
	return answer, err
}

// call connects first and asks then: a node that answers "Swift is unavailable", or
// whose certificate is not good, is not unreachable, and what it holds must not be
// given up (R6).
func (n Nodes) call(ctx context.Context, endpoint string, f func(wire.ExportsClient) error) error {
	var wrong atomic.Pointer[error]
	conn, err := n.Keys.Dial(endpoint, func(err error) { wrong.Store(&err) })
	if err != nil {
		return fmt.Errorf("node at %s: %w", endpoint, err)
	}
	defer conn.Close()
	if err := n.connect(ctx, conn, &wrong); err != nil {
		if w := wrong.Load(); w != nil {
			err = status.Errorf(codes.Unavailable, "somebody else answers: %v", *w)
		}
		return fmt.Errorf("node at %s: %w", endpoint, err)
	}
	if err := f(wire.NewExportsClient(conn)); err != nil {
		if status.Code(err) == codes.NotFound {
			// It does not serve the volume now. To a caller of ours that would say
			// that there is no such volume, and that is final.
			err = status.Error(codes.Unavailable, status.Convert(err).Message())
		}
		return fmt.Errorf("node at %s: %w", endpoint, err)
	}
	return nil
}

// connect returns once the connection stands, or as soon as somebody else answers.
func (n Nodes) connect(ctx context.Context, conn *grpc.ClientConn, wrong *atomic.Pointer[error]) error {
	patience, cancel := context.WithTimeout(ctx, cmp.Or(n.ConnectTimeout, 10*time.Second))
	defer cancel()
	for {
		conn.Connect()
		state := conn.GetState()
		if state == connectivity.Ready {
			return nil
		}
		if wrong.Load() != nil || !conn.WaitForStateChange(patience, state) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return catalog.ErrUnreachable
		}
	}
}
