package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/swiftblock/csi-swiftblock/pkg/image"
)

func imageExportCommand() *cobra.Command {
	var flags catalogFlags
	var out output
	var x image.Export
	var key keyFlag
	var force bool
	c := &cobra.Command{
		Use:   "export VOLUME|SNAPSHOT [FILE|-]",
		Short: "Write a snapshot or volume as a raw image",
		Long: `Write a snapshot or volume as a raw image: to a file, to a block device, or through
a pipe ("-", the default).

Of a volume it is the recorded head: take a snapshot to export one that is in use.
Every byte is verified by checksums on its way. What is zero becomes a hole; the
file appears under its name when it is whole, readable by its owner only; after a
failure or Ctrl-C nothing is left.`,
		Example: `  csi-swiftblock image export nightly nightly.raw
  csi-swiftblock image export nightly | zstd > nightly.raw.zst`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: flags.complete(1, snapshotIDs, volumeIDs),
		RunE: func(c *cobra.Command, args []string) error {
			path := stdio
			if len(args) > 1 {
				path = args[1]
			}
			if err := notToTerminal(c.OutOrStdout(), path); err != nil {
				return err
			}
			s, err := flags.open()
			if err != nil {
				return err
			}
			p, err := s.point(c.Context(), args[0])
			if err != nil {
				return err
			}
			root, err := s.root(c.Context(), p.Root)
			if err != nil {
				return err
			}
			if p.OpenOn != "" {
				fmt.Fprintf(c.ErrOrStderr(), "volume %s is in use on node %s: what follows is what was recorded last; a snapshot would hold everything\n", p.ID, printable(p.OpenOn))
			}
			objects, err := s.keysFor(c.Context(), p.volume, root, key)
			if err != nil {
				return err
			}
			x.Content = image.NewVersion(s.store, root, p.Size, objects)
			return export(c, x, p, path, force, out)
		},
	}
	flags.add(c)
	out.add(c)
	key.add(c)
	c.Flags().IntVar(&x.Parallel, "parallel", 0, "how many chunks of 8 MiB are read at one time (default 4)")
	c.Flags().BoolVar(&force, "force", false, "replace a file that exists, or overwrite a block device")
	return c
}

// notToTerminal refuses to write an image where somebody reads.
func notToTerminal(out io.Writer, path string) error {
	if f, isFile := out.(*os.File); path == stdio && isFile && term.IsTerminal(int(f.Fd())) {
		return errors.New("standard output is a terminal: name a file to write, or send the image through a pipe")
	}
	return nil
}

// write writes an image to a file, or to standard output.
func write(c *cobra.Command, x image.Export, path string, force bool) (image.Exported, error) {
	if path == stdio {
		return x.ToStream(c.Context(), c.OutOrStdout())
	}
	return x.ToFile(c.Context(), path, force)
}

// exportView is what `image export` prints.
type exportView struct {
	From    point   `json:"from"`
	File    string  `json:"file"`
	Size    int64   `json:"size"`
	Data    int64   `json:"data"` // bytes written; the rest are holes
	Seconds float64 `json:"seconds"`
}

// export writes an image and says so, unless standard output is the image.
func export(c *cobra.Command, x image.Export, from point, path string, force bool, out output) error {
	var end func(ok bool)
	x.Progress, end = progressBar(c.ErrOrStderr(), printable(from.Name))
	began := time.Now()
	written, err := write(c, x, path, force)
	end(err == nil)
	if err != nil || path == stdio {
		return err
	}
	v := exportView{from, path, written.Size, written.Data, time.Since(began).Seconds()}
	return out.print(c, v, func(w io.Writer) {
		fmt.Fprintf(w, "%s: %s, of which %s are data, written to %s in %.1f s\n", from.text(), sizeText(v.Size), sizeText(v.Data), path, v.Seconds)
	})
}
