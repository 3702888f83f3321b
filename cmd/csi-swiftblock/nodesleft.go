package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/driver"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// leftView is what a node still has to upload of one volume.
type leftView struct {
	Node      string       `json:"node"`
	Volume    ident.Volume `json:"volume"`
	Name      string       `json:"name"`
	Reads     bool         `json:"reads,omitempty"` // it only reads the volume, and has nothing to upload
	Dirty     int64        `json:"dirty"`           // bytes that only its journal has; -1: it does not answer
	Published time.Time    `json:"published,omitzero"`
	Trouble   string       `json:"trouble,omitempty"` // the first condition, or why it does not answer
}

const (
	leftWait   = 5 * time.Second // for the answer of a node
	leftPeriod = 2 * time.Second
)

func nodesLeftCommand() *cobra.Command {
	var flags catalogFlags
	var out output
	var wait, none bool
	c := &cobra.Command{
		Use:   "left [NODE]",
		Short: "Show what nodes, or one of them, have open and not uploaded",
		Long: `Show what nodes, or one of them, have open and not uploaded.

Drain a node first: kubectl drain ends its pods, and each volume that none of them
uses any more is uploaded and closed. A node with nothing left can be reset, and
its disk wiped. A volume of which DIRTY is 0 is all in Swift, but still open; one that
a node only reads has nothing to upload, and a session there all the same. A node is
known by its volumes only: one with nothing left looks like one that is mistyped, so
the nodes that have volumes are named then.`,
		Example: `  kubectl drain worker-3 --ignore-daemonsets --delete-emptydir-data
  csi-swiftblock nodes left worker-3 --wait`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := flags.openRecords()
			if err != nil {
				return err
			}
			exports, err := flags.nodes()
			if err != nil {
				return err
			}
			for {
				list, err := s.left(c.Context(), exports, args)
				if err != nil {
					return err
				}
				if !wait || len(list) == 0 {
					if len(args) > 0 && len(list) == 0 {
						s.warnOfName(c.Context(), args[0], c.ErrOrStderr())
					}
					err := out.print(c, list, func(w io.Writer) { printLeft(w, list) })
					if none && len(list) > 0 && err == nil {
						err = fmt.Errorf("%s: end the pods that use them, and wait until they are closed", leftText(list))
					}
					return err
				}
				fmt.Fprintln(c.ErrOrStderr(), leftText(list))
				select {
				case <-c.Context().Done():
					return fmt.Errorf("%s: %w", leftText(list), c.Context().Err())
				case <-time.After(leftPeriod):
				}
			}
		},
	}
	flags.add(c)
	out.add(c)
	c.Flags().BoolVar(&wait, "wait", false, "until nothing is left")
	c.Flags().BoolVar(&none, "expect-none", false, "fail if anything is left")
	return c
}

// left asks the nodes, or the one that is named, about each volume they have open, and
// names those that they read.
func (s *session) left(ctx context.Context, exports driver.Exports, only []string) ([]leftView, error) {
	list := []leftView{}
	asked := func(node string) bool { return len(only) == 0 || node == only[0] }
	err := s.eachVolume(ctx, func(v authority.Volume) error {
		for _, r := range v.Readers {
			if asked(r.Node) {
				list = append(list, leftView{Node: r.Node, Volume: v.ID, Name: v.Name, Reads: true})
			}
		}
		if !v.Opening.Open || !asked(v.Opening.Node) {
			return nil
		}
		view := leftView{Node: v.Opening.Node, Volume: v.ID, Name: v.Name, Dirty: -1}
		ask, cancel := context.WithTimeout(ctx, leftWait)
		defer cancel()
		answer, err := exports.Ask(ask, v.Opening.Endpoint, v.ID)
		switch conditions := answer.GetConditions(); {
		case err != nil:
			view.Trouble = explain(err)
		case len(conditions) > 0:
			view.Trouble = conditions[0].GetReason() + ": " + conditions[0].GetMessage()
		}
		if answer.GetEpoch() != nil { // it is served
			view.Dirty = answer.GetDirtyBytes()
			if ms := answer.GetPublishedMs(); ms > 0 {
				view.Published = time.UnixMilli(ms).UTC()
			}
		}
		list = append(list, view)
		return ctx.Err()
	})
	return list, err
}

// warnOfName names the nodes that have volumes to who finds nothing on another one: its
// disk may be wiped for that, and its name be mistyped.
func (s *session) warnOfName(ctx context.Context, node string, messages io.Writer) {
	found := map[string]bool{}
	err := s.eachVolume(ctx, func(v authority.Volume) error {
		for _, r := range v.Readers {
			found[printable(r.Node)] = true
		}
		if v.Opening.Open {
			found[printable(v.Opening.Node)] = true
		}
		return nil
	})
	if err == nil && len(found) > 0 {
		fmt.Fprintf(messages, "nothing is open on a node %q; on these something is: %s\n", node, strings.Join(slices.Sorted(maps.Keys(found)), ", "))
	}
}

func printLeft(w io.Writer, list []leftView) {
	row(w, "NODE", "VOLUME", "NAME", "DIRTY", "PUBLISHED", "TROUBLE")
	for _, v := range list {
		dirty := "unknown"
		switch {
		case v.Reads:
			dirty = "read only"
		case v.Dirty >= 0:
			dirty = sizeText(v.Dirty)
		}
		row(w, printable(v.Node), v.Volume, printable(v.Name), dirty, timeText(v.Published), orDash(v.Trouble))
	}
}

// leftText sums up on one line.
func leftText(list []leftView) string {
	var dirty int64
	unknown := 0
	for _, v := range list {
		dirty += max(v.Dirty, 0)
		if v.Dirty < 0 {
			unknown++
		}
	}
	text := fmt.Sprintf("%s left in %d volumes", sizeText(dirty), len(list))
	if unknown > 0 {
		text += fmt.Sprintf(", of which %d do not tell", unknown)
	}
	return text
}
