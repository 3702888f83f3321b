package disk

import (
	"context"
	"errors"
)

// Device is what a logical unit stands on. Offsets and lengths are bytes and
// multiples of [BlockSize]; the disk has checked them against Size before.
//
// Implementations are called by many commands at once and bound their own
// concurrency. A context is cancelled by ABORT TASK, a reset or the end of the
// session; the initiator is answered only when the call has returned (R9), so a
// call returns soon after, and never applies anything once it has returned.
type Device interface {
	// ReadAt fills p from off.
	ReadAt(ctx context.Context, p []byte, off int64) error
	// WriteAt stores p at off; with fua it is on stable storage, together with
	// everything acknowledged before it, when the call returns. p belongs to
	// the caller again after the return.
	WriteAt(ctx context.Context, p []byte, off int64, fua bool) error
	// Flush brings everything acknowledged before it to stable storage.
	Flush(ctx context.Context) error
	// Discard gives up n bytes at off, which read as zeros afterwards.
	Discard(ctx context.Context, off, n int64) error
	// WriteZeroes writes n zero bytes at off; fua as in WriteAt.
	WriteZeroes(ctx context.Context, off, n int64, fua bool) error
	// Size is the current size of the device.
	Size() int64
}

// Mapper is a [Device] that knows what of it is stored (GET LBA STATUS). Of one that
// is no Mapper all counts as stored.
type Mapper interface {
	// Mapped reports whether the block at off is stored, and for how many of the n
	// bytes from there the same is known. What is not stored reads as zeros; what
	// does may count as stored all the same.
	Mapped(ctx context.Context, off, n int64) (stored bool, length int64, err error)
}

// Errors of a [Device] that decide which sense data the initiator gets. Any
// other error counts as ErrUnavailable. No error is ever answered with GOOD.
var (
	// ErrMedium is proven damage: MEDIUM ERROR 11/00 for a read, HARDWARE ERROR
	// for a write. Linux does not retry either.
	ErrMedium = errors.New("stored data is damaged")
	// ErrGone is trouble that does not pass, such as a volume that was given to
	// another node: HARDWARE ERROR, which Linux does not retry.
	ErrGone = errors.New("device is gone")
	// ErrUnavailable is trouble that may pass: sense that Linux retries.
	ErrUnavailable = errors.New("device is not available now")
)

// ErrTransfer is the error of a [Transfer] whose data the initiator has garbled:
// ABORTED COMMAND, DATA PHASE ERROR, which Linux retries.
var ErrTransfer = errors.New("data transfer out of order")
