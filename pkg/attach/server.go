package attach

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/swiftblock/csi-swiftblock/pkg/class"
	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/volume"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

var (
	errBusy        = errors.New("another call on this volume is under way")
	errNotAttached = errors.New("the volume is not attached to this node")
)

// Register adds the service to a server.
func (x *Exports) Register(s grpc.ServiceRegistrar) { wire.RegisterExportsServer(s, x) }

// Attach implements [wire.ExportsServer].
func (x *Exports) Attach(ctx context.Context, q *wire.AttachRequest) (*wire.Attachment, error) {
	var a *wire.Attachment
	err := x.change("attach", q.Volume, func(e *export) (err error) {
		a, err = e.attach(ctx, q)
		return err
	})
	return a, err
}

// Detach implements [wire.ExportsServer].
func (x *Exports) Detach(ctx context.Context, q *wire.DetachRequest) (*wire.DetachResponse, error) {
	err := x.change("detach", q.Volume, func(e *export) error {
		r, err := e.folder.load()
		if err != nil || r == nil {
			return err
		}
		if r.Stage == revoked && q.Revoke {
			return nil
		}
		r.Revoke = q.Revoke
		return e.close(ctx, r)
	})
	return &wire.DetachResponse{}, err
}

// Seal implements [wire.ExportsServer]. It waits for the upload without the lock:
// that may take long, and whoever stages, unstages or modifies the volume, be it to
// make the upload faster, must not wait for it.
func (x *Exports) Seal(ctx context.Context, q *wire.SealRequest) (*wire.SealResponse, error) {
	if q.WaitMs > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(q.WaitMs)*time.Millisecond)
		defer cancel()
	}
	var v *volume.Volume
	var gen uint64
	err := x.write("seal", q.Volume, func(e *export) error {
		id, err := ident.ParseSnapshot(q.Snapshot)
		if err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		v = e.volume
		gen, err = v.Seal(ctx, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	cut, err := v.Published(ctx, gen)
	if ctx.Err() != nil {
		err = fmt.Errorf("the cut is taken, and the upload goes on; %d bytes of the volume are not in Swift yet: %w",
			v.Stats().Journal.DirtyBytes, err)
	}
	if err != nil {
		return nil, fail(ident.Volume(q.Volume), "seal", err)
	}
	return &wire.SealResponse{Root: wire.FromRoot(new(cut.Recorded())), Size: cut.State.Size}, nil
}

// Resize implements [wire.ExportsServer].
func (x *Exports) Resize(ctx context.Context, q *wire.ResizeRequest) (*wire.ResizeResponse, error) {
	var size int64
	err := x.write("resize", q.Volume, func(e *export) error {
		if q.Size > e.volume.Size() {
			if err := e.volume.Resize(ctx, q.Size); err != nil {
				return err
			}
		}
		size = e.volume.Size()
		return e.config.Portal.Resize(e.record.iqn(), lunNumber, size)
	})
	return &wire.ResizeResponse{Size: size}, err
}

// SetFormatted implements [wire.ExportsServer].
func (x *Exports) SetFormatted(ctx context.Context, q *wire.SetFormattedRequest) (*wire.SetFormattedResponse, error) {
	err := x.write("set formatted", q.Volume, func(e *export) error {
		if _, known := wire.Formatted_name[int32(q.Formatted)]; !known {
			return status.Errorf(codes.InvalidArgument, "formatted mark %d is unknown", q.Formatted)
		}
		return e.volume.SetFormatted(ctx, delta.Mark(q.Formatted))
	})
	return &wire.SetFormattedResponse{}, err
}

// Modify implements [wire.ExportsServer].
func (x *Exports) Modify(_ context.Context, q *wire.ModifyRequest) (*wire.ModifyResponse, error) {
	err := x.change("modify", q.Volume, func(e *export) error {
		if e.volume == nil {
			return errNotAttached
		}
		// e.record is as it was when the volume was opened: stage and parameters
		// may have changed since.
		r, err := e.folder.load()
		if err != nil {
			return err
		}
		if r == nil {
			return errNotAttached
		}
		return e.modify(r, q.Parameters)
	})
	return &wire.ModifyResponse{}, err
}

// Status implements [wire.ExportsServer]. Of a volume that is served it waits for no other
// call: how much is left to upload matters most while it is being closed.
func (x *Exports) Status(_ context.Context, q *wire.StatusRequest) (*wire.StatusResponse, error) {
	if id, err := ident.ParseVolume(q.Volume); err == nil {
		if s := x.export(id).shown.Load(); s != nil {
			if why := s.Err(); !errors.Is(why, volume.ErrClosed) { // else a call is just ending it
				return s.status(x.config.Portal, why), nil
			}
		}
	}
	var answer *wire.StatusResponse
	err := x.look("status", q.Volume, func(e *export) error {
		switch {
		case e.volume != nil:
			answer = e.shown.Load().status(x.config.Portal, e.volume.Err())
		case e.failed != nil:
			answer = &wire.StatusResponse{
				Conditions: []*wire.Condition{condition(e.failed, wire.Severity_SEVERITY_INACCESSIBLE, wire.ReasonNotServed)},
			}
		default:
			return errNotAttached
		}
		return nil
	})
	return answer, err
}

// status describes a volume that is served, or has ended.
func (v *shown) status(p Portal, ended error) *wire.StatusResponse {
	s := v.Stats()
	var vacant time.Duration
	if v.target != "" {
		vacant = p.Vacant(v.target)
	}
	answer := &wire.StatusResponse{
		Epoch:      wire.FromEpoch(v.epoch),
		Size:       v.Size(),
		DirtyBytes: s.Journal.DirtyBytes,
		Conditions: conditions(s, ended, v.mutable, vacant, time.Now()),
	}
	if s.Head != nil {
		answer.PublishedMs = s.Head.State.Sealed.UnixMilli()
	}
	if s.Head != nil && s.Journal.DirtyBytes > 0 {
		answer.PublishedAgeMs = time.Since(s.Head.State.Sealed).Milliseconds()
	}
	return answer
}

// change runs an operation that changes the stage of an export, alone.
func (x *Exports) change(op, volumeID string, do func(*export) error) error {
	id, err := ident.ParseVolume(volumeID)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	e := x.export(id)
	if !e.lock.TryLock() {
		return fail(id, op, errBusy)
	}
	defer e.lock.Unlock()
	return fail(id, op, do(e))
}

// use runs an operation on an attached volume, beside others of its kind.
func (x *Exports) use(op, volumeID string, do func(*export) error) error {
	return x.look(op, volumeID, func(e *export) error {
		if e.volume == nil {
			return errNotAttached
		}
		return do(e)
	})
}

// write is use for what a reader may not do.
func (x *Exports) write(op, volumeID string, do func(*export) error) error {
	return x.use(op, volumeID, func(e *export) error {
		if e.record.Reader {
			return errReader
		}
		return do(e)
	})
}

// look runs an operation that changes nothing of an export.
func (x *Exports) look(op, volumeID string, do func(*export) error) error {
	id, err := ident.ParseVolume(volumeID)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	e := x.export(id)
	if !e.lock.TryRLock() {
		return fail(id, op, errBusy)
	}
	defer e.lock.RUnlock()
	return fail(id, op, do(e))
}

// codeOf maps errors to the codes that wire.proto promises. What is not listed
// may pass and is worth a retry.
var codeOf = []struct {
	is   error
	code codes.Code
}{
	{errBusy, codes.Aborted},
	{errNotAttached, codes.NotFound},
	{errReader, codes.FailedPrecondition},
	{errLost, codes.Aborted},
	{errNoRoom, codes.ResourceExhausted},
	{volume.ErrDamaged, codes.FailedPrecondition},
	{volume.ErrFenced, codes.FailedPrecondition},
	{volume.ErrSecondWriter, codes.FailedPrecondition},
	{volume.ErrShrink, codes.OutOfRange},
	{volume.ErrOutOfRange, codes.OutOfRange},
	{volume.ErrUnaligned, codes.InvalidArgument},
	{delta.ErrDamaged, codes.FailedPrecondition},
	{delta.ErrStopped, codes.FailedPrecondition},
	{delta.ErrFull, codes.ResourceExhausted},
	{delta.ErrUnfit, codes.FailedPrecondition},
	{delta.ErrNewer, codes.FailedPrecondition},
	{delta.ErrForeign, codes.FailedPrecondition},
	{swift.ErrUnauthorized, codes.FailedPrecondition},
	{swift.ErrQuota, codes.ResourceExhausted},
	{context.DeadlineExceeded, codes.DeadlineExceeded},
	{context.Canceled, codes.Canceled},
}

// fail gives err a code, and the volume and the operation where it does not tell them.
func fail(id ident.Volume, op string, err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	if _, tells := errors.AsType[*volume.Error](err); !tells {
		text = fmt.Sprintf("volume %s: %s: %s", id, op, text)
	}
	var refused *class.Error
	if errors.As(err, &refused) {
		return status.Error(codes.InvalidArgument, text)
	}
	for _, m := range codeOf {
		if errors.Is(err, m.is) {
			return status.Error(m.code, text)
		}
	}
	if s, ok := status.FromError(err); ok { // the controller's answer, or our own
		return status.Error(s.Code(), text)
	}
	return status.Error(codes.Unavailable, text)
}
