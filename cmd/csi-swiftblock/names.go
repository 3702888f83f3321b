package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// errFound ends a search through a listing.
var errFound = errors.New("found")

// volume finds a volume by its id or its name.
func (s *session) volume(ctx context.Context, arg string) (v authority.Volume, err error) {
	if id, err := ident.ParseVolume(arg); err == nil {
		if v, err := s.catalog.GetVolume(ctx, id); !errors.Is(err, catalog.ErrNotFound) {
			return v, err
		}
	}
	err = s.eachVolume(ctx, func(other authority.Volume) error {
		if other.Name == arg {
			v = other
			return errFound
		}
		return nil
	})
	return v, found(err, "volume", arg)
}

// snapshot finds a snapshot by its id or its name.
func (s *session) snapshot(ctx context.Context, arg string) (v authority.Snapshot, err error) {
	if id, err := ident.ParseSnapshot(arg); err == nil {
		if v, err := s.catalog.GetSnapshot(ctx, id); !errors.Is(err, catalog.ErrNotFound) {
			return v, err
		}
	}
	err = s.eachSnapshot(ctx, func(other authority.Snapshot) error {
		if other.Name == arg {
			v = other
			return errFound
		}
		return nil
	})
	return v, found(err, "snapshot", arg)
}

// removableVolume finds what `volume rm` may delete: also what a `volume create`
// that failed has left, which nobody sees, but which has the name.
func (s *session) removableVolume(ctx context.Context, arg string) (ident.Volume, error) {
	for row, err := range authority.All(ctx, s.records.Volumes(), "") {
		if err != nil {
			return "", err
		}
		v := row.Value
		if (row.Key == arg || v.Name == arg) && (v.State == authority.Ready || v.State == authority.Creating) {
			return v.ID, nil
		}
	}
	return "", found(nil, "volume", arg)
}

// removableSnapshot finds what `snapshot rm` may delete: also one whose cut was
// lost.
func (s *session) removableSnapshot(ctx context.Context, arg string) (ident.Snapshot, error) {
	for row, err := range authority.All(ctx, s.records.Snapshots(), "") {
		if err != nil {
			return "", err
		}
		if v := row.Value; (row.Key == arg || v.Name == arg) && v.State != authority.Deleted {
			return v.ID, nil
		}
	}
	return "", found(nil, "snapshot", arg)
}

// notThere is a catalog.ErrNotFound that says itself what to do.
type notThere string

func (n notThere) Error() string        { return string(n) }
func (n notThere) Is(target error) bool { return target == catalog.ErrNotFound }

// found makes of a search's end what it says about arg.
func found(err error, kind, arg string) error {
	switch {
	case errors.Is(err, errFound):
		return nil
	case err == nil:
		return notThere(fmt.Sprintf("no %s has the id or name %.200q: see `csi-swiftblock %s ls`", kind, arg, kind))
	}
	return err
}

// point is a volume at one moment: a snapshot, or a volume's recorded head.
type point struct {
	Kind string          `json:"kind"` // "volume" or "snapshot"
	ID   string          `json:"id"`
	Name string          `json:"name"`
	Size int64           `json:"size"`
	Root *authority.Root `json:"root,omitempty"` // nil: blank
	// OpenOn is the node that holds newer data of the volume than Root.
	OpenOn string `json:"openOn,omitempty"`
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
	return point{Kind: "snapshot", ID: string(s.ID), Name: s.Name, Size: s.Size, Root: s.Root}
}

func pointOfVolume(v authority.Volume) point {
	p := point{Kind: "volume", ID: string(v.ID), Name: v.Name, Size: v.Size, Root: v.Head}
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
