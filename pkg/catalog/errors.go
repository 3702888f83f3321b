package catalog

import "errors"

// The errors that callers tell apart, with the CSI code of each.
var (
	ErrInvalid     = errors.New("invalid argument")                                     // INVALID_ARGUMENT
	ErrNotFound    = errors.New("not found")                                            // NOT_FOUND
	ErrConflict    = errors.New("exists with other properties")                         // ALREADY_EXISTS
	ErrOutOfRange  = errors.New("size out of range")                                    // OUT_OF_RANGE
	ErrBusy        = errors.New("another operation is under way; try again")            // ABORTED
	ErrInUse       = errors.New("in use")                                               // FAILED_PRECONDITION
	ErrNotReady    = errors.New("not ready")                                            // FAILED_PRECONDITION
	ErrFenced      = errors.New("the epoch has ended")                                  // FAILED_PRECONDITION: stop the volume, keep the journal
	ErrRolledBack  = errors.New("the authority is older than the objects in Swift")     // INTERNAL: `volume recover`
	ErrForeign     = errors.New("the container is not owned by this cluster")           // INTERNAL
	ErrLost        = errors.New("the snapshot's cut was lost with its node; delete it") // INTERNAL, final
	ErrUnreachable = errors.New("the node does not answer")                             // UNAVAILABLE
)
