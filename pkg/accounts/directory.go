package accounts

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"

	"github.com/swiftblock/csi-swiftblock/pkg/durable"
)

// Directory is a [Vault] of one file for each account, or for what else has secrets, readable by
// the owner only.
type Directory string

var wellFormed = regexp.MustCompile(`^[0-9a-f]{32}$`)

func (d Directory) path(name string) (string, error) {
	if !wellFormed.MatchString(name) {
		return "", fmt.Errorf("%.64q is no name of secrets", name)
	}
	return filepath.Join(string(d), name), nil
}

// Load implements [Vault].
func (d Directory) Load(name string) (map[string]string, error) {
	path, err := d.path(name)
	if err != nil {
		return nil, err
	}
	body, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var secrets map[string]string
	if json.Unmarshal(body, &secrets) != nil { // the error would quote the file
		return nil, fmt.Errorf("%s is damaged", path)
	}
	return secrets, nil
}

// Remove removes what was saved under a name, or nothing. It is not synced: a crash may
// bring it back.
func (d Directory) Remove(name string) error {
	path, err := d.path(name)
	if err == nil {
		err = os.Remove(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Save implements [Vault]. After a crash the file is the old one or the new one, and the new
// one once Save has returned.
func (d Directory) Save(name string, secrets map[string]string) error {
	path, err := d.path(name)
	if err != nil {
		return err
	}
	if old, err := d.Load(name); err == nil && maps.Equal(old, secrets) {
		return nil
	}
	body, err := json.Marshal(secrets)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return err
	}
	return durable.Replace(path, body, 0o600)
}
