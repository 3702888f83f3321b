package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

func volumeRecoverCommand() *cobra.Command {
	var flags catalogFlags
	var out output
	var o catalog.RecoverOptions
	c := &cobra.Command{
		Use:   "recover",
		Short: "Rebuild the authority from what is in Swift",
		Long: `Rebuild the authority from what is in Swift: after it was lost, or after an old copy
of it was put back.

Stop every controller first. Each volume that Swift knows better than the authority
does is taken over with its newest published version; nodes that may still have it
open are fenced, and what they have not published is only left in their journals
(csi-swiftblock journal export): give those that still work some time to publish
before. Snapshots come back, too, and so does what was deleted and has lost no
object yet. Nothing is deleted or overwritten in Swift, and what the authority knows
is left alone, so the same command again goes on, or changes nothing.

Containers of another cluster are listed and left alone; --from takes those of one
cluster over for good.`,
		Example: `  csi-swiftblock volume recover --dry-run
  csi-swiftblock volume recover
  csi-swiftblock volume recover --cluster new --from old`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := flags.create()
			if err != nil {
				return err
			}
			progress, end := counter(c.ErrOrStderr(), "looking at volumes")
			o.Progress = progress
			found, failed := s.catalog.Recover(c.Context(), o)
			end(failed == nil)
			views := []foundView{}
			for _, f := range found {
				views = append(views, viewFinding(f))
			}
			err = out.print(c, views, func(w io.Writer) {
				row(w, "VOLUME", "SNAPSHOT", "NAME", "OUTCOME", "REMARK")
				for _, v := range views {
					row(w, v.Volume, orDash(string(v.Snapshot)), printable(v.Name), v.Outcome, v.remark())
				}
			})
			if failed != nil {
				return failed
			}
			return err
		},
	}
	flags.add(c)
	out.add(c)
	c.Flags().BoolVar(&o.DryRun, "dry-run", false, "only show what would be recovered")
	c.Flags().StringVar(&o.From, "from", "", "take the volumes of this cluster over, too")
	return c
}

// foundView is what `volume recover` prints of a volume or a snapshot.
type foundView struct {
	Volume   ident.Volume    `json:"volume"`
	Snapshot ident.Snapshot  `json:"snapshot,omitempty"`
	Name     string          `json:"name"`
	Cluster  string          `json:"cluster"`
	Outcome  catalog.Outcome `json:"outcome"`
	Lost     bool            `json:"lost,omitempty"`     // it was not closed in good order,
	Newest   time.Time       `json:"newest,omitzero"`    // and what was written after this is lost to it
	Nameless bool            `json:"nameless,omitempty"` // something else has the name now
	Error    string          `json:"error,omitempty"`
}

func viewFinding(f catalog.Finding) foundView {
	v := foundView{f.Volume, f.Snapshot, f.Name, f.Cluster, f.Outcome, f.Lost, f.Newest, f.Nameless, ""}
	if f.Err != nil {
		v.Error = explain(f.Err)
	}
	return v
}

// remark says what people must know of an outcome.
func (v foundView) remark() string {
	switch {
	case v.Error != "":
		return v.Error
	case v.Outcome == catalog.Foreign:
		return "of cluster " + printable(v.Cluster)
	case v.Nameless:
		return "something newer has its name: use the id"
	case v.Lost && v.Newest.IsZero():
		return "it was open, and nothing was published since"
	case v.Lost:
		return fmt.Sprintf("it was open: what was written after %s is in the node's journal only", timeText(v.Newest))
	case v.Outcome == catalog.Missing:
		return "nothing is in Swift: `csi-swiftblock volume rm` drops the record"
	case v.Outcome == catalog.Incomplete && v.Snapshot == "":
		return "the rest of a call that died: its container may be deleted by hand"
	}
	return "-"
}
