package attach

import (
	"context"
	"errors"
	"fmt"

	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/target"
)

// A volume that is taken from the node under its pod (R6) is closed as any other.
// But its target stays, with nothing behind it: an initiator whose target has gone
// would wait for it for ever, and with it the pod, its file system, and whoever
// wants to unmount that. So its commands fail, until it has logged out.

// errRevoked answers every command.
var errRevoked = errors.New("the volume was taken from this node")

// nothing is the device of a target whose volume was taken away.
type nothing struct{ size int64 }

var _ target.Device = nothing{}

func (nothing) fail() error { return fmt.Errorf("%w: %w", target.ErrGone, errRevoked) }

func (n nothing) ReadAt(context.Context, []byte, int64) error           { return n.fail() }
func (n nothing) WriteAt(context.Context, []byte, int64, bool) error    { return n.fail() }
func (n nothing) Flush(context.Context) error                           { return n.fail() }
func (n nothing) Discard(context.Context, int64, int64) error           { return n.fail() }
func (n nothing) WriteZeroes(context.Context, int64, int64, bool) error { return n.fail() }
func (n nothing) Size() int64                                           { return n.size }

// offerNothing registers the target again, with nothing behind it.
func (e *export) offerNothing(r *record) error {
	if err := e.announce(r); err != nil {
		return err
	}
	err := e.config.Portal.SetReady(r.iqn(), target.LUN{Number: lunNumber, Volume: string(e.id), Device: nothing{r.Size}})
	if errors.Is(err, target.ErrExists) { // it is there already
		return nil
	}
	return err
}

// end removes the export when nothing more is to be done for it, but for the
// target that says so.
func (e *export) end(r *record) error {
	e.record = nil
	if !r.Revoke || r.Epoch.IsZero() {
		return errors.Join(e.folder.forget(r), e.forgetKeys(), e.forgetWitness(r))
	}
	r.Stage = revoked
	if err := e.folder.save(r); err != nil {
		return err
	}
	if err := e.folder.empty(r); err != nil {
		return err
	}
	return e.offerNothing(r)
}

// forgetWitness removes what is known on /run of a journal that has gone, or was set
// aside: each takes 4 KiB of memory.
func (e *export) forgetWitness(r *record) error {
	if r.Epoch.IsZero() {
		return nil
	}
	return delta.Forget(e.config.RunDir, delta.Identity{Volume: e.id, Epoch: r.Epoch})
}

// rebooted records that no initiator is logged in any more, and that perhaps
// nobody will stage the volume here again: what is open is to be closed (R6).
func (e *export) rebooted(r *record) error {
	r.Revoke = false
	if r.Stage == open {
		r.Stage = closing
	}
	return e.folder.save(r)
}
