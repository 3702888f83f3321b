package chunks

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// Location is where an object lives. Its string is the full name that chunks,
// packs, pages and roots carry under their checksum.
type Location struct {
	Container string
	Name      string
}

// String returns "container/name".
func (l Location) String() string { return l.Container + "/" + l.Name }

// Prefixes of the object names of a volume's container; see the package
// documentation for the whole names.
const (
	ChunkPrefix      = "c/"
	PackPrefix       = "d/"
	PagePrefix       = "t/"
	RootPrefix       = "r/"
	EpochPrefix      = "e/"
	FencePrefix      = "f/"
	SnapshotPrefix   = "s/"
	TitlePrefix      = "n/"
	PinPrefix        = "ref/"
	DescriptorPrefix = "volume."
	// TombstoneName is the mark that the volume was deleted, and that some of its
	// objects may be gone.
	TombstoneName = "volume.deleted"
)

// ChunkName names the full chunk with index chunk, written as part of
// generation gen of epoch e by opening o of the journal.
func ChunkName(chunk uint64, e ident.Epoch, gen uint64, o ident.Open) string {
	b := appendHex(newName(ChunkPrefix), chunk, 6)
	b = appendHex(append(appendEpoch(append(b, '/'), e), '.'), gen, 8)
	return string(appendHex(append(b, '.'), uint64(o), 16))
}

// PackName names the n-th pack of a generation.
func PackName(e ident.Epoch, gen, n uint64, o ident.Open) string {
	return string(appendNumbered(newName(PackPrefix), e, gen, n, o))
}

// PageName names the version of a table page that a generation wrote.
func PageName(e ident.Epoch, gen, page uint64, o ident.Open) string {
	return string(appendNumbered(newName(PagePrefix), e, gen, page, o))
}

// newName begins a name. Names are made for each look into a cache, so without
// package fmt.
func newName(prefix string) []byte { return append(make([]byte, 0, 80), prefix...) }

// appendHex appends v in hexadecimal, with zeros in front up to digits.
func appendHex(b []byte, v uint64, digits int) []byte {
	const hex = "0123456789abcdef"
	for digits < 16 && v>>(4*digits) != 0 {
		digits++
	}
	for digits > 0 {
		digits--
		b = append(b, hex[v>>(4*digits)&15])
	}
	return b
}

func appendEpoch(b []byte, e ident.Epoch) []byte {
	return appendHex(append(appendHex(b, e.Number, 8), '-'), e.Tag, 16)
}

// appendNumbered is the rest of a name with the number n.
func appendNumbered(b []byte, e ident.Epoch, gen, n uint64, o ident.Open) []byte {
	b = appendHex(append(appendEpoch(b, e), '.'), gen, 8)
	b = appendHex(append(b, '.'), n, 4)
	return appendHex(append(b, '.'), uint64(o), 16)
}

// RootName names the root of a generation. It has no opening: a generation has
// one root, whose bytes are journalled before they are sent (R2).
func RootName(e ident.Epoch, gen uint64) string { return fmt.Sprintf("%s%s.%08x", RootPrefix, e, gen) }

// EpochName names the mark that the epoch with this number was given out; its
// body carries the tag.
func EpochName(number uint64) string { return fmt.Sprintf("%s%08x", EpochPrefix, number) }

// FenceName names the mark that the epoch with this number is fenced (R7).
func FenceName(number uint64) string { return fmt.Sprintf("%s%08x", FencePrefix, number) }

// DescriptorName names the n-th descriptor of a volume.
func DescriptorName(n uint64) string { return DescriptorPrefix + strconv.FormatUint(n, 10) }

// SnapshotName names the record of a snapshot.
func SnapshotName(s ident.Snapshot) string { return SnapshotPrefix + string(s) }

// TitleName names the mark that a snapshot is ready; its body carries the
// snapshot's CSI name.
func TitleName(s ident.Snapshot) string { return TitlePrefix + string(s) }

// PinName names the pin that the clone v holds on a root of this container.
func PinName(v ident.Volume) string { return PinPrefix + string(v) }

// ParsedName is what the name of a chunk, pack, page or root says. Fields that
// the kind does not have are zero.
type ParsedName struct {
	Kind  Kind
	Epoch ident.Epoch
	Gen   uint64
	Open  ident.Open
	Index uint64 // of the chunk, the pack or the page
}

// ParseName is the inverse of [ChunkName], [PackName], [PageName] and
// [RootName]. It refuses every other spelling, so that an object has one name.
func ParseName(name string) (ParsedName, error) {
	p, ok := parseName(name)
	if !ok || p.String() != name {
		return ParsedName{}, fmt.Errorf("object name %.128q: not that of a chunk, pack, page or root", name)
	}
	return p, nil
}

// String returns the name that p was parsed from.
func (p ParsedName) String() string {
	switch p.Kind {
	case KindChunk:
		return ChunkName(p.Index, p.Epoch, p.Gen, p.Open)
	case KindPack:
		return PackName(p.Epoch, p.Gen, p.Index, p.Open)
	case KindPage:
		return PageName(p.Epoch, p.Gen, p.Index, p.Open)
	case KindRoot:
		return RootName(p.Epoch, p.Gen)
	}
	return ""
}

// parseName reads the fields without regard to their spelling.
func parseName(name string) (p ParsedName, ok bool) {
	if len(name) < 2 || name[1] != '/' {
		return p, false
	}
	p.Kind = Kind(name[0])
	rest := name[2:]
	if p.Kind == KindChunk {
		index, after, found := strings.Cut(rest, "/")
		if !found || !parseHex(index, &p.Index) {
			return p, false
		}
		rest = after
	}
	fields := strings.Split(rest, ".")
	var err error
	if p.Epoch, err = ident.ParseEpoch(fields[0]); err != nil {
		return p, false
	}
	var targets []*uint64
	switch p.Kind {
	case KindChunk:
		targets = []*uint64{&p.Gen, (*uint64)(&p.Open)}
	case KindPack, KindPage:
		targets = []*uint64{&p.Gen, &p.Index, (*uint64)(&p.Open)}
	case KindRoot:
		targets = []*uint64{&p.Gen}
	default:
		return p, false
	}
	if len(fields) != 1+len(targets) {
		return p, false
	}
	for i, target := range targets {
		if !parseHex(fields[1+i], target) {
			return p, false
		}
	}
	return p, true
}

func parseHex(s string, v *uint64) bool {
	n, err := strconv.ParseUint(s, 16, 64)
	*v = n
	return err == nil
}
