package keys

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
)

// Store keeps secrets by name. Load returns an error that Is [fs.ErrNotExist] if
// nothing was saved; to remove that is no error.
type Store interface {
	Load(name string) (map[string]string, error)
	Save(name string, secrets map[string]string) error
	Remove(name string) error
}

// Vault keeps the keys of classes under their names: a node that has to have the
// keys of a volume again after its reboot brings no CSI secret along.
type Vault struct{ Store Store }

// Add keeps the keys of a ring.
func (v Vault) Add(r Ring) error {
	for _, c := range r {
		err := v.Store.Save(c.Name(), map[string]string{Field: base64.StdEncoding.EncodeToString(c.Secret[:])})
		if err != nil {
			return fmt.Errorf("keep the key %s of a class: %w", c.Name(), err)
		}
	}
	return nil
}

// Class returns the key of a name. ErrNoKey: it is not kept here; ErrWrongKey: another is.
func (v Vault) Class(name string) (Class, error) {
	fields, err := v.Store.Load(name)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w (%.32s)", ErrNoKey, name)
	}
	if err != nil {
		return Class{}, err
	}
	c, err := ParseClass(fields[Field])
	if err == nil && c.Name() != name {
		err = ErrWrongKey // what it wraps would name a key that is not kept
	}
	if err != nil {
		return Class{}, fmt.Errorf("the key %.32s of a class: %w", name, err)
	}
	return c, nil
}

// Remove forgets a key.
func (v Vault) Remove(name string) error { return v.Store.Remove(name) }

// Unwrap returns the keys of a volume; none for nil. An error Is ErrNoKey,
// ErrWrongKey or ErrDamaged if it does not pass.
func (v Vault) Unwrap(volume string, w *Wrapped) (Set, error) {
	if w == nil {
		return Set{}, nil
	}
	c, err := v.Class(w.By)
	if err != nil {
		return Set{}, err
	}
	return c.Unwrap(volume, w)
}
