package attach

import (
	"errors"
	"io/fs"
	"os"
)

// reservations keeps a volume's persistent reservations in its folder: they end with
// the export, as the IQN does.
type reservations struct{ folder }

// Kept implements [target.Keeper].
func (r reservations) Kept() ([]byte, error) {
	text, err := os.ReadFile(r.reservationsPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// Keep implements [target.Keeper].
func (r reservations) Keep(text []byte) error { return r.replace(r.reservationsPath(), text) }
