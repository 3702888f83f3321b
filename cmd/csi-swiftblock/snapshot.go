package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

func snapshotCommand() *cobra.Command {
	return group("snapshot", "Take, list, compare and delete snapshots",
		snapshotCreateCommand(), snapshotListCommand(), snapshotDiffCommand(), snapshotRemoveCommand())
}

// snapshotView is a snapshot as the commands show it.
type snapshotView struct {
	ID      ident.Snapshot  `json:"id"`
	Name    string          `json:"name"`
	Volume  ident.Volume    `json:"volume"`
	Size    int64           `json:"size"` // bytes
	Created time.Time       `json:"created"`
	Root    *authority.Root `json:"root,omitempty"`
}

func viewSnapshot(s authority.Snapshot) snapshotView {
	return snapshotView{ID: s.ID, Name: s.Name, Volume: s.Source, Size: s.Size, Created: s.Created, Root: s.Root}
}

func snapshotCreateCommand() *cobra.Command {
	var flags catalogFlags
	var out output
	c := &cobra.Command{
		Use:   "create VOLUME NAME",
		Short: "Take a snapshot of a volume",
		Long: `Take a snapshot of a volume, which may be in use.

It holds what was written before the command began; only what was not yet in
Swift is uploaded. The same command again finds the first one's snapshot.`,
		Example:           `  csi-swiftblock snapshot create db nightly-2026-11-22`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: flags.complete(1, volumeIDs),
		RunE: func(c *cobra.Command, args []string) error {
			s, v, err := flags.openVolume(c.Context(), args[0])
			if err != nil {
				return err
			}
			snapshot, err := s.catalog.CreateSnapshot(c.Context(), args[1], v.ID)
			if err != nil {
				return err
			}
			return out.print(c, viewSnapshot(snapshot), func(w io.Writer) {
				fmt.Fprintf(w, "snapshot %s: %s, %s of volume %s\n", snapshot.ID, printable(snapshot.Name), sizeText(snapshot.Size), v.ID)
			})
		},
	}
	flags.add(c)
	out.add(c)
	return c
}

func snapshotListCommand() *cobra.Command {
	var flags catalogFlags
	var out output
	c := &cobra.Command{
		Use:               "ls [VOLUME]",
		Short:             "List the snapshots, of all volumes or of one",
		Example:           `  csi-swiftblock snapshot ls db`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: flags.complete(1, volumeIDs),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := flags.openRecords()
			if err != nil {
				return err
			}
			of, err := s.sourceOf(c.Context(), args)
			if err != nil {
				return err
			}
			views := []snapshotView{}
			err = s.eachSnapshot(c.Context(), func(v authority.Snapshot) error {
				if of == "" || v.Source == of {
					views = append(views, viewSnapshot(v))
				}
				return nil
			})
			if err != nil {
				return err
			}
			return out.print(c, views, func(w io.Writer) {
				row(w, "ID", "NAME", "SIZE", "VOLUME", "CREATED")
				for _, v := range views {
					row(w, v.ID, printable(v.Name), sizeText(v.Size), v.Volume, timeText(v.Created))
				}
			})
		},
	}
	flags.add(c)
	out.add(c)
	return c
}

// sourceOf is the volume that a listing is limited to; "" for none. It may be
// deleted, and its snapshots still there: then only its id finds them.
func (s *session) sourceOf(ctx context.Context, args []string) (ident.Volume, error) {
	if len(args) == 0 {
		return "", nil
	}
	v, err := s.volume(ctx, args[0])
	if id, malformed := ident.ParseVolume(args[0]); err != nil && malformed == nil {
		return id, nil
	}
	return v.ID, err
}

func snapshotRemoveCommand() *cobra.Command {
	var flags catalogFlags
	var out output
	c := &cobra.Command{
		Use:   "rm SNAPSHOT...",
		Short: "Delete snapshots",
		Long: `Delete snapshots. Volumes made from them keep working; the space in Swift that
nothing needs any more follows.`,
		Example:           `  csi-swiftblock snapshot rm nightly-2026-11-20 nightly-2026-11-21`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: flags.complete(0, snapshotIDs),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := flags.open()
			if err != nil {
				return err
			}
			return remove(c, out, args, "snapshot", func(ctx context.Context, arg string) (string, error) {
				id, err := s.removableSnapshot(ctx, arg)
				if err != nil {
					return "", err
				}
				return string(id), s.catalog.DeleteSnapshot(ctx, id)
			})
		},
	}
	flags.add(c)
	out.add(c)
	return c
}
