package volume

import (
	"errors"
	"fmt"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// The kinds of failures, for errors.Is. What is none of them, and not the end of
// the caller's context, comes from the journal.
var (
	// ErrDamaged is proven: bytes that fail their checksums after they were read
	// again, or a referenced object that stays absent. Waiting does not help.
	ErrDamaged = errors.New("damaged data")

	// ErrFenced ends a volume that was given to another node (R7).
	ErrFenced = errors.New("fenced: the volume was given to another node")

	// ErrSecondWriter ends a volume whose history somebody else continued (R2).
	ErrSecondWriter = errors.New("another writer published in this epoch")

	ErrClosed     = errors.New("closed")
	ErrOutOfRange = errors.New("outside the volume")
	ErrUnaligned  = errors.New("not a multiple of 512 bytes")
	ErrShrink     = errors.New("volumes only grow")

	// ErrHead refuses to open a journal over a root it does not continue.
	ErrHead = errors.New("the given root is not the one that the journal continues")

	// ErrForgotten answers for a generation that was published too long ago.
	ErrForgotten = errors.New("no longer remembered")
)

// Error says which volume failed at what.
type Error struct {
	Volume ident.Volume
	Op     string
	Err    error
}

// Error describes the failure; it never holds a secret.
func (e *Error) Error() string { return fmt.Sprintf("volume %s: %s: %v", e.Volume, e.Op, e.Err) }

// Unwrap makes the cause visible to errors.Is.
func (e *Error) Unwrap() error { return e.Err }

// ObjectError names the object that an operation failed on.
type ObjectError struct {
	Container, Object string
	Err               error
}

// Error describes the failure.
func (e *ObjectError) Error() string {
	return fmt.Sprintf("object %s/%s: %v", e.Container, e.Object, e.Err)
}

// Unwrap makes the cause visible to errors.Is.
func (e *ObjectError) Unwrap() error { return e.Err }

// damaged marks err, whatever proved it, as ErrDamaged of an object.
func damaged(container, object string, err error) error {
	return &ObjectError{container, object, fmt.Errorf("%w: %w", ErrDamaged, err)}
}
