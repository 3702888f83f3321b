package snapshots

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/internal/strict"
)

// sample is one object of a kind, and how it is decoded.
type sample struct {
	at     Location
	object []byte
	decode func(object []byte) error
}

// samples returns an object of every kind.
func samples(t testing.TB) map[string]sample {
	t.Helper()
	u := goldenUpdate(t, BlankTable())
	page := u.Table.pages[0]
	record, pin := goldenRecord(), goldenPin()
	recordAt := Location{Container: "sb-1", Name: chunks.SnapshotName(record.ID)}
	pinAt := Location{Container: "sb-1", Name: chunks.PinName(pin.Child)}
	must := func(object []byte, err error) []byte {
		if err != nil {
			t.Fatal(err)
		}
		return object
	}
	return map[string]sample{
		"root": {u.RootObject.Location, u.RootObject.Body, func(object []byte) error {
			_, err := DecodeRoot(u.RootObject.Location, object)
			return err
		}},
		"page": {u.Pages[0].Location, u.Pages[0].Body, func(object []byte) error {
			ref := page.pageRef
			ref.hash = sha256.Sum256(object) // so that what is behind the hash is tested, too
			if _, err := decodePage(ref, object, u.Root.Containers); err != nil {
				return damaged(ref.location(), err)
			}
			return nil
		}},
		"record": {recordAt, must(record.encode(recordAt)), func(object []byte) error {
			_, err := decodeRecord(recordAt, object)
			return err
		}},
		"pin": {pinAt, must(pin.encode(pinAt)), func(object []byte) error {
			_, err := decodePin(pinAt, object)
			return err
		}},
	}
}

func TestEveryFlipAndTruncationIsFound(t *testing.T) {
	for kind, s := range samples(t) {
		if err := s.decode(s.object); err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		for i := range s.object {
			for _, bad := range [][]byte{s.object[:i], s.object[i+1:], flip(s.object, i, 1), flip(s.object, i, 0x80), flip(s.object, i, 0xff)} {
				if err := s.decode(bad); !errors.Is(err, chunks.ErrDamaged) {
					t.Fatalf("%s: byte %d of %d: %v", kind, i, len(s.object), err)
				}
			}
		}
		if err := s.decode(append(bytes.Clone(s.object), 0)); !errors.Is(err, chunks.ErrDamaged) {
			t.Errorf("%s: a trailing byte: %v", kind, err)
		}
	}
}

func flip(object []byte, i int, bits byte) []byte {
	bad := bytes.Clone(object)
	bad[i] ^= bits
	return bad
}

func TestOneObjectDoesNotStandInForAnother(t *testing.T) {
	u := goldenUpdate(t, BlankTable())
	later := u.RootObject.Location
	later.Name = chunks.RootName(goldenEpoch, 8)
	elsewhere := u.RootObject.Location
	elsewhere.Container = "sb-2"
	for _, at := range []Location{later, elsewhere} {
		if _, err := DecodeRoot(at, u.RootObject.Body); !errors.Is(err, chunks.ErrDamaged) {
			t.Errorf("read as %s: %v", at, err)
		}
	}
	ref := u.Table.pages[0].pageRef
	ref.number = 1
	if _, err := decodePage(ref, u.Pages[0].Body, u.Root.Containers); err == nil {
		t.Error("a page was read as another one")
	}
	ref.number, ref.hash[0] = 0, ref.hash[0]^1
	if _, err := decodePage(ref, u.Pages[0].Body, u.Root.Containers); err == nil {
		t.Error("a page was read in spite of its hash")
	}
}

