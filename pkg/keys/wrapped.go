package keys

import (
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Why keys of a volume are not to be had.
var (
	// ErrNoKey: the key of a class that wraps them is not known here.
	ErrNoKey = errors.New("the key of the class that wraps the volume's keys is not known here")
	// ErrWrongKey: the key has the right name and is not the one that wrapped them.
	ErrWrongKey = errors.New("the volume's keys were wrapped by another key")
	// ErrDamaged: the key is the right one, and what it wrapped was changed since.
	ErrDamaged = errors.New("the wrapped keys of the volume are damaged")
)

// Wrapped is a [Set] that only the key of a class opens. Nothing of it is secret.
// Sealed holds, in this order and without gaps, the id of the volume's own key (4
// bytes, little endian), then id (4) and secret (32) of each key, by id.
type Wrapped struct {
	Cipher string `json:"cipher"` // "aes-256-gcm"
	By     string `json:"by"`     // name of the key of the class
	Salt   []byte `json:"salt"`   // 32 bytes, drawn for this wrapping: its key wraps nothing else
	Check  []byte `json:"check"`  // 16 bytes: whether a key is the right one
	Sealed []byte `json:"sealed"`
}

const (
	wrapCipher = "aes-256-gcm"
	wrapInfo   = "csi-swiftblock keys of a volume, AES-256-GCM"

	saltSize  = 32
	checkSize = 16
	entrySize = 4 + len(Secret{})
)

// wrapping returns what a key and a salt wrap with, and the key check. Both come
// out of one HKDF, so the check tells nothing about the key, and AES-GCM, under which
// one text may open with several keys, is bound to one.
func (c Class) wrapping(salt []byte) (cipher.AEAD, []byte) {
	derived, err := hkdf.Key(sha256.New, c.Secret[:], salt, wrapInfo, len(c.Secret)+checkSize)
	if err != nil {
		panic(err) // the lengths are constants
	}
	block, err := aes.NewCipher(derived[:len(c.Secret)])
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead, derived[len(c.Secret):]
}

// nonce is that of every wrapping: each has a key of its own.
func nonce(aead cipher.AEAD) []byte { return make([]byte, aead.NonceSize()) }

// Wrap seals the keys of a volume.
func (c Class) Wrap(volume string, s Set) *Wrapped {
	salt := make([]byte, saltSize)
	rand.Read(salt) // never fails
	aead, check := c.wrapping(salt)
	text := binary.LittleEndian.AppendUint32(nil, s.Own)
	for _, id := range slices.Sorted(maps.Keys(s.Secrets)) {
		secret := s.Secrets[id]
		text = append(binary.LittleEndian.AppendUint32(text, id), secret[:]...)
	}
	return &Wrapped{
		Cipher: wrapCipher, By: c.Name(), Salt: salt, Check: check,
		Sealed: aead.Seal(nil, nonce(aead), text, []byte(volume)),
	}
}

// Unwrap is the inverse of Wrap: ErrWrongKey, ErrDamaged.
func (c Class) Unwrap(volume string, w *Wrapped) (Set, error) {
	if w.Cipher != wrapCipher || len(w.Salt) != saltSize || len(w.Check) != checkSize {
		return Set{}, fmt.Errorf("%w: cipher %.32q, %d bytes of salt, %d of key check", ErrDamaged, w.Cipher, len(w.Salt), len(w.Check))
	}
	aead, check := c.wrapping(w.Salt)
	if subtle.ConstantTimeCompare(check, w.Check) == 0 {
		return Set{}, ErrWrongKey
	}
	text, err := aead.Open(nil, nonce(aead), w.Sealed, []byte(volume))
	if err != nil || len(text) < 4 || (len(text)-4)%entrySize != 0 {
		return Set{}, ErrDamaged
	}
	s := Set{Own: binary.LittleEndian.Uint32(text), Secrets: map[uint32]Secret{}}
	for entry := range slices.Chunk(text[4:], entrySize) {
		err = cmp.Or(err, s.add(binary.LittleEndian.Uint32(entry), entry[4:]))
	}
	if err = cmp.Or(err, s.check()); err != nil {
		return Set{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return s, nil
}
