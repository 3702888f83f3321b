package attach

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/swiftblock/csi-swiftblock/pkg/target"
	"github.com/swiftblock/csi-swiftblock/pkg/volume"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// errLost means that the authority has ended our epoch without us.
var errLost = errors.New("the controller has ended this node's epoch: its journal was set aside")

// over reports whether the controller says that the journal's epoch has ended
// without it, or that the volume is gone. No answer says nothing.
func (e *export) over(ctx context.Context, r *record) bool {
	_, err := e.confirm(ctx, r)
	return ended(err)
}

// ended recognises the controller's word that nobody wants what a journal holds.
func ended(err error) bool {
	code := status.Code(err)
	return code == codes.DataLoss || code == codes.NotFound
}

// close brings the export to its end, from wherever it is. Where the epoch was
// ended without us there is nothing to hand over: the journal is kept.
func (e *export) close(ctx context.Context, r *record) error {
	if r.Reader {
		return e.discard(ctx, r)
	}
	switch r.Stage {
	case revoked:
		return e.discard(ctx, r)
	case confirming:
		// The controller may have opened an epoch for J; there is nothing to publish.
		if err := e.scrap(r); err != nil {
			return err
		}
		r.Stage, r.Last = closed, nil
	case open:
		r.Stage = closing
	}
	if err := e.folder.save(r); err != nil {
		return err
	}
	if r.Stage == closing {
		err := e.drain(ctx, r)
		if errors.Is(err, volume.ErrFenced) || ended(err) {
			return e.abandon(ctx, r)
		}
		if err != nil {
			return err
		}
	}
	_, err := e.config.Controller.Closed(ctx, &wire.ClosedRequest{
		Volume: string(e.id), Node: e.config.Node, Journal: r.Journal, Root: wire.FromRoot(r.Last),
	})
	if ended(err) {
		return e.abandon(ctx, r)
	}
	if err != nil {
		return err
	}
	e.failed = nil
	return e.end(r)
}

// drain takes the LUN away, uploads and publishes, and records the last root.
func (e *export) drain(ctx context.Context, r *record) error {
	if err := e.withdraw(ctx, r); err != nil {
		return err
	}
	if r.Revoke {
		if err := e.offerNothing(r); err != nil {
			return err
		}
	}
	if e.volume == nil {
		v, err := e.openVolume(ctx, r)
		if err != nil {
			return err
		}
		e.record = r
		e.show(v)
	}
	root, err := e.volume.Close(ctx)
	if err != nil {
		return err
	}
	e.show(nil)
	r.Stage, r.Last = closed, new(root.Recorded())
	return e.folder.save(r)
}

// stop takes the LUN away and stops the volume.
func (e *export) stop(ctx context.Context, r *record) error {
	err := e.withdraw(ctx, r)
	if err == nil && e.volume != nil {
		err = e.volume.Stop()
		e.show(nil)
	}
	return err
}

// withdraw takes the target away, if it is there.
func (e *export) withdraw(ctx context.Context, r *record) error {
	if e.target = ""; e.volume != nil {
		e.show(e.volume) // from now on nobody has to be logged in
	}
	err := e.config.Portal.RemoveTarget(ctx, r.iqn())
	if errors.Is(err, target.ErrNoTarget) {
		return nil
	}
	return err
}

// abandon stops serving an epoch that is over and keeps its journal.
func (e *export) abandon(ctx context.Context, r *record) error {
	e.config.Log.Error("the volume went on without this node: its journal is set aside", "volume", e.id, "epoch", r.Epoch, "journal", e.folder.lostPath(r.Epoch))
	err := e.stop(ctx, r)
	switch {
	case err != nil:
	case r.Stage == confirming:
		err = e.scrap(r)
	default:
		err = e.folder.setAside(r)
	}
	if err == nil {
		err = e.end(r)
	}
	return err
}

// reopen takes back a closing that has not come to its end.
func (e *export) reopen(ctx context.Context, r *record) error {
	if err := e.stop(ctx, r); err != nil {
		return err
	}
	r.Stage, r.Boot, r.Revoke = open, e.config.Boot, false
	return e.folder.save(r)
}
