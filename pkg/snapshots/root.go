package snapshots

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/internal/strict"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
)

// Parent names the root that a root continues. For the first root of a clone it
// is in another container.
type Parent struct {
	Container string
	Ref
}

// check refuses what no root can be named by.
func (p Parent) check() error {
	if p == (Parent{}) || p.Container != "" && !p.Epoch.IsZero() && p.Gen <= maxGen {
		return nil
	}
	return fmt.Errorf("no root is at %+v", p)
}

// Mark says how far the volume's first format has got.
type Mark uint8

// The marks, in the order in which a volume gets them.
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
	Sealed time.Time // when the generation was cut, kept in milliseconds: the age of its data
}

// Container is an entry of a root's dictionary.
type Container struct {
	Name string
	Key  uint32 // id of the key of its objects; 0: not encrypted
}

// Root is the root of one generation. It is immutable.
type Root struct {
	Container string // where the root itself is
	Ref       Ref
	Parent    Parent // zero for the first root of a blank volume
	State     State
	// Snapshot is the snapshot that the generation was cut for, or "".
	Snapshot ident.Snapshot
	// Containers are those that the table may name objects in. Whoever copies
	// the table pins all of them.
	Containers []Container

	pages  []pageRef // sorted by number
	recent *entries  // go before those of the pages; may be zero entries
}

// Recorded is r as the authority records it.
func (r *Root) Recorded() authority.Root { return r.Ref.In(r.Container) }

// Keys returns the keys that the objects of r's table are encrypted with, from
// the secrets of the keys by id. One that is missing is chunks.ErrNoKey.
func (r *Root) Keys(secrets map[uint32]keys.Secret) (chunks.Keys, error) {
	all := make(chunks.Keys)
	for _, c := range r.Containers {
		if c.Key == 0 {
			continue
		}
		secret, known := secrets[c.Key]
		if !known {
			return nil, &chunks.KeyError{At: Location{Container: c.Name}, ID: c.Key, Reason: chunks.ErrNoKey}
		}
		all[c.Name] = chunks.Key{ID: c.Key, Secret: secret}
	}
	return all, nil
}

// pageRef names a page, and proves it.
type pageRef struct {
	number int
	origin Origin
	gen    uint64
	hash   Hash
}

// location returns where the page is.
func (p pageRef) location() Location {
	name := chunks.PageName(p.origin.Epoch, p.gen, uint64(p.number), p.origin.Open)
	return Location{Container: p.origin.Container, Name: name}
}

// Location returns where the root is.
func (r *Root) Location() Location {
	return Location{Container: r.Container, Name: r.Ref.Name()}
}

// encode returns the object of r, whose dictionary d becomes, and completes
// r.Ref by its hash.
func (r *Root) encode(d *dictionary) ([]byte, error) {
	// The containers' numbers are given out while the origins are written, but
	// the dictionary goes before them.
	var tail []byte
	tail = r.appendPages(tail, d)
	tail = r.recent.append(tail, d)
	r.Containers = d.list

	b := binary.AppendUvarint(nil, uint64(r.State.Size)/chunks.Sector)
	b = append(b, byte(r.State.Mark), oneIf(r.State.Clean))
	b = appendTime(b, r.State.Sealed)
	b = strict.AppendString(b, string(r.Snapshot))
	b = appendParent(b, r.Parent)
	b = binary.AppendUvarint(b, uint64(len(r.Containers)))
	for _, c := range r.Containers {
		b = binary.AppendUvarint(strict.AppendString(b, c.Name), uint64(c.Key))
	}
	object, err := enclose(kindRoot, r.Location(), append(b, tail...))
	if err != nil {
		return nil, err
	}
	r.Ref.Hash = sha256.Sum256(object)
	return object, nil
}

func oneIf(set bool) byte {
	if set {
		return 1
	}
	return 0
}

