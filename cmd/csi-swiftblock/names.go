package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// errFound ends a search through a listing.
var errFound = errors.New("found")

// volume finds a volume by its id or its name.
func (s *session) volume(ctx context.Context, arg string) (authority.Volume, error) {
	if id, err := ident.ParseVolume(arg); err == nil {
		if v, err := s.catalog.GetVolume(ctx, id); !errors.Is(err, catalog.ErrNotFound) {
			return v, err
		}
	}
	found := named[authority.Volume]{}
	err := s.eachVolume(ctx, func(v authority.Volume) error {
		if v.Name == arg {
			found[string(v.ID)] = v
		}
		return nil
	})
	return found.only("volume", arg, err)
}

// snapshot finds a snapshot by its id or its name.
func (s *session) snapshot(ctx context.Context, arg string) (authority.Snapshot, error) {
	if id, err := ident.ParseSnapshot(arg); err == nil {
		if v, err := s.catalog.GetSnapshot(ctx, id); !errors.Is(err, catalog.ErrNotFound) {
			return v, err
		}
	}
	found := named[authority.Snapshot]{}
	err := s.eachSnapshot(ctx, func(v authority.Snapshot) error {
		if v.Name == arg {
			found[string(v.ID)] = v
		}
		return nil
	})
	return found.only("snapshot", arg, err)
}

// removableVolume finds what `volume rm` may delete: also what a `volume create`
// that was killed has left, which nobody sees, but which has the name.
func (s *session) removableVolume(ctx context.Context, arg string) (ident.Volume, error) {
	return removable(ctx, s.records.Volumes(), "volume", arg, func(v authority.Volume) (ident.Volume, string, bool) {
		return v.ID, v.Name, v.State == authority.Ready || v.State == authority.Creating
	})
}

// removableSnapshot finds what `snapshot rm` may delete: also one whose cut was
// lost.
func (s *session) removableSnapshot(ctx context.Context, arg string) (ident.Snapshot, error) {
	return removable(ctx, s.records.Snapshots(), "snapshot", arg, func(v authority.Snapshot) (ident.Snapshot, string, bool) {
		return v.ID, v.Name, v.State != authority.Deleted
	})
}

// removable finds a record by its id, or else by its name.
func removable[T any, ID ~string](ctx context.Context, t authority.Table[T], kind, arg string, describe func(T) (id ID, name string, ok bool)) (ID, error) {
	found := named[ID]{}
	for row, err := range authority.All(ctx, t) {
		if err != nil {
			return "", err
		}
		id, name, ok := describe(row.Value)
		switch {
		case ok && row.Key == arg: // whatever else has this for a name
			return id, nil
		case ok && name == arg:
			found[row.Key] = id
		}
	}
	return found.only(kind, arg, nil)
}

// named is what has a name that was asked for, by id. That may be several: of what
// came back by `volume recover` some may have a name that was given anew.
type named[T any] map[string]T

// only returns the one that has the name, unless the search for it failed.
func (n named[T]) only(kind, arg string, err error) (v T, _ error) {
	ids := slices.Sorted(maps.Keys(n))
	switch {
	case err != nil:
		return v, err
	case len(ids) == 0:
		return v, notThere(fmt.Sprintf("no %s has the id or name %.200q: see `csi-swiftblock %s ls`", kind, arg, kind))
	case len(ids) > 1:
		return v, fmt.Errorf("%d %ss have the name %.200q: give the id, one of %s", len(ids), kind, arg, strings.Join(ids, ", "))
	}
	return n[ids[0]], nil
}

// notThere is a catalog.ErrNotFound that says itself what to do.
type notThere string

func (n notThere) Error() string        { return string(n) }
func (n notThere) Is(target error) bool { return target == catalog.ErrNotFound }

// point is a volume at one moment: a snapshot, or a volume's recorded head.
type point struct {
	Kind string          `json:"kind"` // "volume" or "snapshot"
	ID   string          `json:"id"`
	Name string          `json:"name"`
	Size int64           `json:"size"`
	Root *authority.Root `json:"root,omitempty"` // nil: blank
	// OpenOn is the node that holds newer data of the volume than Root.
	OpenOn string `json:"openOn,omitempty"`

	volume ident.Volume // that it is, or is a snapshot of
}

// point finds a snapshot or a volume by id or name.
func (s *session) point(ctx context.Context, arg string) (point, error) {
	snapshot, err := s.snapshot(ctx, arg)
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return point{}, err
	}
	isSnapshot := err == nil
	volume, err := s.volume(ctx, arg)
	switch {
	case err != nil && !errors.Is(err, catalog.ErrNotFound):
		return point{}, err
	case err != nil && !isSnapshot:
		return point{}, notThere(fmt.Sprintf("no volume or snapshot has the id or name %.200q: see `csi-swiftblock volume ls` and `csi-swiftblock snapshot ls`", arg))
	case err == nil && isSnapshot:
		return point{}, fmt.Errorf("%q names a volume and a snapshot: give the id %s or %s", arg, volume.ID, snapshot.ID)
	case isSnapshot:
		return pointOfSnapshot(snapshot), nil
	}
	return pointOfVolume(volume), nil
}

func pointOfSnapshot(s authority.Snapshot) point {
	return point{Kind: "snapshot", ID: string(s.ID), Name: s.Name, Size: s.Size, Root: s.Root, volume: s.Source}
}

func pointOfVolume(v authority.Volume) point {
	p := point{Kind: "volume", ID: string(v.ID), Name: v.Name, Size: v.Size, Root: v.Head, volume: v.ID}
	if v.Opening.Open {
		p.OpenOn = v.Opening.Node
	}
	return p
}

// completion offers words for an argument.
type completion = cobra.CompletionFunc

// completionLimit bounds how long the shell waits for us.
const completionLimit = 2 * time.Second

// complete makes a completion of what list finds, for at most limit arguments;
// 0: any number.
func (f *catalogFlags) complete(limit int, list ...func(context.Context, *session, func(id, name string))) completion {
	return func(c *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if limit > 0 && len(args) >= limit {
			return nil, cobra.ShellCompDirectiveDefault // a file, as a rule
		}
		s, err := f.openRecords()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		ctx, cancel := context.WithTimeout(context.Background(), completionLimit)
		defer cancel()
		var words []cobra.Completion
		for _, l := range list {
			l(ctx, s, func(id, name string) { words = append(words, cobra.CompletionWithDesc(id, name)) })
		}
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}

// volumeIDs offers volumes, as far as they can be listed in time.
func volumeIDs(ctx context.Context, s *session, add func(id, name string)) {
	s.eachVolume(ctx, func(v authority.Volume) error {
		add(string(v.ID), v.Name)
		return nil
	})
}

// snapshotIDs offers snapshots, as far as they can be listed in time.
func snapshotIDs(ctx context.Context, s *session, add func(id, name string)) {
	s.eachSnapshot(ctx, func(v authority.Snapshot) error {
		add(string(v.ID), v.Name)
		return nil
	})
}

// classKeyNames offers keys of classes, with how many volumes each wraps.
func classKeyNames(ctx context.Context, s *session, add func(id, name string)) {
	all, _ := s.wrappings(ctx) // no word, then
	for name, by := range all {
		add(name, fmt.Sprintf("%d volumes", len(by.volumes)))
	}
}
