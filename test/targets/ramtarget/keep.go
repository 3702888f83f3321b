package main

import (
	"errors"
	"io/fs"
	"os"

	"github.com/swiftblock/csi-swiftblock/pkg/target"
)

// kept keeps persistent reservations in a file, through the end of the process.
type kept string

// keeper returns a Keeper in a file beside the data's, nil without one.
func keeper(data string) target.Keeper {
	if data == "" {
		return nil
	}
	return kept(data + ".reservations")
}

func (k kept) Kept() ([]byte, error) {
	text, err := os.ReadFile(string(k))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

func (k kept) Keep(text []byte) error {
	next := string(k) + ".new"
	if err := os.WriteFile(next, text, 0o600); err != nil {
		return err
	}
	return os.Rename(next, string(k))
}
