package delta

import (
	"context"
	"errors"
	"iter"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// Journal is the ordered log of one volume in one epoch, with the map that
// finds each block in it. All methods may be called concurrently.
type Journal struct{}

// Create makes an empty journal whose volume is in state initial, at
// generation 1, and opens it. It returns fs.ErrExist if the directory holds a
// journal; the remains of a Create that a crash cut short are replaced.
func Create(cfg Config, id Identity, initial State) (*Journal, error) {
	return nil, errors.ErrUnsupported
}

// Open recovers the journal in cfg.Dir (R3). When it returns, everything that
// it recovered is on stable storage. It returns fs.ErrNotExist if there is no
// journal, ErrLocked, ErrForeign, and ErrDamaged when the log lost something
// it had promised; then nothing was changed.
func Open(cfg Config, id Identity) (*Journal, error) { return nil, errors.ErrUnsupported }

// Write writes p at off (P1): it returns nil once the record is in the log in
// log order, and with fua once it and all before it are on stable storage. Of
// concurrent overlapping writes one wins as a whole, the same one after a
// recovery. p must not change until Write returns. A full log holds the write
// until space is free or ctx ends; a write that returned ctx's error was
// either applied already or never will be.
func (j *Journal) Write(ctx context.Context, off int64, p []byte, fua bool) error {
	return errors.ErrUnsupported
}

// Zero makes n bytes at off read as zeros; otherwise it is like Write.
func (j *Journal) Zero(ctx context.Context, off, n int64, fua bool) error {
	return errors.ErrUnsupported
}

// Sync returns when everything acknowledged before the call is on stable
// storage. Concurrent callers share one sync.
func (j *Journal) Sync(ctx context.Context) error { return errors.ErrUnsupported }

// Read fills p with what the journal knows of the volume at off, newest layer
// first, verified. It leaves the returned holes (ascending, in bytes of the
// volume) untouched: they must come from the version table, and from one that
// the caller looked up after Read returned, because a layer leaves the journal
// only when its generation is in the table. off and len(p) are multiples of
// Sector. Read takes no notice of the volume's size.
func (j *Journal) Read(ctx context.Context, p []byte, off int64) (holes []Span, err error) {
	return nil, errors.ErrUnsupported
}

// State returns the volume's state, as the last acknowledged record left it.
func (j *Journal) State() State { return State{} }

// SetState changes the state in log order; it is durable when SetState returns.
func (j *Journal) SetState(ctx context.Context, s State) error { return errors.ErrUnsupported }

// Seal ends the active generation with one record: every write acknowledged
// before the call is in the returned layer, none that starts after it returned.
// The record carries the snapshot id ("" for none) and the clean mark. It and
// all before it are durable when Seal returns (R4). Writes are not drained.
func (j *Journal) Seal(ctx context.Context, s ident.Snapshot, clean bool) (*Layer, error) {
	return nil, errors.ErrUnsupported
}

// Sealed returns the layers whose generations are sealed durably and not yet
// retired, oldest first.
func (j *Journal) Sealed() []*Layer { return nil }

// SaveRoot keeps the bytes of the root of a sealed generation, durably, before
// they are PUT (R2). Saving the same bytes again is fine, others are ErrInvalid.
func (j *Journal) SaveRoot(gen uint64, object []byte) error { return errors.ErrUnsupported }

// SavedRoot returns what SaveRoot kept for a generation that is not retired.
func (j *Journal) SavedRoot(gen uint64) ([]byte, bool) { return nil, false }

// Retire declares gen and all before it published: their layers leave the
// journal and their segments are used again. The version table that reads turn
// to must hold them before the call. Retiring a generation twice is fine.
func (j *Journal) Retire(ctx context.Context, gen uint64) error { return errors.ErrUnsupported }

// Pressure receives a value when the log has become more than half full: time
// to seal and upload at once.
func (j *Journal) Pressure() <-chan struct{} { return nil }

// OpenID is the tag drawn at this opening, for names of uploaded objects.
func (j *Journal) OpenID() ident.Open { return 0 }

// Identity returns the volume and epoch of the journal.
func (j *Journal) Identity() Identity { return Identity{} }

// Active returns the number of the generation that takes writes. Generations
// of an epoch are dense and start at 1.
func (j *Journal) Active() uint64 { return 0 }

// Stats returns figures of the moment.
func (j *Journal) Stats() Stats { return Stats{} }

// Err returns why the journal stopped (ErrStopped), or nil.
func (j *Journal) Err() error { return nil }

// Close syncs the log and closes it; nothing is uploaded or removed. Calls in
// progress end with ErrClosed, at the latest when their I/O ends.
func (j *Journal) Close() error { return errors.ErrUnsupported }

// Destroy closes the journal and removes its directory, with whatever it holds.
func (j *Journal) Destroy() error { return errors.ErrUnsupported }

// Layer is a sealed generation: what was written between two seals. It never
// changes and may be read until it is retired.
type Layer struct{}

// Gen is the layer's generation.
func (l *Layer) Gen() uint64 { return 0 }

// Snapshot is the snapshot that the seal was made for, or "".
func (l *Layer) Snapshot() ident.Snapshot { return "" }

// Clean reports whether the seal closed the volume in good order.
func (l *Layer) Clean() bool { return false }

// State is the volume's state at the seal.
func (l *Layer) State() State { return State{} }

// DirtyBytes counts the data bytes in the layer, zeros not included.
func (l *Layer) DirtyBytes() int64 { return 0 }

// Chunks yields the numbers of the chunks that the layer touches, ascending.
func (l *Layer) Chunks() iter.Seq[uint64] { return func(func(uint64) bool) {} }

// Extents returns what the layer holds of one chunk, ascending, disjoint and
// with neighbours of a kind joined. A chunk zeroed as a whole is one extent.
func (l *Layer) Extents(chunk uint64) []Extent { return nil }

// ReadAt fills p with the layer's bytes at off, verified; a range that is not
// wholly inside the layer's extents is ErrInvalid.
func (l *Layer) ReadAt(ctx context.Context, p []byte, off int64) error { return errors.ErrUnsupported }
