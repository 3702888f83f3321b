package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

func checkCommand() *cobra.Command {
	var flags catalogFlags
	var out output
	var key keyFlag
	var tables, data bool
	c := &cobra.Command{
		Use:   "check [VOLUME|SNAPSHOT...]",
		Short: "Prove that volumes and snapshots are whole",
		Long: `Prove that volumes and snapshots are whole: that every object which their newest
recorded versions name is in Swift and is what it must be. Without arguments all
volumes and snapshots are checked.

Roots and table pages are read and verified by their hashes, chunks and packs by
their footers: one request for each object. --tables leaves out the latter, --data
reads and verifies every byte instead. Faults end the command with an error, and so
does what could not be checked, after all else was. Of an encrypted volume only
--tables can be done without the key of its class.`,
		Example: `  csi-swiftblock check
  csi-swiftblock check --data debian-12`,
		ValidArgsFunction: flags.complete(0, snapshotIDs, volumeIDs),
		RunE: func(c *cobra.Command, args []string) error {
			depth := snapshots.Footers
			switch {
			case tables:
				depth = snapshots.Tables
			case data:
				depth = snapshots.Data
			}
			s, err := flags.open()
			if err != nil {
				return err
			}
			points, err := s.points(c.Context(), args)
			if err != nil {
				return err
			}
			reports, faults := []checkReport{}, 0
			var unchecked error
			for _, p := range points {
				r, err := s.check(c.Context(), p, depth, key)
				if err != nil {
					unchecked = errors.Join(unchecked, fmt.Errorf("check %s: %w", p.text(), err))
				}
				if err == nil || len(r.Faults) > 0 {
					reports = append(reports, r)
					faults += len(r.Faults)
				}
				if c.Context().Err() != nil || errors.Is(err, swift.ErrUnavailable) {
					break // so it would go on
				}
			}
			if err := out.print(c, reports, func(w io.Writer) { printChecks(w, reports) }); err != nil {
				return err
			}
			if faults > 0 {
				err = fmt.Errorf("%d faults in %d volumes and snapshots: what is listed is lost or damaged; the rest can be read and exported", faults, len(reports))
			}
			return errors.Join(err, unchecked)
		},
	}
	flags.add(c)
	out.add(c)
	key.add(c)
	c.Flags().BoolVar(&tables, "tables", false, "verify roots and table pages only")
	c.Flags().BoolVar(&data, "data", false, "read and verify every byte")
	c.MarkFlagsMutuallyExclusive("tables", "data")
	return c
}

// checkReport is what `check` prints of one volume or snapshot.
type checkReport struct {
	point
	Pages  int         `json:"pages"`
	Chunks int         `json:"chunks"`
	Packs  int         `json:"packs"`
	Bytes  int64       `json:"bytes"` // of chunks and packs, as stored
	Faults []faultView `json:"faults"`
}

type faultView struct {
	Object string `json:"object"`
	Fault  string `json:"fault"`
}

// points finds what is named, or everything.
func (s *session) points(ctx context.Context, args []string) (list []point, err error) {
	for _, arg := range args {
		p, err := s.point(ctx, arg)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	if len(args) > 0 {
		return list, nil
	}
	err = s.eachVolume(ctx, func(v authority.Volume) error {
		list = append(list, pointOfVolume(v))
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = s.eachSnapshot(ctx, func(v authority.Snapshot) error {
		list = append(list, pointOfSnapshot(v))
		return nil
	})
	return list, err
}

// check proves one version. An error means that the check could not go on.
func (s *session) check(ctx context.Context, p point, depth snapshots.Depth, key keyFlag) (checkReport, error) {
	r := checkReport{point: p, Faults: []faultView{}}
	root, err := s.root(ctx, p.Root)
	if errors.Is(err, swift.ErrNotFound) || errors.Is(err, chunks.ErrDamaged) {
		name := chunks.RootName(p.Root.Epoch, p.Root.Generation)
		r.Faults = append(r.Faults, faultView{p.Root.Container + "/" + name, err.Error()})
		return r, nil
	}
	if root == nil || err != nil {
		return r, err
	}
	var objects chunks.Keys
	if depth != snapshots.Tables {
		if objects, err = s.keysFor(ctx, p.volume, root, key); err != nil {
			return r, fmt.Errorf("%w; --tables needs no key", err)
		}
	}
	done, err := snapshots.Check(ctx, s.store, root, objects, depth, func(f snapshots.Fault) {
		r.Faults = append(r.Faults, faultView{f.At.String(), f.Err.Error()})
	})
	r.Pages, r.Chunks, r.Packs, r.Bytes = done.Pages, done.Chunks, done.Packs, done.Bytes
	return r, err
}

func printChecks(w io.Writer, reports []checkReport) {
	row(w, "KIND", "NAME", "PAGES", "CHUNKS", "PACKS", "STORED", "FAULTS")
	for _, r := range reports {
		row(w, r.Kind, printable(r.Name), r.Pages, r.Chunks, r.Packs, sizeText(r.Bytes), len(r.Faults))
	}
	for _, r := range reports {
		for _, f := range r.Faults {
			fmt.Fprintf(w, "%s: %s: %s\n", r.text(), f.Object, f.Fault)
		}
	}
}
