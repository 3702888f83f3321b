package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
)

// standalone is a cluster without Kubernetes: its nodes are those named at the
// start, and its administrator says which of them are given up.
type standalone struct {
	nodes   []string // none: any
	givenUp authority.Table[authority.GivenUp]
}

// Known implements [driver.Cluster].
func (s *standalone) Known(_ context.Context, node string) (bool, error) {
	return len(s.nodes) == 0 || slices.Contains(s.nodes, node), nil
}

// GivenUp implements [driver.Cluster].
func (s *standalone) GivenUp(ctx context.Context, node string) (bool, error) {
	_, _, err := s.givenUp.Get(ctx, authority.NodeKey(node))
	if errors.Is(err, authority.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func nodesCommand() *cobra.Command {
	return group("nodes", "Show what nodes have left to upload, and give up those that will not come back", nodesLeftCommand(), nodesListCommand(), nodesGiveUpCommand(), nodesTakeBackCommand())
}

// openGivenUp is openRecords for what is about the nodes given up by hand.
func (f *catalogFlags) openGivenUp() (*session, error) {
	s, err := f.openRecords()
	if err == nil && s.givenUp == nil {
		err = errors.New("in Kubernetes a node is given up by removing it, or by the taint node.kubernetes.io/out-of-service")
	}
	return s, err
}

func nodesListCommand() *cobra.Command {
	var flags catalogFlags
	var out output
	c := &cobra.Command{
		Use:   "ls",
		Short: "List the nodes that are given up",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := flags.openGivenUp()
			if err != nil {
				return err
			}
			list := []authority.GivenUp{}
			for row, err := range authority.All(c.Context(), s.givenUp) {
				if err != nil {
					return err
				}
				list = append(list, row.Value)
			}
			return out.print(c, list, func(w io.Writer) {
				row(w, "NODE", "GIVEN UP")
				for _, n := range list {
					row(w, n.Node, timeText(n.At))
				}
			})
		},
	}
	flags.add(c)
	out.add(c)
	return c
}

func nodesGiveUpCommand() *cobra.Command {
	var flags catalogFlags
	c := &cobra.Command{
		Use:   "give-up NODE",
		Short: "Let volumes be taken from a node that does not answer",
		Long: `Let volumes be taken from a node that does not answer, by ControllerUnpublishVolume.

Give up a node that is gone for good, or for longer than its volumes can wait: what
it has not published is lost to them, and is only left in the journals on its disk.
As long as it answers it hands over all it has, and nothing is lost. It stays given
up until "nodes take-back".`,
		Example: `  csi-swiftblock nodes give-up worker-3`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := flags.openGivenUp()
			if err != nil {
				return err
			}
			_, err = s.givenUp.Create(c.Context(), authority.NodeKey(args[0]), authority.GivenUp{Node: args[0], At: time.Now()})
			if errors.Is(err, authority.ErrExists) {
				return nil
			}
			return err
		},
	}
	flags.add(c)
	return c
}

func nodesTakeBackCommand() *cobra.Command {
	var flags catalogFlags
	c := &cobra.Command{
		Use:   "take-back NODE",
		Short: "Wait for a node again, as before it was given up",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := flags.openGivenUp()
			if err != nil {
				return err
			}
			key := authority.NodeKey(args[0])
			_, version, err := s.givenUp.Get(c.Context(), key)
			if errors.Is(err, authority.ErrNotFound) {
				return fmt.Errorf("node %q is not given up: see `csi-swiftblock nodes ls`", args[0])
			}
			if err != nil {
				return err
			}
			return s.givenUp.Delete(c.Context(), key, version)
		},
	}
	flags.add(c)
	return c
}
