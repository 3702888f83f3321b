package chunks

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"reflect"
	"strings"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/internal/strict"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
)

func TestKeysThatDoNotFit(t *testing.T) {
	at := secretAt(1)
	object := smallPackAt(t, at, encrypted)
	for what, c := range map[string]struct {
		keys Keys
		want error
	}{
		"none":           {nil, ErrNoKey},
		"another id":     {Keys{at.Container: {ID: 43, Secret: encrypted.Key.Secret}}, ErrNoKey},
		"another secret": {Keys{at.Container: {ID: 42, Secret: keys.Secret{9}}}, ErrWrongKey},
	} {
		_, err := ParseIndex(at, int64(len(object)), object, c.keys)
		key, ok := errors.AsType[*KeyError](err)
		if !ok || !errors.Is(err, c.want) || errors.Is(err, ErrDamaged) || key.ID != 42 || key.At != at {
			t.Errorf("%s: %v", what, err)
		}
		// Whatever the key, what is not intact is damaged.
		bad := bytes.Clone(object)
		bad[len(bad)-trailerSize-1] ^= 1
		if _, err := ParseIndex(at, int64(len(bad)), bad, c.keys); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s, damaged: %v", what, err)
		}
	}
}

// TestForgeries changes encrypted objects as somebody would who can compute
// checksums and has seen other objects of the volume.
func TestForgeries(t *testing.T) {
	at := secretAt(1)
	object := smallPackAt(t, at, encrypted)
	x := readIndex(t, at, object)
	last := x.frames[len(x.frames)-1]
	body, footer := object[:last.pos+last.stored], object[last.pos+last.stored:len(object)-trailerSize]
	name := len(strict.AppendString(nil, at.String()))
	change := func(i int) []byte {
		bad := bytes.Clone(footer)
		bad[name+i] ^= 1
		return seal(body, bad, version, byte(KindPack))
	}
	frames := x.Frames(7, 0, Size)
	moved := bytes.Clone(object)
	a, b := frames[0], frames[2]
	copy(moved[a.Pos:], object[b.Pos:][:min(a.Stored, b.Stored)])

	// Another object of the same size, whose frames are in the same places.
	other := smallPackAt(t, secretAt(2), encrypted)
	mixed := append(bytes.Clone(other[:len(body)]), object[len(body):]...)
	// The same object, under this name.
	renamed := bytes.Replace(other, []byte(secretAt(2).Name), []byte(at.Name), 1)
	binary.LittleEndian.PutUint32(renamed[len(renamed)-4:], crc32.Checksum(renamed[len(body):len(renamed)-4], castagnoli))

	const id, objectIDAt, checkAt, sealedAt = 1, 5, 21, 37
	for what, c := range map[string]struct {
		object []byte
		want   error
	}{
		"another key id":          {change(id), ErrNoKey},
		"another object id":       {change(objectIDAt), ErrWrongKey},
		"another key check":       {change(checkAt), ErrWrongKey},
		"another frame list":      {change(sealedAt), ErrDamaged},
		"frames swapped":          {moved, ErrDamaged},
		"frames of another":       {mixed, ErrDamaged},
		"another under this name": {renamed, ErrDamaged},
		"plain in its place":      {smallPackAt(t, at, Options{}), ErrDamaged},
	} {
		_, err := contents(at, c.object)
		if !errors.Is(err, c.want) || c.want != ErrDamaged && errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
	}
}

// Nothing of the data may show, and not twice the same.
func TestCipherHidesData(t *testing.T) {
	text := bytes.Repeat([]byte("swiftblock "), 100)[:2*Sector]
	list := []Extent{{Chunk: 7, Len: uint32(len(text)), Data: text}}
	o := Options{NoCompression: true, Key: encrypted.Key}
	one, err := EncodePack(secretAt(1), list, o)
	if err != nil {
		t.Fatal(err)
	}
	two, err := EncodePack(secretAt(1), list, o)
	if err != nil {
		t.Fatal(err)
	}
	sum := binary.LittleEndian.AppendUint32(nil, crc32.Checksum(text, castagnoli))
	if bytes.Contains(one, text[:16]) || bytes.Contains(one, sum) {
		t.Error("data or its checksum is in the object")
	}
	if bytes.Equal(one[:Sector], two[:Sector]) {
		t.Error("two objects are encrypted alike")
	}
	if plain, _ := EncodePack(secretAt(1), list, Options{NoCompression: true}); len(one) != len(plain)+2*tagSize+4+16+checkSize {
		t.Errorf("encryption adds %d bytes", len(one)-len(plain))
	}
}

// Frames of one object that hold the same are not sealed alike: each has a nonce
// of its own (B8).
func TestNoNonceTwice(t *testing.T) {
	data := bytes.Repeat([]byte{1}, Size)
	at := Location{Container: secretContainer, Name: chunkAt(1).Name}
	object, err := EncodeChunk(at, data, Options{NoCompression: true, Key: encrypted.Key})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for i, f := range readIndex(t, at, object).frames {
		first := string(object[f.pos:][:32])
		if other, ok := seen[first]; ok {
			t.Fatalf("frames %d and %d are encrypted alike", other, i)
		}
		seen[first] = i
	}
	if len(seen) != Size/FrameSize {
		t.Errorf("%d frames", len(seen))
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	key := Key{ID: 42, Secret: keys.Secret{0xab, 0xcd}}
	text, err := json.Marshal(key)
	if err != nil {
		t.Fatal(err)
	}
	all := string(text)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		all += fmt.Sprintf(verb, key)
	}
	if n := strings.Count(all, "[secret]"); n != 8 || strings.Contains(all, "171") || strings.Contains(all, "ab") {
		t.Errorf("%d placeholders in %s", n, all)
	}
}

func TestEncryptedContents(t *testing.T) {
	want, err := contents(packAt(1), smallPack(t))
	if err != nil {
		t.Fatal(err)
	}
	got, err := contents(secretAt(1), smallPackAt(t, secretAt(1), encrypted))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("encryption changes data, or %v", err)
	}
}
