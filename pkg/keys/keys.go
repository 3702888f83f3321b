// Package keys are the keys of encrypted volumes, and their wrapping.
//
// A volume has a key of its own, drawn at random, that everything is encrypted with
// which it writes: its objects in Swift and, with keys derived from it, its
// journals. A clone reads objects of other volumes, too, and so has their keys. All
// keys of a volume are a [Set]. It is kept [Wrapped], by the key of the volume's
// [Class], which a CSI secret brings along:
//
//	key of the class ──HKDF, random salt──▶ wrapping key ──AES-256-GCM──▶ Wrapped
//	                                   └──▶ key check         of the Set
//
// The key check tells a wrong key from damage. The volume's id is additional data:
// no volume's keys can be put in the place of another's.
package keys

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Secret is the secret of a key. Whoever prints it gets a placeholder.
type Secret [32]byte

// Format implements [fmt.Formatter] for every verb.
func (Secret) Format(f fmt.State, _ rune) { io.WriteString(f, "[secret]") }

// MarshalText implements [encoding.TextMarshaler].
func (Secret) MarshalText() ([]byte, error) { return []byte("[secret]"), nil }

// Set is the keys of a volume. The zero value is that of a volume that is not
// encrypted.
type Set struct {
	Own     uint32            // id of the key that the volume encrypts with; 0: none
	Secrets map[uint32]Secret // of all keys, by id
}

// IsZero reports whether there are no keys.
func (s Set) IsZero() bool { return s.Own == 0 }

// Secret returns the volume's own.
func (s Set) Secret() Secret { return s.Secrets[s.Own] }

// New returns the keys of a new volume: those of what it is made from, and one of
// its own, whose id none of them has.
func New(source Set) Set {
	s := Set{Secrets: make(map[uint32]Secret, len(source.Secrets)+1)}
	for id, secret := range source.Secrets {
		s.Secrets[id] = secret
	}
	for s.Own == 0 || s.Secrets[s.Own] != (Secret{}) {
		s.Own = newID()
	}
	var secret Secret
	rand.Read(secret[:]) // never fails
	s.Secrets[s.Own] = secret
	return s
}

func newID() uint32 {
	var b [4]byte
	rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint32(b[:])
}

// ownField is, among fields, that of the id of the volume's own key.
const ownField = "own"

// Fields returns the keys as text, for files that nobody else may read.
func (s Set) Fields() map[string]string {
	fields := map[string]string{ownField: strconv.FormatUint(uint64(s.Own), 10)}
	for id, secret := range s.Secrets {
		fields[strconv.FormatUint(uint64(id), 10)] = hex.EncodeToString(secret[:])
	}
	return fields
}

var errFields = errors.New("these are no keys of a volume")

// ParseFields is the inverse of Fields.
func ParseFields(fields map[string]string) (Set, error) {
	s := Set{Secrets: map[uint32]Secret{}}
	for name, value := range fields {
		text := name
		if name == ownField {
			text = value
		}
		id, err := strconv.ParseUint(text, 10, 32)
		if err != nil || id == 0 {
			return Set{}, errFields
		}
		if name == ownField {
			s.Own = uint32(id)
			continue
		}
		secret, err := hex.DecodeString(value)
		if err != nil {
			return Set{}, errFields // and not the value
		}
		if err := s.add(uint32(id), secret); err != nil {
			return Set{}, err
		}
	}
	return s, s.check()
}

// Bytes returns the secrets by id, for a message to who may have them.
func (s Set) Bytes() map[uint32][]byte {
	all := make(map[uint32][]byte, len(s.Secrets))
	for id, secret := range s.Secrets {
		all[id] = secret[:]
	}
	return all
}

// FromBytes is the inverse of Bytes. Nothing at all are the keys of a volume that is
// not encrypted.
func FromBytes(own uint32, secrets map[uint32][]byte) (Set, error) {
	if own == 0 && len(secrets) == 0 {
		return Set{}, nil
	}
	s := Set{Own: own, Secrets: map[uint32]Secret{}}
	for id, secret := range secrets {
		if err := s.add(id, secret); err != nil {
			return Set{}, err
		}
	}
	return s, s.check()
}

func (s Set) add(id uint32, secret []byte) error {
	if id == 0 || len(secret) != len(Secret{}) || s.Secrets[id] != (Secret{}) || Secret(secret) == (Secret{}) {
		return errFields // and not the value
	}
	s.Secrets[id] = Secret(secret)
	return nil
}

// check refuses a set that lacks the volume's own key.
func (s Set) check() error {
	if s.Own == 0 || s.Secret() == (Secret{}) {
		return errFields
	}
	return nil
}
