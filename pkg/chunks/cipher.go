package chunks

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/swiftblock/csi-swiftblock/pkg/internal/strict"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
)

// The reasons of a [KeyError].
var (
	// ErrNoKey says that an intact object is encrypted and its key not known.
	ErrNoKey = errors.New("encrypted, and its key is not known")
	// ErrWrongKey says that a key has the right id and is not the one that the
	// object was encrypted with.
	ErrWrongKey = errors.New("encrypted with another key of the same id")
)

// KeyError says that an object whose checksums are right cannot be decrypted.
type KeyError struct {
	At     Location
	ID     uint32 // of the key that the object names
	Reason error  // ErrNoKey or ErrWrongKey
}

// Error names the object and the key's id.
func (e *KeyError) Error() string { return fmt.Sprintf("%s: key %d: %v", e.At, e.ID, e.Reason) }

// Unwrap returns the reason.
func (e *KeyError) Unwrap() error { return e.Reason }

// Key is a key that objects are encrypted with. The zero value is none.
type Key struct {
	ID     uint32 // as in the dictionaries of roots; not 0
	Secret keys.Secret
}

// Keys are keys by the containers whose chunks and packs they encrypt: all of
// them. The objects of a container that is not in it are not encrypted.
type Keys map[string]Key

const (
	tagSize   = 16                                   // what sealing adds
	checkSize = 16                                   // bytes of key check
	keyInfo   = "csi-swiftblock object, AES-256-GCM" // binds derived keys to their use

	footerNonce = math.MaxUint32 // above the number of every frame
)

// objectID is drawn for each encrypted object: its key is used for no other.
type objectID [16]byte

func newObjectID() (id objectID) {
	rand.Read(id[:]) // never fails
	return id
}

// sealer seals and opens the parts of one object.
type sealer struct {
	aead  cipher.AEAD
	name  []byte          // additional data: the object's full name
	check [checkSize]byte // tells whether a key is the right one
}

// newSealer derives the object's key and its check from the volume's key. Both
// come out of one HKDF, so the check tells nothing about the key, and AES-GCM,
// under which one text may open with several keys, is bound to one.
func newSealer(key Key, id objectID, at Location) *sealer {
	derived, err := hkdf.Key(sha256.New, key.Secret[:], id[:], keyInfo, len(key.Secret)+checkSize)
	if err != nil {
		panic(err) // the lengths are constants
	}
	block, err := aes.NewCipher(derived[:len(key.Secret)])
	if err != nil {
		panic(err)
	}
	s := &sealer{name: []byte(at.String())}
	if s.aead, err = cipher.NewGCM(block); err != nil {
		panic(err)
	}
	copy(s.check[:], derived[len(key.Secret):])
	return s
}

// nonce is a number that is used once in an object.
func nonce(n uint32) []byte {
	return binary.LittleEndian.AppendUint32(make([]byte, 0, 12), n)[:12]
}

// seal seals what b holds from start on, in place.
func (s *sealer) seal(b []byte, start int, n uint32) []byte {
	return s.aead.Seal(b[:start], nonce(n), b[start:], s.name)
}

// open appends to dst what was sealed. A failure is damage: of the object, or
// of what somebody made of it.
func (s *sealer) open(dst, sealed []byte, n uint32) ([]byte, error) {
	return s.aead.Open(dst, nonce(n), sealed, s.name)
}

// unseal reads which cipher the object at has, and returns a reader of the rest
// of its footer. The sealer is nil if the object is not encrypted, which it must
// not be if there is a key for it: else anybody could put plain data in its place.
func unseal(r *strict.Reader, at Location, key Key) (*strict.Reader, *sealer, error) {
	switch code := r.Byte(); {
	case r.Err() != nil:
		return nil, nil, r.Err()
	case code == cipherNone && key.ID == 0:
		return r, nil, nil
	case code == cipherNone:
		return nil, nil, fmt.Errorf("not encrypted, with key %d it must be", key.ID)
	case code != cipherGCM:
		return nil, nil, fmt.Errorf("cipher %d", code)
	}
	keyID, id := r.Uint32(), objectID{}
	copy(id[:], r.Bytes(len(id)))
	check := r.Bytes(checkSize)
	sealed := r.Bytes(r.Len())
	switch {
	case r.Err() != nil:
		return nil, nil, r.Err()
	case keyID == 0:
		return nil, nil, errors.New("encrypted with no key")
	case keyID != key.ID:
		return nil, nil, &KeyError{at, keyID, ErrNoKey}
	}
	s := newSealer(key, id, at)
	if subtle.ConstantTimeCompare(s.check[:], check) == 0 {
		return nil, nil, &KeyError{at, keyID, ErrWrongKey}
	}
	footer, err := s.open(nil, sealed, footerNonce)
	return strict.NewReader(footer), s, err
}
