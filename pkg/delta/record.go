package delta

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

const (
	recordMagic      = "SBlogrec"
	recordVersion    = 1
	encryptedVersion = 2 // of records and anchors of an encrypted journal

	headerSize    = Block
	extentsAt     = 128 // where descriptors begin in a header
	extentSize    = 16
	crcAt         = headerSize - 4
	descriptorCap = crcAt - extentsAt // bytes for descriptors and checksums

	// maxBlocks bounds the data of one record, in blocks: 1 MiB, and the two
	// blocks that an unaligned megabyte touches more.
	maxBlocks = 256 + 1

	sectorsPerBlock = Block / Sector
	zeroFlag        = 1 << 63 // in a descriptor's first word
	cleanFlag       = 1       // in a header's flags
)

// kind says what a record does.
type kind uint8

const (
	kindData  kind = iota + 1 // data and zeros, as its descriptors say
	kindOpen                  // a new opening of the journal begins
	kindState                 // the volume's state changes
	kindSeal                  // the generation ends
	kindMark                  // nothing; its durable field is the news
	kindEnd                   // first number that is no kind
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }

// header is the decoded first block of a record; see the package comment for
// the bytes.
type header struct {
	kind      kind
	clean     bool
	encrypted bool // the data
	id        Identity
	open      ident.Open
	gen       uint64
	seq       uint64
	durable   uint64
	segment   uint64
	prev      uint32
	state     State
	snapshot  ident.Snapshot // of a SEAL
	sealed    int64          // time of a SEAL, Unix nanoseconds
	extents   []extent
}

// extent is a descriptor. crcs has one checksum per block that a data extent
// touches; the block in the log is padded with zeros where the extent covers
// only some of its sectors.
type extent struct {
	off, n int64
	zero   bool
	crcs   []uint32
}

// blocks returns how many blocks of the volume, hence of the log, a range of
// bytes touches.
func blocks(off, n int64) int {
	return int((off+n+Block-1)/Block - off/Block)
}

// dataBlocks is the length of the record's data in blocks.
func (h *header) dataBlocks() int {
	n := 0
	for i := range h.extents {
		n += len(h.extents[i].crcs)
	}
	return n
}

// formatVersion is that of records and anchors.
func formatVersion(encrypted bool) uint16 {
	if encrypted {
		return encryptedVersion
	}
	return recordVersion
}

// encode writes h to p, one block, and returns its checksum, which is the next
// record's prev.
func (h *header) encode(p []byte) uint32 {
	clear(p[:headerSize])
	le := binary.LittleEndian
	copy(p, recordMagic)
	le.PutUint16(p[8:], formatVersion(h.encrypted))
	p[10] = byte(h.kind)
	if h.clean {
		p[11] = cleanFlag
	}
	le.PutUint32(p[12:], h.prev)
	putID(p[16:32], string(h.id.Volume))
	le.PutUint64(p[32:], h.id.Epoch.Number)
	le.PutUint64(p[40:], h.id.Epoch.Tag)
	le.PutUint64(p[48:], uint64(h.open))
	le.PutUint64(p[56:], h.gen)
	le.PutUint64(p[64:], h.seq)
	le.PutUint64(p[72:], h.durable)
	le.PutUint64(p[80:], h.segment)
	le.PutUint64(p[88:], uint64(h.state.Size))
	p[96] = byte(h.state.Formatted)
	le.PutUint16(p[98:], uint16(len(h.extents)))
	le.PutUint32(p[100:], uint32(h.dataBlocks()))
	putID(p[104:120], string(h.snapshot))
	le.PutUint64(p[120:], uint64(h.sealed))

	at := extentsAt
	for _, e := range h.extents {
		first := uint64(e.off) / Sector
		if e.zero {
			first |= zeroFlag
		}
		le.PutUint64(p[at:], first)
		le.PutUint64(p[at+8:], uint64(e.n)/Sector)
		at += extentSize
	}
	for _, e := range h.extents {
		for _, c := range e.crcs {
			le.PutUint32(p[at:], c)
			at += 4
		}
	}
	sum := checksum(p[:crcAt])
	le.PutUint32(p[crcAt:], sum)
	return sum
}

