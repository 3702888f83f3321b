package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/image"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
)

func imageCommand() *cobra.Command {
	c := &cobra.Command{Use: "image", Short: "Make volumes of disk images", Args: cobra.NoArgs}
	c.AddCommand(imageImportCommand())
	return c
}

func imageImportCommand() *cobra.Command {
	var flags catalogFlags
	var name, size string
	var asJSON bool
	c := &cobra.Command{
		Use:   "import FILE",
		Short: "Make a volume of a raw or qcow2 image",
		Long: `Make a volume of a raw or qcow2 image, or of a block device.

Holes and zeros are neither read nor stored. The volume appears when all of it is
stored; after a failure or Ctrl-C nothing of it is left. Any number of volumes
can then be made from it without copying: name its id as the source volume.`,
		Example: `  csi-swiftblock image import --name debian-12 debian-12-genericcloud-amd64.qcow2`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			bytes, err := parseSize(size)
			if err != nil {
				return err
			}
			cat, store, err := flags.open()
			if err != nil {
				return err
			}
			progress, done := progressBar(c.ErrOrStderr(), name)
			began := time.Now()
			result, err := image.Import(c.Context(), image.Config{
				Store: store, Volumes: importing{cat}, Path: args[0], Name: name, Size: bytes, Progress: progress,
			})
			done(err == nil)
			if err != nil {
				return err
			}
			return printImport(c.OutOrStdout(), name, result, time.Since(began), asJSON)
		},
	}
	flags.add(c)
	c.Flags().StringVar(&name, "name", "", "name of the volume")
	c.Flags().StringVar(&size, "size", "", "size of the volume, such as 20Gi; default: the image's")
	c.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	c.MarkFlagRequired("name")
	return c
}

// parseSize reads a size as Kubernetes users write it; "" is 0.
func parseSize(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	q, err := resource.ParseQuantity(s)
	if err != nil || q.Value() <= 0 || q.Value()%image.Sector != 0 {
		return 0, fmt.Errorf("--size %q: want a size in whole sectors of %d bytes, such as 20Gi", s, image.Sector)
	}
	return q.Value(), nil
}

func printImport(out io.Writer, name string, r image.Result, took time.Duration, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(out).Encode(struct {
			Volume  ident.Volume `json:"volume"`
			Name    string       `json:"name"`
			Size    int64        `json:"size"`
			Objects int          `json:"objects"`
			Bytes   int64        `json:"bytes"`
			Seconds float64      `json:"seconds"`
		}{r.Volume, name, r.Size, r.Objects, r.Bytes, took.Seconds()})
	}
	_, err := fmt.Fprintf(out, "volume %s: %q, %d bytes, stored as %d objects of %d bytes in %.1f s\n",
		r.Volume, name, r.Size, r.Objects, r.Bytes, took.Seconds())
	return err
}

// progressBar returns a callback that draws a bar on a terminal and is silent
// elsewhere, and one that ends it.
func progressBar(out io.Writer, name string) (progress func(done, total int64), end func(ok bool)) {
	f, isFile := out.(*os.File)
	if !isFile || !term.IsTerminal(int(f.Fd())) {
		return nil, func(bool) {}
	}
	bars := mpb.New(mpb.WithOutput(f), mpb.WithWidth(48))
	bar := bars.AddBar(0,
		mpb.PrependDecorators(decor.Name(name+" "), decor.CountersKibiByte("% .1f of % .1f")),
		mpb.AppendDecorators(decor.Percentage(), decor.Name("  "), decor.EwmaSpeed(decor.SizeB1024(0), "% .1f", 30), decor.Name("  "), decor.EwmaETA(decor.ET_STYLE_GO, 30)),
	)
	last := time.Now()
	return func(done, total int64) {
			bar.SetTotal(total, false)
			bar.EwmaSetCurrent(done, time.Since(last))
			last = time.Now()
		}, func(ok bool) {
			if ok {
				bar.SetTotal(-1, true)
			} else {
				bar.Abort(false)
			}
			bars.Wait()
		}
}

// importing lets the catalog keep the records of an import.
type importing struct{ catalog *catalog.Catalog }

func (i importing) Begin(ctx context.Context, name string, size int64) (image.Target, error) {
	t, err := i.catalog.BeginImport(ctx, catalog.VolumeSpec{Name: name, Required: size})
	return image.Target(t), err
}

func (i importing) Complete(ctx context.Context, t image.Target, root snapshots.Ref) error {
	_, err := i.catalog.CompleteImport(ctx, t.Volume, &authority.Root{
		Container: t.Container, Epoch: root.Epoch, Generation: root.Gen, Hash: authority.Hash(root.Hash),
	})
	return err
}

func (i importing) Abort(ctx context.Context, t image.Target) error {
	return i.catalog.AbortImport(ctx, t.Volume)
}
