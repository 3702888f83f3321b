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

func volumeUnpublishCommand() *cobra.Command {
	var flags catalogFlags
	var out output
	var force bool
	c := &cobra.Command{
		Use:   "unpublish VOLUME",
		Short: "Take a volume from its node, even from a lost one",
		Long: `Take a volume from its node, so that it can be published to another one.

A volume that its node has not closed is taken by --force only: make sure that the
node is gone for good. If it still answers, it hands over all it has, and nothing is
lost. If it does not, its journal is fenced off, and the newest version that is found
in Swift is adopted: what was written after that is lost to the volume, and is only
left in the journal on the node's disk (csi-swiftblock journal export).`,
		Example: `  csi-swiftblock volume unpublish db
  csi-swiftblock volume unpublish db --force`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: flags.complete(1, volumeIDs),
		RunE: func(c *cobra.Command, args []string) error {
			s, v, err := flags.openVolume(c.Context(), args[0])
			if err != nil {
				return err
			}
			view, err := s.unpublish(c.Context(), v, force)
			if err != nil {
				return err
			}
			return out.print(c, view, view.print)
		},
	}
	flags.add(c)
	out.add(c)
	c.Flags().BoolVar(&force, "force", false, "take it from a node that has not closed it; what only that node has may be lost")
	return c
}

// unpublishView is what `volume unpublish` prints.
type unpublishView struct {
	Volume ident.Volume `json:"volume"`
	Node   string       `json:"node"` // that had it
	Lost   bool         `json:"lost"` // the node did not hand over
	// Newest is when the adopted version was cut; zero if there was none.
	Newest time.Time `json:"newest,omitzero"`
}

func (u unpublishView) print(w io.Writer) {
	fmt.Fprintf(w, "volume %s is taken from node %s\n", u.Volume, orDash(u.Node))
	switch {
	case !u.Lost:
	case u.Newest.IsZero():
		fmt.Fprintln(w, "The node did not answer, and has published nothing since it opened the volume: all it wrote is lost.")
	default:
		fmt.Fprintf(w, "The node did not answer: what was written after %s is lost.\n", timeText(u.Newest))
	}
}

// unpublish takes a volume from its node.
func (s *session) unpublish(ctx context.Context, v authority.Volume, force bool) (unpublishView, error) {
	view := unpublishView{Volume: v.ID}
	if v.Binding != nil {
		view.Node = v.Binding.Node
	}
	if !v.Opening.Open {
		return view, s.catalog.Unpublish(ctx, v.ID, view.Node)
	}
	if !force {
		newest, err := s.newestText(ctx, v)
		if err != nil {
			return view, err
		}
		return view, fmt.Errorf("node %q has not closed volume %s: delete its pod, or drain the node; "+
			"if the node is gone for good, --force takes the volume, and what was written after the newest version is lost (%s)",
			v.Opening.Node, v.ID, newest)
	}
	if err := s.catalog.Abandon(ctx, v.ID); err != nil {
		return view, err
	}
	now, err := s.catalog.GetVolume(ctx, v.ID)
	if r := now.Recovered; err == nil && r != nil && r.Epoch == v.Opening.Epoch {
		view.Lost, view.Newest = true, r.Newest
	}
	return view, err
}

// newestText says how old the newest recorded version of a volume is.
func (s *session) newestText(ctx context.Context, v authority.Volume) (string, error) {
	root, err := s.root(ctx, v.Head)
	if err != nil {
		return "", err
	}
	if root == nil {
		return "none is recorded: all of it", nil
	}
	sealed := root.State.Sealed
	return fmt.Sprintf("the newest that is recorded is of %s, %s ago", timeText(sealed), time.Since(sealed).Round(time.Second)), nil
}