var errNoRecord = errors.New("no record")

// decodeHeader decodes one block; errNoRecord says that it is not a whole,
// well-formed header, whatever else it may be.
func decodeHeader(p []byte) (h header, sum uint32, err error) {
	le := binary.LittleEndian
	version := le.Uint16(p[8:])
	if string(p[:8]) != recordMagic || version != recordVersion && version != encryptedVersion {
		return h, 0, errNoRecord
	}
	sum = le.Uint32(p[crcAt:])
	if checksum(p[:crcAt]) != sum {
		return h, 0, errNoRecord
	}
	h = header{
		kind:      kind(p[10]),
		clean:     p[11]&cleanFlag != 0,
		encrypted: version == encryptedVersion,
		prev:      le.Uint32(p[12:]),
		id:        Identity{Volume: ident.Volume(getID(p[16:32])), Epoch: ident.Epoch{Number: le.Uint64(p[32:]), Tag: le.Uint64(p[40:])}},
		open:      ident.Open(le.Uint64(p[48:])),
		gen:       le.Uint64(p[56:]),
		seq:       le.Uint64(p[64:]),
		durable:   le.Uint64(p[72:]),
		segment:   le.Uint64(p[80:]),
		state:     State{Size: int64(le.Uint64(p[88:])), Formatted: Mark(p[96])},
		snapshot:  ident.Snapshot(getID(p[104:120])),
		sealed:    int64(le.Uint64(p[120:])),
	}
	if h.kind == 0 || h.kind >= kindEnd || h.durable >= h.seq || h.state.check() != nil || p[11]&^cleanFlag != 0 || p[97] != 0 {
		return h, 0, errNoRecord
	}
	if err := h.decodeExtents(p, int(le.Uint16(p[98:])), int(le.Uint32(p[100:]))); err != nil {
		return h, 0, err
	}
	return h, sum, nil
}

func (h *header) decodeExtents(p []byte, count, data int) error {
	if data > maxBlocks || count*extentSize+data*4 > descriptorCap {
		return errNoRecord
	}
	le := binary.LittleEndian
	h.extents = make([]extent, count)
	sums := p[extentsAt+count*extentSize : crcAt]
	for i := range h.extents {
		d := p[extentsAt+i*extentSize:]
		first, n := le.Uint64(d), le.Uint64(d[8:])
		zero := first&zeroFlag != 0
		first &^= zeroFlag
		if n == 0 || n > MaxVolume/Sector || first > MaxVolume/Sector-n {
			return errNoRecord
		}
		e := extent{off: int64(first) * Sector, n: int64(n) * Sector, zero: zero}
		if !zero {
			b := blocks(e.off, e.n)
			if data -= b; data < 0 {
				return errNoRecord
			}
			e.crcs = make([]uint32, b)
			for k := range e.crcs {
				e.crcs[k] = le.Uint32(sums[4*k:])
			}
			sums = sums[4*b:]
		}
		h.extents[i] = e
	}
	if data != 0 || !bytes.Equal(sums, noBytes[:len(sums)]) {
		return errNoRecord
	}
	return nil
}

var noBytes [headerSize]byte

// check refuses a state that no volume can have.
func (s State) check() error {
	if s.Size < 0 || s.Size > MaxVolume || s.Size%Sector != 0 || s.Formatted > Formatted {
		return ErrInvalid
	}
	return nil
}

// putID writes a 128-bit identity; the empty one is all zeros.
func putID(p []byte, id string) {
	b, _ := hex.DecodeString(id) // checked when the journal was opened
	copy(p, b)
}

func getID(p []byte) string {
	for _, b := range p {
		if b != 0 {
			return hex.EncodeToString(p)
		}
	}
	return ""
}
