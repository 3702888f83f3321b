package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
)

func snapshotDiffCommand() *cobra.Command {
	var flags catalogFlags
	var out output
	c := &cobra.Command{
		Use:   "diff [FROM] TO",
		Short: "Print which parts of a volume changed between two snapshots",
		Long: `Print which parts of a volume changed between two snapshots, or between a snapshot
and the recorded head of a volume. Both may be of clones of one another, or of one
image. Without FROM it is all that TO holds.

What is not listed is the same in both, so a backup needs to read the listed
parts only. They are whole chunks of 8 MiB: the answer comes from the version
tables alone, without reading data.`,
		Example: `  csi-swiftblock snapshot diff monday tuesday
  csi-swiftblock snapshot diff monday tuesday --json | jq '.extents[] | [.offset, .length]'`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: flags.complete(2, snapshotIDs, volumeIDs),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := flags.open()
			if err != nil {
				return err
			}
			d, err := s.diff(c.Context(), args)
			if err != nil {
				return err
			}
			return out.print(c, d, d.print)
		},
	}
	flags.add(c)
	out.add(c)
	return c
}

// difference is what `snapshot diff` prints.
type difference struct {
	From    *point   `json:"from,omitempty"` // nil: a blank volume
	To      point    `json:"to"`
	Chunk   int64    `json:"chunk"`   // bytes: the resolution
	Changed int64    `json:"changed"` // bytes, of all extents
	Extents []extent `json:"extents"`
}

// extent is a range of a volume in bytes.
type extent struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

// diff compares the last of one or two points with the first, or with nothing.
func (s *session) diff(ctx context.Context, args []string) (difference, error) {
	d := difference{Chunk: chunks.Size, Extents: []extent{}}
	var from, to *snapshots.Root
	var err error
	if d.To, err = s.point(ctx, args[len(args)-1]); err != nil {
		return d, err
	}
	if to, err = s.root(ctx, d.To.Root); err != nil {
		return d, err
	}
	if len(args) > 1 {
		p, err := s.point(ctx, args[0])
		if err != nil {
			return d, err
		}
		if from, err = s.root(ctx, p.Root); err != nil {
			return d, err
		}
		d.From = &p
	}
	for chunk, err := range snapshots.Diff(ctx, s.store, from, to) {
		if err != nil {
			return d, err
		}
		d.add(int64(chunk)*chunks.Size, d.end())
	}
	return d, nil
}

// end is where the larger of the two volumes ends, in bytes.
func (d *difference) end() int64 {
	if d.From != nil {
		return max(d.From.Size, d.To.Size)
	}
	return d.To.Size
}

// add appends a chunk, as a part of the extent before it if they touch.
func (d *difference) add(off, end int64) {
	n := min(chunks.Size, end-off)
	d.Changed += n
	if last := len(d.Extents) - 1; last >= 0 && d.Extents[last].Offset+d.Extents[last].Length == off {
		d.Extents[last].Length += n
		return
	}
	d.Extents = append(d.Extents, extent{off, n})
}

func (d difference) print(w io.Writer) {
	if len(d.Extents) > 0 {
		row(w, "OFFSET", "LENGTH", "SIZE")
	}
	for _, e := range d.Extents {
		row(w, e.Offset, e.Length, sizeText(e.Length))
	}
	from := "a blank volume"
	if d.From != nil {
		from = d.From.text()
	}
	fmt.Fprintf(w, "%s of %s changed from %s to %s\n", sizeText(d.Changed), sizeText(d.To.Size), from, d.To.text())
	if d.To.OpenOn != "" {
		fmt.Fprintf(w, "node %s holds newer data of the volume: take a snapshot to compare that\n", printable(d.To.OpenOn))
	}
}

func (p point) text() string { return p.Kind + " " + printable(p.Name) }
