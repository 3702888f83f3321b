package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
)

func keysCommand() *cobra.Command {
	return group("keys", "Exchange the keys of encrypted classes", keysListCommand(), keysRewrapCommand(), keysForgetCommand())
}

// wrapping is the volumes whose keys one key of a class wraps: deleted ones whose
// snapshots are there, too.
type wrapping struct {
	volumes []ident.Volume
	newest  time.Time // when the last of them was made
}

// wrappings tells them apart by the names of the keys. A volume that is being rewrapped
// needs both.
func (s *session) wrappings(ctx context.Context) (map[string]*wrapping, error) {
	all := map[string]*wrapping{}
	for row, err := range authority.All(ctx, s.records.Volumes()) {
		if err != nil {
			return nil, err
		}
		v := row.Value
		for _, w := range []*keys.Wrapped{v.Keys, v.Rewrapping} {
			if w == nil {
				continue
			}
			if all[w.By] == nil {
				all[w.By] = &wrapping{}
			}
			by := all[w.By]
			by.volumes = append(by.volumes, v.ID)
			if v.Created.After(by.newest) {
				by.newest = v.Created
			}
		}
	}
	return all, nil
}

// keyNameLength is that of the name of a key of a class.
const keyNameLength = 32

// classKey completes the name of a key, or the beginning of one that wraps something.
func classKey(arg string, all map[string]*wrapping) (string, error) {
	if len(arg) == keyNameLength {
		return arg, nil
	}
	var found []string
	for name := range all {
		if arg != "" && strings.HasPrefix(name, arg) {
			found = append(found, name)
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("key %q: %d keys that wrap something begin so: see `csi-swiftblock keys ls`, or give the whole name", arg, len(found))
	}
	return found[0], nil
}

// classKey completes the name of a key, and returns the wrappings of all.
func (s *session) classKey(ctx context.Context, arg string) (name string, all map[string]*wrapping, err error) {
	if all, err = s.wrappings(ctx); err == nil {
		name, err = classKey(arg, all)
	}
	return name, all, err
}

// classKeyView is what a listing says of a key.
type classKeyView struct {
	Key     string    `json:"key"` // its name, which tells nothing of it
	Volumes int       `json:"volumes"`
	Newest  time.Time `json:"newest"`
	Kept    bool      `json:"kept"` // the controller has it
}

func keysListCommand() *cobra.Command {
	var flags catalogFlags
	var out output
	c := &cobra.Command{
		Use:   "ls",
		Short: "List the keys of classes that volumes need",
		Long: `List the keys of classes that wrap the keys of volumes, by their names, which tell nothing
of the keys: how many volumes need each, deleted ones whose snapshots are there among them,
when the last of these was made, and whether the controller has the key. Of the keys of one
class, the one that the newest volume has is its present one.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := flags.openRecords()
			if err != nil {
				return err
			}
			all, err := s.wrappings(c.Context())
			if err != nil {
				return err
			}
			list := []classKeyView{}
			for _, name := range slices.Sorted(maps.Keys(all)) {
				_, err := s.keys.Class(name)
				if err != nil && !errors.Is(err, keys.ErrNoKey) {
					return err
				}
				list = append(list, classKeyView{Key: name, Volumes: len(all[name].volumes), Newest: all[name].newest, Kept: err == nil})
			}
			return out.print(c, list, func(w io.Writer) {
				row(w, "KEY", "VOLUMES", "NEWEST", "KEPT")
				for _, k := range list {
					row(w, k.Key, k.Volumes, timeText(k.Newest), k.Kept)
				}
			})
		},
	}
	flags.add(c)
	out.add(c)
	return c
}

// rewrapView is what a rewrapping did.
type rewrapView struct {
	Former    string         `json:"former"`
	Key       string         `json:"key"` // the present one
	Rewrapped []ident.Volume `json:"rewrapped"`
}

func keysRewrapCommand() *cobra.Command {
	var flags catalogFlags
	var file keyFlag
	var out output
	c := &cobra.Command{
		Use:   "rewrap FORMER [PRESENT]",
		Short: "Wrap the keys of volumes by the present key of their class",
		Long: `Wrap the keys of all volumes that the FORMER key of a class wraps by the PRESENT one, so
that the former is not needed any more. FORMER and PRESENT are names, or their beginnings,
as "keys ls" prints them; a PRESENT key that the controller does not have yet is read from
the file --encryption-key.

Nothing is encrypted anew, and volumes may be in use. It may be interrupted and repeated,
and says which volumes it could not do: one that is being made or imported is left for a
repetition, and an import that nobody goes on with is given up by "image abort". Older
descriptors in Swift, and copies of the records, go on to hold the keys of volumes wrapped
by the former key: where it is known to others, copy the data to new volumes.`,
		Example: `  csi-swiftblock keys rewrap 5f0c 91e2
  csi-swiftblock keys rewrap 5f0c --encryption-key present.key`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: flags.complete(2, classKeyNames),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := flags.open()
			if err != nil {
				return err
			}
			former, all, err := s.classKey(c.Context(), args[0])
			if err != nil {
				return err
			}
			to, err := s.presentKey(args[1:], file, all)
			if err == nil && to.Name() == former {
				err = fmt.Errorf("key %s is both the former and the present one", former)
			}
			if err != nil {
				return err
			}
			done, err := s.rewrap(c.Context(), all[former], to, c.ErrOrStderr())
			return errors.Join(out.print(c, rewrapView{Former: former, Key: to.Name(), Rewrapped: done}, func(w io.Writer) {
				fmt.Fprintf(w, "%d volumes rewrapped, from %s to %s\n", len(done), former, to.Name())
			}), err)
		},
	}
	flags.add(c)
	file.add(c)
	out.add(c)
	return c
}

// presentKey is the key that is named, or the one in the file, which is kept.
func (s *session) presentKey(named []string, file keyFlag, all map[string]*wrapping) (keys.Class, error) {
	ring, err := file.ring()
	switch {
	case err != nil:
		return keys.Class{}, err
	case len(ring) == len(named):
		return keys.Class{}, errors.New("name the present key, or give a file with it by --encryption-key")
	case len(ring) > 0:
		return ring[0], s.keys.Add(ring)
	}
	name, err := classKey(named[0], all)
	if err != nil {
		return keys.Class{}, err
	}
	to, err := s.keys.Class(name)
	if errors.Is(err, keys.ErrNoKey) {
		err = fmt.Errorf("%w: give a file with it by --encryption-key", err)
	}
	return to, err
}

// rewrap rewraps what it can, and returns that and why not the others.
func (s *session) rewrap(ctx context.Context, from *wrapping, to keys.Class, messages io.Writer) (done []ident.Volume, err error) {
	done = []ident.Volume{}
	if from == nil {
		return done, nil
	}
	progress, end := counter(messages, "rewrapping")
	for i, id := range from.volumes {
		if progress != nil {
			progress(i, len(from.volumes))
		}
		switch failed := s.catalog.Rewrap(ctx, id, s.keys.Unwrap, to); {
		case failed == nil:
			done = append(done, id)
		case !errors.Is(failed, catalog.ErrNotFound): // that was erased meanwhile, and needs no key
			err = errors.Join(err, failed)
		}
		if ctx.Err() != nil {
			break
		}
	}
	end(err == nil)
	return done, err
}

func keysForgetCommand() *cobra.Command {
	var flags catalogFlags
	c := &cobra.Command{
		Use:   "forget KEY",
		Short: "Remove a key that no volume needs from what the controller keeps",
		Long: `Remove a key of a class that no volume needs any more from what the controller keeps; one
that is needed is refused. KEY is its whole name, which "keys rewrap" has printed: "keys ls"
lists only those that are needed. Take it out of the class's Secret first: the controller
keeps what a request brings along.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions, // what it may be is not known: nothing needs it
		RunE: func(c *cobra.Command, args []string) error {
			s, err := flags.openRecords()
			if err != nil {
				return err
			}
			name, all, err := s.classKey(c.Context(), args[0])
			if err != nil {
				return err
			}
			if by := all[name]; by != nil {
				return needed(name, by)
			}
			k, err := s.keys.Class(name)
			if err != nil {
				return err
			}
			if err := s.keys.Remove(name); err != nil {
				return err
			}
			// A volume may have been made with it meanwhile.
			if all, err = s.wrappings(c.Context()); err != nil || all[name] != nil {
				err = errors.Join(err, s.keys.Add(keys.Ring{k}))
			}
			if by := all[name]; by != nil {
				err = errors.Join(needed(name, by), err)
			}
			return err
		},
	}
	flags.add(c)
	return c
}

func needed(key string, by *wrapping) error {
	return fmt.Errorf("key %s wraps the keys of %d volumes, %s among them: see `csi-swiftblock keys rewrap --help`", key, len(by.volumes), by.volumes[0])
}
