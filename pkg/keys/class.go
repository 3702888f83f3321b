package keys

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"strings"
)

// The names of the keys of classes in CSI secrets. The value is 32 random bytes in
// base64, as `openssl rand -base64 32` makes them: a Secret is read by machines, and
// what people can remember could be guessed by whoever can read the container.
const (
	Field         = "encryptionKey"
	PreviousField = "encryptionKeyPrevious" // the one before, while it is being exchanged
)

// Class is the key of a class: it wraps keys of volumes.
type Class struct{ Secret Secret } // with a name, so that printing heeds it

const nameInfo = "csi-swiftblock name of a class's key"

// Name returns 32 hexadecimal digits that tell the key from all others and nothing
// about it.
func (c Class) Name() string {
	name, err := hkdf.Key(sha256.New, c.Secret[:], nil, nameInfo, 16)
	if err != nil {
		panic(err) // the lengths are constants
	}
	return hex.EncodeToString(name)
}

// ParseClass takes in the key of a class as a CSI secret has it.
func ParseClass(value string) (Class, error) {
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(value))
	if err != nil || len(b) != len(Secret{}) || Secret(b) == (Secret{}) {
		return Class{}, errors.New("want 32 random bytes in base64, as `openssl rand -base64 32` makes them")
	}
	return Class{Secret(b)}, nil
}

// Ring is the keys that a class's CSI secret holds: the present one first. It is
// empty for a class without encryption.
type Ring []Class

// Split takes the keys of a class out of the secrets of a request. The rest are the
// credentials of its Swift account.
func Split(secrets map[string]string) (Ring, map[string]string, error) {
	var ring Ring
	rest := maps.Clone(secrets)
	for _, field := range []string{Field, PreviousField} {
		value, given := rest[field]
		if !given {
			continue
		}
		delete(rest, field)
		c, err := ParseClass(value)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", field, err)
		}
		ring = append(ring, c)
	}
	if _, present := secrets[Field]; len(ring) > 0 && !present {
		return nil, nil, fmt.Errorf("%s without %s", PreviousField, Field)
	}
	return ring, rest, nil
}

// Names lists the names of the keys.
func (r Ring) Names() []string {
	var names []string
	for _, c := range r {
		names = append(names, c.Name())
	}
	return names
}

// Unwrap returns the keys of a volume with that of the ring which wraps them.
// ErrNoKey: it is none of them.
func (r Ring) Unwrap(volume string, w *Wrapped) (Set, error) {
	if w == nil {
		return Set{}, nil
	}
	for _, c := range r {
		if c.Name() == w.By {
			return c.Unwrap(volume, w)
		}
	}
	return Set{}, ErrNoKey
}

// Check refuses a class that is encrypted without a key, and a key of one that is not.
func (r Ring) Check(encrypted bool) error {
	switch {
	case encrypted && len(r) == 0:
		return fmt.Errorf("a class with encryption needs %s: %w", Field, ErrNoKey)
	case !encrypted && len(r) > 0:
		return fmt.Errorf("%s is given, and the class's parameter encryption is none", Field)
	}
	return nil
}
