package delta

import (
	"errors"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/ballast"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
)

const (
	// Sector is the unit of addresses and lengths, in bytes.
	Sector = 512
	// Block is the unit of the log and of its checksums, in bytes.
	Block = 4096
	// ChunkSize is the number of bytes of the volume that one chunk of a
	// [Layer] covers; it is the size of a chunk object.
	ChunkSize = 8 << 20
	// MaxVolume is the largest volume, in bytes.
	MaxVolume = 16 << 40
)

// The errors of a journal; test with errors.Is. A journal directory without a
// journal answers fs.ErrNotExist, one that has a journal already fs.ErrExist.
var (
	// ErrStopped: a write or sync of the log failed earlier, so nothing can be
	// promised any more. Reads go on; everything else fails until the journal
	// is opened again.
	ErrStopped = errors.New("journal stopped after a failed write")
	// ErrDamaged: the log contradicts itself or what it is known to have
	// acknowledged. The directory is kept as it is.
	ErrDamaged = errors.New("journal damaged")
	// ErrNewer: the journal was written by a release that this one does not know.
	// Nothing was changed.
	ErrNewer = errors.New("written by a newer release of csi-swiftblock: use that one")
	// ErrLocked: another process has the journal open.
	ErrLocked = errors.New("journal is open elsewhere")
	// ErrForeign: the directory holds the journal of another volume or epoch.
	ErrForeign = errors.New("journal belongs to another volume or epoch")
	// ErrNoKey: the journal is encrypted, and Config.Key is not set.
	ErrNoKey = errors.New("the volume's key is not known")
	// ErrWrongKey: the journal was made with another key.
	ErrWrongKey = errors.New("encrypted with another key than the volume's")
	// ErrUnfit: the directory is on a file system that forgets (tmpfs, overlay).
	ErrUnfit = errors.New("not a durable file system")
	// ErrFull: the disk has no room for the quota, or the log none for another
	// opening (after some ten thousand without a publication).
	ErrFull = errors.New("no space for the journal")
	// ErrInvalid: an address, a length or a setting that no journal has.
	ErrInvalid = errors.New("invalid argument")
	// ErrClosed: the journal was closed by its owner.
	ErrClosed = errors.New("journal closed")
	// ErrRetired: the generation is published and its layer is gone.
	ErrRetired = errors.New("generation retired")
	// ErrNotSealed: no such generation waits for its publication.
	ErrNotSealed = errors.New("generation not sealed")
)

// Config says where a journal lives and how large it may grow.
type Config struct {
	// Dir is the directory of this one journal (one volume, one epoch). Create
	// makes it; its parent must exist.
	Dir string
	// FS is the file system; nil is the operating system's.
	FS FS
	// SegmentSize is the size of a segment in bytes, a multiple of Block and at
	// least 64 KiB; 0 means 64 MiB. Only Create reads it.
	SegmentSize int64
	// Quota is what the log may occupy in bytes, reserved by Create; 0 means
	// 10 GiB. It is rounded down to whole segments, at least 4. Only Create
	// reads it.
	Quota int64
	// MapBudget bounds the memory of the block map in bytes; 0 means 1/256 of
	// the quota. A map near its budget counts like a log near its quota. The
	// log's checksums take another 1/1024 of the quota, once it was in use.
	MapBudget int64
	// RunDir is an existing directory that survives the process but not the
	// node (/run/...). In it the journal keeps the highest acknowledged
	// sequence number, so that a log that lost acknowledged writes within one
	// boot is recognised. Empty: only what Dir keeps after a failure tells.
	RunDir string
	// IdleWatermark is how long after a flush without further writes a
	// watermark record is written; 0 means 100 ms.
	IdleWatermark time.Duration
	// MaxDelay is how long a write is delayed just before the log is so full
	// that writes are held; 0 means 50 ms.
	MaxDelay time.Duration
	// Prewrite is how far the log is filled with zeros ahead of its first use,
	// in bytes; 0 means one segment, negative not at all.
	Prewrite int64
	// Ballast is room for the files beside the log when the disk is full; it may be
	// nil. FS, where it is set, has its own.
	Ballast *ballast.File
	// Key is the volume's, if it is encrypted: the data in the log is, too, with keys
	// derived from it.
	Key *keys.Secret
	// AllowAnyFS accepts tmpfs and overlay: for tests only.
	AllowAnyFS bool
}

// Identity names the only journal that a directory may hold.
type Identity struct {
	Volume ident.Volume
	Epoch  ident.Epoch
}

// Mark says how far the volume's first mkfs got (docs/design.md, section 11).
type Mark uint8

// The marks of a volume.
const (
	Blank Mark = iota
	Formatting
	Formatted
)

func (m Mark) String() string {
	switch m {
	case Blank:
		return "blank"
	case Formatting:
		return "formatting"
	case Formatted:
		return "formatted"
	}
	return "unknown"
}

// State is what a volume is besides its blocks; it changes in log order with
// them, so a snapshot carries exactly the state of its cut.
type State struct {
	Size      int64 // bytes, a multiple of Sector, at most MaxVolume
	Formatted Mark
}

// Span is a range of the volume in bytes, multiples of Sector.
type Span struct{ Off, Len int64 }

// Extent is a range of the volume that a layer holds: data, or zeros.
type Extent struct {
	Off, Len int64 // bytes in the volume, multiples of Sector
	Zero     bool
}

// Stats is what a journal looks like at one moment.
type Stats struct {
	Active     uint64  // the generation that takes writes
	Sealed     int     // layers that wait for publication
	DirtyBytes int64   // data bytes in the active and the sealed layers
	LogBytes   int64   // bytes of the log in use
	Quota      int64   // bytes the log may use
	MapBytes   int64   // memory of the block map, estimated
	Fill       float64 // of the log or its map, whichever is fuller: 0..1, HoldAt where writes are held
	Sequence   uint64  // of the last acknowledged record
	Durable    uint64  // sequence up to which the log is known to be durable
	Records    uint64  // written by this opening
	Syncs      uint64  // done by this opening
	Held       int     // writes that wait for space now
}
