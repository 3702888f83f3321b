// Package snapshots keeps a volume's history: roots, the paged version tables
// they name, and the records of snapshots and clones that pin roots.
package snapshots

import (
	"context"
	"crypto/sha256"
	"errors"
	"iter"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

const (
	PageChunks = 4096     // chunks in one page of the table: 32 GiB of the volume
	MaxPatches = 8        // patches of one entry; more are merged before they are recorded
	MaxSize    = 16 << 40 // bytes of a volume
)

// Location is where an object lives.
type Location = chunks.Location

// Hash is the SHA-256 of an object's bytes.
type Hash [sha256.Size]byte

// Ref names a root, and proves it.
type Ref struct {
	Epoch ident.Epoch
	Gen   uint64
	Hash  Hash
}

// IsZero reports whether r names nothing.
func (r Ref) IsZero() bool { return r == Ref{} }

// Name returns the name of the root's object.
func (r Ref) Name() string { return chunks.RootName(r.Epoch, r.Gen) }

// Parent names the root that a root continues. For the first root of a clone it
// is in another container.
type Parent struct {
	Container string
	Ref
}

// Mark says how far the volume's first format has got.
type Mark uint8

const (
	NeverFormatted Mark = iota
	Formatting          // mkfs may have been interrupted
	Formatted           // mkfs has ended and was flushed
)

// State is what a root says about the volume as a whole.
type State struct {
	Size   int64 // bytes, a multiple of 512
	Mark   Mark
	Clean  bool      // the volume was closed in good order after this generation
	Sealed time.Time // when the generation was cut, in whole milliseconds: the age of its data
}

// Container is an entry of a root's dictionary.
type Container struct {
	Name string
	Key  uint32 // id of the key of its objects; 0: not encrypted
}

// Root is the decoded root of one generation. It is immutable.
type Root struct {
	Container string // where the root itself is
	Ref       Ref
	Parent    Parent // zero for the first root of a blank volume
	State     State
	// Containers are those that the table names objects in. Whoever copies the
	// table pins all of them.
	Containers []Container
	// Snapshot is the snapshot that the generation was cut for, or "".
	Snapshot ident.Snapshot
}

// DecodeRoot decodes the root at, verifying its checksum and its own name. A
// root found by its name alone has no other proof; r.Ref.Hash is computed.
func DecodeRoot(at Location, body []byte) (*Root, error) { return nil, errors.ErrUnsupported }

// LoadRoot fetches the root that ref names in container and verifies its hash.
func LoadRoot(ctx context.Context, store swift.Store, container string, ref Ref) (*Root, error) {
	return nil, errors.ErrUnsupported
}

// Origin says who wrote an object: all objects that one opening of an epoch's
// journal has put into one container.
type Origin struct {
	Container string
	Epoch     ident.Epoch
	Open      ident.Open
}

// ChunkRef names the version of a full chunk. The zero value is no chunk.
type ChunkRef struct {
	Origin Origin
	Gen    uint64
}

// IsZero reports whether r names nothing: the chunk reads as zeros.
func (r ChunkRef) IsZero() bool { return r == ChunkRef{} }

// Location returns the object of chunk.
func (r ChunkRef) Location(chunk uint64) Location {
	return Location{Container: r.Origin.Container, Name: chunks.ChunkName(chunk, r.Origin.Epoch, r.Gen, r.Origin.Open)}
}

// PackRef names a pack.
type PackRef struct {
	Origin Origin
	Gen    uint64
	N      uint64
}

// Location returns the object of the pack.
func (r PackRef) Location() Location {
	return Location{Container: r.Origin.Container, Name: chunks.PackName(r.Origin.Epoch, r.Gen, r.N, r.Origin.Open)}
}

// Entry says where the newest data of a chunk is: in Base, or zeros if that is
// zero, overlaid with what each pack of Patches holds of the chunk, oldest
// first. The zero Entry is a chunk of zeros.
type Entry struct {
	Base    ChunkRef
	Patches []PackRef // at most MaxPatches
}

// IsZero reports whether the chunk is all zeros and nothing is stored for it.
func (e Entry) IsZero() bool { return e.Base.IsZero() && len(e.Patches) == 0 }

// Table maps the chunks of a volume to their entries as of one generation. It
// is immutable and safe for concurrent use; tables made from one another share
// their pages. A page is fetched when it is first needed, once however many
// wait, and verified by its hash.
type Table struct{}

// BlankTable returns the table of a volume that was never written.
func BlankTable() *Table { return &Table{} }

// OpenTable returns the table of root. It fetches nothing.
func OpenTable(store swift.Store, root *Root) *Table { return &Table{} }

// Entry returns the entry of chunk; the zero entry beyond the volume's size.
// Errors are those of the store, or ErrDamaged of package chunks.
func (t *Table) Entry(ctx context.Context, chunk uint64) (Entry, error) {
	return Entry{}, errors.ErrUnsupported
}

// Entries iterates over the entries that are not zero, by chunk. The first
// error ends it.
func (t *Table) Entries(ctx context.Context) iter.Seq2[ChunkEntry, error] {
	return func(func(ChunkEntry, error) bool) {}
}

// ChunkEntry is the entry of one chunk.
type ChunkEntry struct {
	Chunk uint64
	Entry
}

// Change describes the generation that follows a table.
type Change struct {
	// Origin and Gen name the objects that the change writes.
	Origin Origin
	Gen    uint64

	Parent   Parent // the root that this one continues
	State    State
	Snapshot ident.Snapshot // that the generation was cut for, or ""
	Entries  map[uint64]Entry
}

// Object is an object to be put. Its bytes never change.
type Object struct {
	Location
	Body []byte
}

// Update is a new generation, not yet stored: first Pages are put, then
// RootObject (R2), then Table is the volume's.
type Update struct {
	Table      *Table
	Pages      []Object // only those that the change touched
	Root       *Root    // Root.Ref names the new generation
	RootObject Object
}

// Update computes the generation that follows t when c is applied. Only the
// pages it touches are fetched. With no Entries it is a clone's first root or
// an empty snapshot: one root, no pages.
func (t *Table) Update(ctx context.Context, c Change) (*Update, error) {
	return nil, errors.ErrUnsupported
}

// Record is the record of a snapshot, the object s/<id>: it pins Root.
type Record struct {
	ID        ident.Snapshot
	Source    ident.Volume
	Container string // where the root is
	Root      Ref
	Size      int64     // bytes of the volume
	Created   time.Time // when the cut was taken, in whole milliseconds
}

// Pin is the object ref/<child>, put in every container that the dictionary of
// the child's first root names: the child needs what Root reaches.
type Pin struct {
	Child     ident.Volume
	Container string // where the root is
	Root      Ref
	Created   time.Time // in whole milliseconds
}

// PutRecord stores r in container. Storing an equal record again is a success;
// [ErrConflict] if another record has the same name.
func PutRecord(ctx context.Context, store swift.Store, container string, r Record) error {
	return errors.ErrUnsupported
}

// GetRecord fetches the record of a snapshot with Newest.
func GetRecord(ctx context.Context, store swift.Store, container string, id ident.Snapshot) (Record, error) {
	return Record{}, errors.ErrUnsupported
}

// PutPin stores p in container, as [PutRecord] does.
func PutPin(ctx context.Context, store swift.Store, container string, p Pin) error {
	return errors.ErrUnsupported
}

// GetPin fetches the pin of a child with Newest.
func GetPin(ctx context.Context, store swift.Store, container string, child ident.Volume) (Pin, error) {
	return Pin{}, errors.ErrUnsupported
}

// ListRecords lists the snapshots that container has records of. Listings may
// be stale: it is a hint.
func ListRecords(ctx context.Context, store swift.Store, container string) ([]ident.Snapshot, error) {
	return nil, errors.ErrUnsupported
}

// ListPins lists the clones that container has pins of. Listings may be stale:
// it is a hint.
func ListPins(ctx context.Context, store swift.Store, container string) ([]ident.Volume, error) {
	return nil, errors.ErrUnsupported
}

// ErrConflict means that a name is taken by something else.
var ErrConflict = errors.New("another record has this name")

// Reach calls visit for every object that root needs: itself, its pages, and
// the chunks and packs that these name, each once. It does not follow Parent: a
// table needs no other root.
func Reach(ctx context.Context, store swift.Store, root *Root, visit func(Location) error) error {
	return errors.ErrUnsupported
}

// ReadIndex fetches and verifies the footer of the chunk or pack at, in one GET
// as a rule.
func ReadIndex(ctx context.Context, store swift.Store, at Location) (*chunks.Index, error) {
	return nil, errors.ErrUnsupported
}
