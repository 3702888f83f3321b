package snapshots

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// Limits of the format.
const (
	PageChunks = 4096     // chunks in one page of the table: 32 GiB of the volume
	MaxPatches = 8        // patches of one entry; more are merged before they are recorded
	MaxSize    = 16 << 40 // bytes of a volume

	maxGen  = math.MaxUint32
	maxPack = math.MaxUint16
)

// Location is where an object lives.
type Location = chunks.Location

// Hash is the SHA-256 of an object's bytes.
type Hash [sha256.Size]byte

// String returns 64 hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

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

// RefOf names the root that the authority records.
func RefOf(r authority.Root) Ref {
	return Ref{Epoch: r.Epoch, Gen: r.Generation, Hash: Hash(r.Hash)}
}

// In is the root as the authority records it, in the container where it lives.
func (r Ref) In(container string) authority.Root {
	return authority.Root{Container: container, Epoch: r.Epoch, Generation: r.Gen, Hash: authority.Hash(r.Hash)}
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
	name := chunks.ChunkName(chunk, r.Origin.Epoch, r.Gen, r.Origin.Open)
	return Location{Container: r.Origin.Container, Name: name}
}

// PackRef names a pack.
type PackRef struct {
	Origin Origin
	Gen    uint64
	N      uint64
}

// Location returns the object of the pack.
func (r PackRef) Location() Location {
	name := chunks.PackName(r.Origin.Epoch, r.Gen, r.N, r.Origin.Open)
	return Location{Container: r.Origin.Container, Name: name}
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

// ChunkEntry is the entry of one chunk.
type ChunkEntry struct {
	Chunk uint64
	Entry
}

// check refuses what the format cannot say.
func (e ChunkEntry) check() error {
	if len(e.Patches) > MaxPatches {
		return fmt.Errorf("chunk %d has %d patches, the limit is %d", e.Chunk, len(e.Patches), MaxPatches)
	}
	if !e.Base.IsZero() && !e.Base.Origin.valid(e.Base.Gen) {
		return fmt.Errorf("chunk %d has an impossible base %+v", e.Chunk, e.Base)
	}
	for _, p := range e.Patches {
		if !p.Origin.valid(p.Gen) || p.N > maxPack {
			return fmt.Errorf("chunk %d has an impossible patch %+v", e.Chunk, p)
		}
	}
	return nil
}

func (o Origin) valid(gen uint64) bool {
	return o.Container != "" && !o.Epoch.IsZero() && gen <= maxGen
}

// chunkCount returns the number of chunks of a volume of size bytes.
func chunkCount(size int64) uint64 { return uint64(size+chunks.Size-1) / chunks.Size }

// pageCount returns the number of pages that a volume of size bytes may have.
func pageCount(size int64) int { return int((chunkCount(size) + PageChunks - 1) / PageChunks) }
