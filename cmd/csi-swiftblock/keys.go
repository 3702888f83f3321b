package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/swiftblock/csi-swiftblock/pkg/attach"
	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/class"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
)

// keyFlag names a file with the key of a class: an argument could be seen by others.
type keyFlag struct{ path string }

func (f *keyFlag) add(c *cobra.Command) {
	c.Flags().StringVar(&f.path, "encryption-key", "", "file with the key of the class of an encrypted volume: 32 random bytes in base64")
	c.MarkFlagFilename("encryption-key")
}

// ring is the key in the file; empty without one.
func (f *keyFlag) ring() (keys.Ring, error) {
	if f.path == "" {
		return nil, nil
	}
	value, err := os.ReadFile(f.path)
	if err != nil {
		return nil, fmt.Errorf("--encryption-key: %w", err)
	}
	c, err := keys.ParseClass(string(value))
	if err != nil {
		return nil, fmt.Errorf("--encryption-key %s: %w", f.path, err)
	}
	return keys.Ring{c}, nil
}

// take takes in the key of the class for a new volume with these parameters, and
// keeps it for the controller: the volume's nodes will ask for it.
func (s *session) take(f keyFlag, parameters map[string]string) (keys.Ring, error) {
	p, err := class.Parse(parameters)
	if err != nil {
		return nil, err
	}
	ring, err := f.ring()
	if err != nil {
		return nil, err
	}
	switch {
	case p.Encrypted && len(ring) == 0:
		return nil, errors.New("encryption needs the key of the class: give a file with it by --encryption-key")
	case !p.Encrypted && len(ring) > 0:
		return nil, errors.New("--encryption-key is for volumes that are encrypted: add --parameter encryption=aes-256-gcm")
	}
	return ring, s.keys.Add(ring)
}

// keysOf returns the keys of a volume, which may be deleted: none if it is not
// encrypted. The key of its class is in the file, or was given to the controller.
func (s *session) keysOf(ctx context.Context, id ident.Volume, f keyFlag) (keys.Set, error) {
	v, _, err := s.records.Volumes().Get(ctx, string(id))
	if err != nil || v.Keys == nil {
		return keys.Set{}, err
	}
	ring, err := f.ring()
	if err != nil {
		return keys.Set{}, err
	}
	var set keys.Set
	if len(ring) > 0 {
		set, err = ring.Unwrap(string(id), v.Keys)
	} else {
		set, err = s.keys.Unwrap(string(id), v.Keys)
	}
	if errors.Is(err, keys.ErrNoKey) {
		err = fmt.Errorf("%w: give a file with it by --encryption-key", err)
	}
	if err != nil {
		return keys.Set{}, fmt.Errorf("volume %s is encrypted: %w", id, err)
	}
	return set, nil
}

// keysOnNode returns the keys of a volume whose journal is on this node: the export
// process has them until the reboot, and after that the controller.
func (f *catalogFlags) keysOnNode(ctx context.Context, id ident.Volume, runDir string, key keyFlag) (keys.Set, error) {
	set, err := attach.KeysOf(runDir, string(id))
	if !errors.Is(err, fs.ErrNotExist) {
		return set, err
	}
	s, err := f.openRecords()
	if err != nil {
		return keys.Set{}, err
	}
	return s.keysOf(ctx, id, key)
}

// keysFor returns the keys of all objects that a root of a volume names.
func (s *session) keysFor(ctx context.Context, id ident.Volume, root *snapshots.Root, f keyFlag) (chunks.Keys, error) {
	if root == nil {
		return nil, nil
	}
	set, err := s.keysOf(ctx, id, f)
	if err != nil {
		return nil, err
	}
	return root.Keys(set.Secrets)
}

// importKey is the key that an import encrypts with; none if it does not.
func (s *session) importKey(id ident.Volume, wrapped *keys.Wrapped) (chunks.Key, error) {
	set, err := s.keys.Unwrap(string(id), wrapped)
	return chunks.Key{ID: set.Own, Secret: set.Secret()}, err
}
