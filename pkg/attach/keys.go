package attach

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/swiftblock/csi-swiftblock/pkg/accounts"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// The keys of an encrypted volume are in RunDir, beside the credentials of accounts:
// they survive the process and not the node.

// KeysOf returns the keys that an export process keeps in its RunDir of a volume; an
// error that Is [fs.ErrNotExist] if there are none.
func KeysOf(runDir string, volume string) (keys.Set, error) {
	return loadKeys(keysIn(runDir), volume)
}

const keysDir = "keys"

func keysIn(runDir string) keys.Store { return accounts.Directory(filepath.Join(runDir, keysDir)) }

// keepKeys takes in the keys that the controller has answered with.
func (e *export) keepKeys(opening *wire.Opening) error {
	set, err := keys.FromBytes(opening.Key, opening.Keys)
	if err != nil || set.IsZero() {
		return err
	}
	return e.config.keys.Save(string(e.id), set.Fields())
}

// keys returns those of the volume; none if it is not encrypted. They do not survive a
// reboot: then the controller, which may be asked for the same journal again, has them.
func (e *export) keys(ctx context.Context, r *record) (keys.Set, error) {
	if !r.encrypted() {
		return keys.Set{}, nil
	}
	set, err := loadKeys(e.config.keys, string(e.id))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := e.confirm(ctx, r); err != nil {
			return keys.Set{}, err
		}
		set, err = loadKeys(e.config.keys, string(e.id))
	}
	return set, err
}

func loadKeys(store keys.Store, volume string) (keys.Set, error) {
	fields, err := store.Load(volume)
	if err != nil {
		return keys.Set{}, err
	}
	set, err := keys.ParseFields(fields)
	if err != nil {
		return keys.Set{}, fmt.Errorf("the keys of volume %s: %w", volume, err)
	}
	return set, nil
}

// forgetKeys removes the keys of a volume of which nothing is here any more.
func (e *export) forgetKeys() error {
	if _, err := os.Stat(e.folder.path); err == nil {
		return nil // a lost journal, which they open, is still there
	}
	return e.config.keys.Remove(string(e.id))
}

// checkClass refuses to serve a volume to who brings other keys of a class along than
// those that wrap the volume's.
func checkClass(opening *wire.Opening, names []string) error {
	if opening.WrappedBy == "" || len(names) == 0 || slices.Contains(names, opening.WrappedBy) {
		return nil
	}
	return status.Errorf(codes.InvalidArgument, "secrets: %s is not the key that wraps the volume's keys; give the one before as %s", keys.Field, keys.PreviousField)
}
