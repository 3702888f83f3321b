// Package durable replaces small files so that no crash leaves half of one.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Unfinished is the pattern, in a file's directory, of what stands there before it takes
// the file's place. A process that was killed leaves such a file behind.
const Unfinished = ".new-*"

// Replace makes path a file of this content and mode. After any crash it is the old file or
// the new one, and the new one once Replace has returned. One that has failed leaves nothing
// behind. Calls may overlap.
func Replace(path string, body []byte, mode fs.FileMode) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, Unfinished) // for the owner alone
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails after the rename, as it should
	_, err = f.Write(body)
	if err := errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(dir)
}

// SyncDir makes the names in a directory durable: of what was made, renamed or removed there.
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