// envelope makes an object whose checksum is right.
func envelope(kind, v byte, at Location, fields []byte) []byte {
	body := append(strict.AppendString(nil, at.String()), fields...)
	b := append([]byte(magic), v, kind, bodyStored, 0)
	b = append(binary.LittleEndian.AppendUint32(b, uint32(len(body))), body...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

var rootAt = Location{Container: "sb-1", Name: chunks.RootName(goldenEpoch, 7)}

// rootBody is the body of a root after its name: 8 GiB, formatted, closed, cut at
// no time, no snapshot, no parent, and the rest.
func rootBody(rest ...byte) []byte {
	return append(binary.AppendUvarint(nil, 8*gib/512), append([]byte{2, 1, 0, 0, 0}, rest...)...)
}

// oneContainer is the dictionary of "c".
var oneContainer = []byte{1, 1, 'c', 0}

// oneOrigin is a list of one origin of container 0, epoch 1.
var oneOrigin = append([]byte{1, 0, 1}, make([]byte, 16)...)

func TestRefusalsBehindARightChecksum(t *testing.T) {
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	// No pages, and one recent entry: chunk 5 has a base of generation 3.
	recent := join(oneOrigin, []byte{1, 5, 0, 0, 1, 0, 0, 0, 0, 0, 3})
	good := rootBody(join(oneContainer, []byte{0, 0}, recent)...)
	if r, err := DecodeRoot(rootAt, envelope('r', 1, rootAt, good)); err != nil || r.recent.count() != 1 {
		t.Fatal(err)
	}
	page := join([]byte{1, 0, 0, 9}, make([]byte, 32))
	for what, bad := range map[string][]byte{
		"version 2":                envelope('r', 2, rootAt, good),
		"kind of a page":           envelope('t', 1, rootAt, good),
		"trailing byte":            envelope('r', 1, rootAt, append(bytes.Clone(good), 0)),
		"size above 16 TiB":        envelope('r', 1, rootAt, append(binary.AppendUvarint(nil, MaxSize/512+1), good[4:]...)),
		"unknown mark":             envelope('r', 1, rootAt, append(binary.AppendUvarint(nil, 8*gib/512), 3)),
		"flag 2":                   envelope('r', 1, rootAt, append(binary.AppendUvarint(nil, 8*gib/512), 0, 2)),
		"container without name":   envelope('r', 1, rootAt, rootBody(1, 0, 0, 0, 0, 0, 0)),
		"container twice":          envelope('r', 1, rootAt, rootBody(2, 1, 'c', 0, 1, 'c', 0, 0, 0, 0, 0)),
		"origin of no container":   envelope('r', 1, rootAt, rootBody(join([]byte{0, 0, 0}, recent)...)),
		"entries without origin":   envelope('r', 1, rootAt, rootBody(join(oneContainer, []byte{0, 0}, oneOrigin, []byte{0})...)),
		"origin that is not used":  envelope('r', 1, rootAt, rootBody(join(oneContainer, oneOrigin, []byte{0, 0, 0})...)),
		"origin twice":             envelope('r', 1, rootAt, rootBody(join(oneContainer, []byte{0, 0, 2}, oneOrigin[1:], oneOrigin[1:], []byte{1, 5, 1, 0, 1, 0, 0, 0, 0, 0, 3, 0, 2, 0, 0, 0, 0, 0, 3})...)),
		"page of no origin":        envelope('r', 1, rootAt, rootBody(join(oneContainer, []byte{0}, page, []byte{0, 0})...)),
		"page beyond the size":     envelope('r', 1, rootAt, rootBody(join(oneContainer, oneOrigin, []byte{1, 1, 0, 9}, make([]byte, 32), []byte{0, 0})...)),
		"chunk beyond the size":    envelope('r', 1, rootAt, rootBody(join(oneContainer, []byte{0, 0}, oneOrigin, []byte{1, 0x80, 8, 0, 0, 1, 0, 0, 0, 0, 0, 3})...)),
		"too many patches":         envelope('r', 1, rootAt, rootBody(join(oneContainer, []byte{0, 0}, oneOrigin, []byte{1, 5, 9}, make([]byte, 80))...)),
		"base in a pack":           envelope('r', 1, rootAt, rootBody(join(oneContainer, []byte{0, 0}, oneOrigin, []byte{1, 5, 0, 0, 1, 0, 1, 0, 0, 0, 3})...)),
		"base of no origin":        envelope('r', 1, rootAt, rootBody(join(oneContainer, []byte{0, 0}, oneOrigin, []byte{1, 5, 1, 0, 2, 0, 0, 0, 0, 0, 3, 0, 1, 0, 0, 0, 0, 0, 3})...)),
		"patch of no origin":       envelope('r', 1, rootAt, rootBody(join(oneContainer, []byte{0, 0}, oneOrigin, []byte{1, 5, 1, 0, 1, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 3})...)),
		"more recent than allowed": envelope('r', 1, rootAt, rootBody(join(oneContainer, []byte{0, 0}, []byte{0}, binary.AppendUvarint(nil, maxRecent+1), make([]byte, 10*maxRecent+10))...)),
	} {
		if _, err := DecodeRoot(rootAt, bad); !errors.Is(err, chunks.ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := DecodeRoot(Location{Container: "sb-1", Name: "r/7"}, good); err == nil {
		t.Error("a root of no name was read")
	}
}

func TestAPageHasNoZeros(t *testing.T) {
	list := &entries{chunks: []uint32{3}, bases: []ref{0}, first: []uint32{0, 0}}
	ref := pageRef{origin: goldenOrigin, gen: 7}
	object, err := encodePage(&ref, list, newDictionary(nil, Container{}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decodePage(ref, object, nil); err == nil {
		t.Error("an entry for zeros was accepted in a page")
	}
}

// FuzzRoot looks for bodies that are accepted and have another spelling.
func FuzzRoot(f *testing.F) {
	u := goldenUpdate(f, BlankTable())
	fields, err := disclose(kindRoot, u.RootObject.Location, u.RootObject.Body)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(fields.Bytes(fields.Len()))
	f.Add(rootBody(0, 0, 0, 0, 0))
	f.Fuzz(func(t *testing.T, body []byte) {
		object := envelope(kindRoot, version, rootAt, body)
		root, err := DecodeRoot(rootAt, object)
		if err != nil {
			if !errors.Is(err, chunks.ErrDamaged) {
				t.Fatal(err)
			}
			return
		}
		again, err := root.encode(newDictionary(root.Containers, Container{}))
		if err != nil {
			t.Fatal(err)
		}
		fields, err := disclose(kindRoot, rootAt, again)
		if err != nil || !bytes.Equal(fields.Bytes(fields.Len()), body) {
			t.Fatalf("% x has another spelling, or %v", body, err)
		}
	})
}

// FuzzPage does the same for pages.
func FuzzPage(f *testing.F) {
	u := goldenUpdate(f, BlankTable())
	containers := append(u.Root.Containers, Container{Name: "sb-2"})
	fields, err := disclose(kindPage, u.Pages[0].Location, u.Pages[0].Body)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(fields.Bytes(fields.Len()))
	f.Add(append(oneOrigin, 1, 5, 1, 0, 1, 0, 0, 0, 0, 0, 3, 0, 1, 0, 2, 0, 0, 0, 4))
	f.Fuzz(func(t *testing.T, body []byte) {
		r := strict.NewReader(body)
		list := readEntries(r, containers, PageChunks, PageChunks, false)
		if r.End() != nil {
			return
		}
		if again := list.append(nil, newDictionary(containers, Container{})); !bytes.Equal(again, body) {
			t.Fatalf("% x has another spelling % x", body, again)
		}
	})
}

// FuzzRecords does the same for snapshot records and pins.
func FuzzRecords(f *testing.F) {
	for name, kind := range map[string]byte{"record": kindRecord, "pin": kindPin} {
		s := samples(f)[name]
		fields, err := disclose(kind, s.at, s.object)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(fields.Bytes(fields.Len()))
	}
	record, pin := goldenRecord(), goldenPin()
	f.Fuzz(func(t *testing.T, body []byte) {
		at := Location{Container: "sb-1", Name: chunks.SnapshotName(record.ID)}
		if r, err := decodeRecord(at, envelope(kindRecord, version, at, body)); err == nil {
			same(t, kindRecord, at, body, r.encode)
		}
		at.Name = chunks.PinName(pin.Child)
		if p, err := decodePin(at, envelope(kindPin, version, at, body)); err == nil {
			same(t, kindPin, at, body, p.encode)
		}
	})
}

func same(t *testing.T, kind byte, at Location, body []byte, encode func(Location) ([]byte, error)) {
	t.Helper()
	again, err := encode(at)
	if err != nil {
		t.Fatal(err)
	}
	fields, err := disclose(kind, at, again)
	if err != nil || !bytes.Equal(fields.Bytes(fields.Len()), body) {
		t.Fatalf("% x has another spelling, or %v", body, err)
	}
}

// FuzzObject decodes any bytes as an object, with a right checksum.
func FuzzObject(f *testing.F) {
	all := samples(f)
	for _, s := range all {
		f.Add(s.object[:len(s.object)-4])
	}
	f.Fuzz(func(t *testing.T, object []byte) {
		object = binary.LittleEndian.AppendUint32(bytes.Clone(object), crc32.Checksum(object, castagnoli))
		for kind, s := range all {
			if err := s.decode(object); err != nil && !errors.Is(err, chunks.ErrDamaged) {
				t.Fatalf("%s: %v", kind, err)
			}
		}
	})
}
