package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

func gcCommand() *cobra.Command {
	var flags catalogFlags
	var out output
	var dry bool
	c := &cobra.Command{
		Use:   "gc",
		Short: "Give back the space of what is deleted or superseded",
		Long: `Give back the space of deleted volumes and snapshots, and of old versions of living
volumes, as the controller does from time to time: once the grace is over and no
snapshot or clone needs it. That of what is deleted begins when the controller, or gc,
first sees it so.

--dry-run changes nothing and shows which volumes are deleted, and what keeps them,
and each object of the others that would go, and why.`,
		Example: `  csi-swiftblock gc --dry-run
  csi-swiftblock gc --grace 0s`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := flags.open()
			if err != nil {
				return err
			}
			if dry {
				p, err := s.plan(c.Context(), flags.grace)
				if err != nil {
					return err
				}
				return out.print(c, p, func(w io.Writer) { printPlan(w, p) })
			}
			swept, err := s.catalog.Sweep(c.Context())
			if err != nil {
				return err
			}
			collected, err := s.catalog.Collect(c.Context(), catalog.CollectOptions{})
			if err != nil {
				return err
			}
			v := sweptView{swept.Volumes, swept.Snapshots, swept.Objects, collected.Objects, collected.Bytes}
			return out.print(c, v, func(w io.Writer) {
				fmt.Fprintf(w, "removed %d objects: of %d volumes and %d snapshots nothing is left\n", v.Objects, v.Volumes, v.Snapshots)
				fmt.Fprintf(w, "collected %d objects of %s that no version needs\n", v.Collected, sizeText(v.CollectedBytes))
			})
		},
	}
	flags.add(c)
	out.add(c)
	c.Flags().DurationVar(&flags.grace, "grace", 24*time.Hour, "how long what was deleted or superseded stays in Swift")
	c.Flags().BoolVar(&dry, "dry-run", false, "only show what would go")
	return c
}

// sweptView is what `gc` prints.
type sweptView struct {
	Volumes   int `json:"volumes"`
	Snapshots int `json:"snapshots"`
	Objects   int `json:"objects"`

	Collected      int   `json:"collected"` // objects of volumes that stay
	CollectedBytes int64 `json:"collectedBytes"`
}

// planView is what `gc --dry-run` prints.
type planView struct {
	Deleted []deletedView `json:"deleted"`
	Garbage []garbageView `json:"garbage"`
}

// garbageView is an object that would be collected.
type garbageView struct {
	Container string `json:"container"`
	Name      string `json:"name"`
	Size      int64  `json:"size"`
	Why       string `json:"why"`
}

// plan finds what gc would do.
func (s *session) plan(ctx context.Context, grace time.Duration) (p planView, err error) {
	if p.Deleted, err = s.deleted(ctx, grace); err != nil {
		return p, err
	}
	p.Garbage = []garbageView{}
	_, err = s.catalog.Collect(ctx, catalog.CollectOptions{DryRun: true, Found: func(g catalog.Garbage) {
		p.Garbage = append(p.Garbage, garbageView(g))
	}})
	return p, err
}

func printPlan(w io.Writer, p planView) {
	printDeleted(w, p.Deleted)
	fmt.Fprintln(w)
	row(w, "CONTAINER", "OBJECT", "STORED", "WHY")
	for _, g := range p.Garbage {
		row(w, g.Container, g.Name, sizeText(g.Size), g.Why)
	}
}

// deletedView is a deleted volume.
type deletedView struct {
	Volume    ident.Volume `json:"volume"`
	Name      string       `json:"name"`
	Container string       `json:"container"`
	Deleted   time.Time    `json:"deleted,omitzero"` // zero: no sweep has seen it yet
	Objects   int          `json:"objects"`
	Bytes     int64        `json:"bytes"`
	// What keeps it; with none of the three the next gc removes it.
	Until     time.Time `json:"until,omitzero"` // the end of the grace
	Snapshots int       `json:"snapshots"`
	Clones    int       `json:"clones"`
}

// deleted lists the volumes that are deleted and not yet removed.
func (s *session) deleted(ctx context.Context, grace time.Duration) ([]deletedView, error) {
	list := []deletedView{}
	for row, err := range authority.All(ctx, s.records.Volumes()) {
		if err != nil {
			return nil, err
		}
		if v := row.Value; v.State == authority.Deleted {
			d := deletedView{Volume: v.ID, Name: v.Name, Container: v.Container, Deleted: v.Deleted}
			if until := graceOf(v.Deleted, grace); time.Now().Before(until) {
				d.Until = until
			}
			list = append(list, d)
		}
	}
	sources := map[ident.Volume]int{}
	cut := map[ident.Volume]time.Time{} // until when deleted snapshots keep their cuts
	for row, err := range authority.All(ctx, s.records.Snapshots()) {
		if err != nil {
			return nil, err
		}
		s := row.Value
		if s.State != authority.Deleted {
			sources[s.Source]++
		} else if until := graceOf(s.Deleted, grace); until.After(cut[s.Source]) {
			cut[s.Source] = until
		}
	}
	clones := map[ident.Volume]int{}
	for row, err := range authority.All(ctx, s.records.Pins()) {
		if err != nil {
			return nil, err
		}
		clones[row.Value.Owner]++
	}
	for i := range list {
		d := &list[i]
		d.Snapshots, d.Clones = sources[d.Volume], clones[d.Volume]
		if until := cut[d.Volume]; until.After(d.Until) && time.Now().Before(until) {
			d.Until = until
		}
		var err error
		if d.Objects, d.Bytes, err = s.contents(ctx, d.Container); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// graceOf is the end of a tombstone's grace, if the next sweep comes now.
func graceOf(deleted time.Time, grace time.Duration) time.Time {
	if deleted.IsZero() {
		deleted = time.Now()
	}
	return deleted.Add(grace)
}

// contents counts the objects of a container and their bytes.
func (s *session) contents(ctx context.Context, container string) (objects int, bytes int64, err error) {
	for row, err := range swift.Rows(ctx, s.store, container, "") {
		if errors.Is(err, swift.ErrNotFound) {
			return objects, bytes, nil
		}
		if err != nil {
			return objects, bytes, err
		}
		objects++
		bytes += row.Size
	}
	return objects, bytes, nil
}

func printDeleted(w io.Writer, list []deletedView) {
	row(w, "VOLUME", "NAME", "DELETED", "OBJECTS", "STORED", "KEPT BY")
	for _, d := range list {
		kept := ""
		if !d.Until.IsZero() {
			kept = "the grace until " + timeText(d.Until)
		}
		if d.Snapshots+d.Clones > 0 {
			kept = fmt.Sprintf("snapshots: %d, clones: %d", d.Snapshots, d.Clones)
		}
		row(w, d.Volume, printable(d.Name), timeText(d.Deleted), d.Objects, sizeText(d.Bytes), orDash(kept))
	}
}