func (r *Root) appendPages(b []byte, d *dictionary) []byte {
	var origins []Origin
	index := make(map[Origin]int)
	for _, p := range r.pages {
		if _, known := index[p.origin]; !known {
			index[p.origin] = len(origins)
			origins = append(origins, p.origin)
		}
	}
	b = appendOrigins(b, d, origins)
	b = binary.AppendUvarint(b, uint64(len(r.pages)))
	next := 0
	for _, p := range r.pages {
		b = binary.AppendUvarint(b, uint64(p.number-next))
		b = binary.AppendUvarint(b, uint64(index[p.origin]))
		b = binary.AppendUvarint(b, p.gen)
		b = append(b, p.hash[:]...)
		next = p.number + 1
	}
	return b
}

// DecodeRoot decodes the root at, verifying its checksum and its own name. A
// root that was found by its name has no other proof; its Ref.Hash is computed.
func DecodeRoot(at Location, object []byte) (*Root, error) {
	name, err := chunks.ParseName(at.Name)
	if err == nil && name.Kind != chunks.KindRoot {
		err = errors.New("not the name of a root")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", at, err)
	}
	r := &Root{
		Container: at.Container,
		Ref:       Ref{Epoch: name.Epoch, Gen: name.Gen, Hash: sha256.Sum256(object)},
	}
	fields, err := disclose(kindRoot, at, object)
	if err == nil {
		err = r.read(fields)
	}
	if err != nil {
		return nil, damaged(at, err)
	}
	return r, nil
}

// read reads the fields of a root's body.
func (r *Root) read(f *strict.Reader) error {
	r.State.Size = int64(f.Uvarint(MaxSize/chunks.Sector)) * chunks.Sector
	r.State.Mark = Mark(f.Uvarint(uint64(Formatted)))
	r.State.Clean = readFlag(f)
	r.State.Sealed = readTime(f)
	if s := f.String(maxName); s != "" {
		id, err := ident.ParseSnapshot(s)
		if err != nil {
			f.Fail("%w", err)
		}
		r.Snapshot = id
	}
	r.Parent = readParent(f)
	r.Containers = make([]Container, 0, f.Count(maxOrigins, 3))
	seen := make(map[string]bool)
	for range cap(r.Containers) {
		c := Container{Name: readContainer(f), Key: uint32(f.Uvarint(1<<32 - 1))}
		if seen[c.Name] {
			f.Fail("container %q twice", c.Name)
			break
		}
		seen[c.Name] = true
		r.Containers = append(r.Containers, c)
	}
	r.readPages(f)
	r.recent = readEntries(f, r.Containers, maxRecent, chunkCount(r.State.Size), true)
	return f.End()
}

// appendParent writes a place that may be empty.
func appendParent(b []byte, p Parent) []byte {
	b = append(b, oneIf(!p.IsZero()))
	if p.IsZero() {
		return b
	}
	return appendRef(strict.AppendString(b, p.Container), p.Ref)
}

func readParent(f *strict.Reader) (p Parent) {
	if readFlag(f) {
		p = Parent{Container: readContainer(f), Ref: readRef(f)}
	}
	return p
}

// readFlag reads a byte that is 0 or 1.
func readFlag(f *strict.Reader) bool {
	b := f.Byte()
	if b > 1 {
		f.Fail("flag %d", b)
	}
	return b == 1
}

func readContainer(f *strict.Reader) string {
	name := f.String(maxName)
	if name == "" {
		f.Fail("a container without a name")
	}
	return name
}

func (r *Root) readPages(f *strict.Reader) {
	origins := readOrigins(f, r.Containers)
	pages := pageCount(r.State.Size)
	r.pages = make([]pageRef, 0, f.Count(pages, 3+sha256.Size))
	used, next := 0, 0
	for range cap(r.pages) {
		p := pageRef{number: next + int(f.Uvarint(uint64(pages)))}
		origin := int(f.Uvarint(maxOrigins))
		p.gen, p.hash = f.Uvarint(maxGen), readHash(f)
		if p.number >= pages || origin >= len(origins) {
			f.Fail("page %d of %d, origin %d of %d", p.number, pages, origin, len(origins))
			return
		}
		if origin == used {
			used++
		}
		p.origin, next = origins[origin], p.number+1
		r.pages = append(r.pages, p)
	}
	if used != len(origins) {
		f.Fail("%d origins, of which %d are used in order", len(origins), used)
	}
}
