// Package volume is one attached volume: a block device over the journal, the
// version table and Swift.
package volume

import (
	"context"
	"errors"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
)

// Volume is an open volume. All methods are safe for concurrent use. Every error
// is an [*Error], except that of a context that ended.
type Volume struct{}

// Stats describes a volume at one moment.
type Stats struct {
	Journal     delta.Stats
	Head        *snapshots.Root // newest published root; nil: none yet
	PublishedAt time.Time       // when this process last published; zero: never
	Failing     error           // why the publication under way does not get on; nil if it does
	FailingFrom time.Time
	Fetched     int64 // bytes of objects fetched to read data
	Fetches     int64 // GETs for it
}

// Open opens a volume over its recovered journal and continues what an earlier
// process left to be published. It does not need Swift.
func Open(ctx context.Context, config Config) (*Volume, error) { return nil, errors.ErrUnsupported }

// ReadAt fills p with the volume's bytes at off. While Swift is away it waits
// until ctx ends (P9); proven damage is ErrDamaged.
func (v *Volume) ReadAt(ctx context.Context, p []byte, off int64) error {
	return errors.ErrUnsupported
}

// WriteAt writes p at off (P1). A full journal holds it until ctx ends.
func (v *Volume) WriteAt(ctx context.Context, p []byte, off int64, fua bool) error {
	return errors.ErrUnsupported
}

// Flush returns when all that was acknowledged before is on stable storage.
func (v *Volume) Flush(ctx context.Context) error { return errors.ErrUnsupported }

// Discard makes n bytes at off read as zeros and frees their space.
func (v *Volume) Discard(ctx context.Context, off, n int64) error { return errors.ErrUnsupported }

// WriteZeroes is WriteAt of n zeros.
func (v *Volume) WriteZeroes(ctx context.Context, off, n int64, fua bool) error {
	return errors.ErrUnsupported
}

// Size returns the size in bytes.
func (v *Volume) Size() int64 { return 0 }

// Resize grows the volume to size bytes, durably. The same size is a success, a
// smaller one ErrShrink.
func (v *Volume) Resize(ctx context.Context, size int64) error { return errors.ErrUnsupported }

// Formatted returns how far the volume's first mkfs got.
func (v *Volume) Formatted() delta.Mark { return 0 }

// SetFormatted records how far the volume's first mkfs got, durably and in order
// with the writes before and after it.
func (v *Volume) SetFormatted(ctx context.Context, m delta.Mark) error { return errors.ErrUnsupported }

// Seal cuts the volume: everything acknowledged before is in the returned
// generation, nothing that starts after Seal returned is. The cut is durable on
// this node; [Volume.Published] waits until it is in Swift. A snapshot that was
// cut already keeps its cut. s may be "".
func (v *Volume) Seal(ctx context.Context, s ident.Snapshot) (gen uint64, err error) {
	return 0, errors.ErrUnsupported
}

// Published waits until generation gen, and the record of its snapshot if it has
// one, is stored, and returns its root.
func (v *Volume) Published(ctx context.Context, gen uint64) (snapshots.Ref, error) {
	return snapshots.Ref{}, errors.ErrUnsupported
}

// Close seals, uploads and publishes all there is, with the clean mark, and ends
// the volume; its journal is closed and may be destroyed. Writes that arrive
// meanwhile are held. When ctx ends first the volume goes on as if nothing had
// been asked, and Close may be called again.
func (v *Volume) Close(ctx context.Context) (snapshots.Ref, error) {
	return snapshots.Ref{}, errors.ErrUnsupported
}

// Stop ends the volume without uploading: what is in the journal stays there for
// the next Open. It may be called at any time, and again.
func (v *Volume) Stop() error { return errors.ErrUnsupported }

// Done is closed when the volume has ended; Err tells why.
func (v *Volume) Done() <-chan struct{} { return nil }

// Err returns why the volume ended: ErrClosed, ErrFenced or ErrSecondWriter; nil
// while it goes on.
func (v *Volume) Err() error { return nil }

// Stats returns figures of the moment.
func (v *Volume) Stats() Stats { return Stats{} }
