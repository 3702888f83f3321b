package driver

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/class"
	"github.com/swiftblock/csi-swiftblock/pkg/host"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

var (
	errNotStaged    = errors.New("the volume is not staged on this node")
	errNotPublished = errors.New("the volume is not mounted at that path")
	errPublished    = errors.New("the volume is published there already, in another way")
	errMounted      = errors.New("the volume is still mounted")
	errBlank        = errors.New("the volume has never been formatted, and who only reads it does not")
	errExclusive    = errors.New("the volume's access mode allows one pod, and it has one")
	errNoSuchNode   = errors.New("no such node")
	errPending      = errors.New("another call on it is under way; try again")
	errFormatting   = errors.New("the volume's file system is still being made; try again")
)

// fieldError is a request field that cannot be accepted.
type fieldError struct {
	field, reason string
	code          codes.Code
}

func (e *fieldError) Error() string { return e.field + ": " + e.reason }

func invalid(field, format string, args ...any) error {
	return &fieldError{field, fmt.Sprintf(format, args...), codes.InvalidArgument}
}

func outOfRange(field, format string, args ...any) error {
	return &fieldError{field, fmt.Sprintf(format, args...), codes.OutOfRange}
}

// table gives each error that callers tell apart its code. The first match
// counts; what is not in it is INTERNAL, unless it comes with a code from the
// export process or the controller.
var table = []struct {
	err  error
	code codes.Code
}{
	{catalog.ErrInvalid, codes.InvalidArgument},
	{host.ErrInvalid, codes.InvalidArgument},

	{catalog.ErrNotFound, codes.NotFound},
	{errNoSuchNode, codes.NotFound},
	{errNotPublished, codes.NotFound},

	{catalog.ErrConflict, codes.AlreadyExists},
	{errPublished, codes.AlreadyExists},

	{catalog.ErrOutOfRange, codes.OutOfRange},

	{catalog.ErrBusy, codes.Aborted},
	{authority.ErrConflict, codes.Aborted},
	{errPending, codes.Aborted},
	{errFormatting, codes.Aborted},
	{authority.ErrPlace, codes.Aborted},

	{catalog.ErrInUse, codes.FailedPrecondition},
	{catalog.ErrNotReady, codes.FailedPrecondition},
	{catalog.ErrClosed, codes.FailedPrecondition},
	{keys.ErrNoKey, codes.FailedPrecondition},
	{keys.ErrWrongKey, codes.FailedPrecondition},
	{errNotStaged, codes.FailedPrecondition},
	{errMounted, codes.FailedPrecondition},
	{errBlank, codes.FailedPrecondition},
	{errExclusive, codes.FailedPrecondition},
	{host.ErrInUse, codes.FailedPrecondition},
	{host.ErrNoFilesystem, codes.FailedPrecondition},
	{host.ErrDamagedFilesystem, codes.FailedPrecondition},

	// Of all answers to an export process only this one says that its journal
	// will never be uploaded.
	{catalog.ErrFenced, codes.DataLoss},

	{catalog.ErrUnreachable, codes.Unavailable},
	{host.ErrInitiator, codes.Unavailable},
	{host.ErrSlow, codes.Unavailable},
	{swift.ErrUnavailable, codes.Unavailable},
	{swift.ErrQuota, codes.ResourceExhausted},
	{swift.ErrUnauthorized, codes.Unauthenticated},

	{context.DeadlineExceeded, codes.DeadlineExceeded},
	{context.Canceled, codes.Canceled},
}

// codeOf returns the code for err.
func codeOf(err error) codes.Code {
	var (
		field *fieldError
		param *class.Error
	)
	if errors.As(err, &field) {
		return field.code
	}
	if errors.As(err, &param) {
		return codes.InvalidArgument
	}
	for _, row := range table {
		if errors.Is(err, row.err) {
			return row.code
		}
	}
	if s, ok := status.FromError(err); ok { // also when it is wrapped
		return s.Code()
	}
	return codes.Internal
}

// statusOf is err as gRPC sends it.
func statusOf(err error) error {
	if err == nil {
		return nil
	}
	return status.Error(codeOf(err), err.Error())
}
