package catalog

import "errors"

// The errors that callers tell apart, each with its CSI code. Others are those
// of the store and the authority: UNAVAILABLE, a repetition continues.
var (
	ErrInvalid     = errors.New("invalid argument")                         // INVALID_ARGUMENT
	ErrNotFound    = errors.New("not found")                                // NOT_FOUND
	ErrConflict    = errors.New("exists with other properties")             // ALREADY_EXISTS
	ErrOutOfRange  = errors.New("size out of range")                        // OUT_OF_RANGE
	ErrBusy        = errors.New("another operation is under way")           // ABORTED
	ErrInUse       = errors.New("in use")                                   // FAILED_PRECONDITION
	ErrNotReady    = errors.New("not ready")                                // FAILED_PRECONDITION
	ErrUnreachable = errors.New("the node does not answer")                 // UNAVAILABLE
	ErrForeign     = errors.New("the container belongs to another cluster") // INTERNAL

	// ErrFenced: the epoch was ended without its node. The node stops the volume
	// and keeps the journal. FAILED_PRECONDITION.
	ErrFenced = errors.New("the journal's epoch was ended without it")
	// ErrClosed: the epoch was closed in good order. All that the journal holds
	// is in Swift; the node discards it. FAILED_PRECONDITION.
	ErrClosed = errors.New("the journal's epoch is closed")
	// ErrLost: the cut of a snapshot went with its node. Final: the snapshot can
	// only be deleted, or made anew under another name. INTERNAL.
	ErrLost = errors.New("the cut was lost with its node")
	// ErrRolledBack: Swift holds what the authority should know and does not.
	// Nothing may be written before `volume recover`. INTERNAL.
	ErrRolledBack = errors.New("the authority is older than the volume in Swift")
)
