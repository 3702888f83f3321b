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
	"github.com/swiftblock/csi-swiftblock/pkg/image"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
)

func imageCommand() *cobra.Command {
	return group("image", "Make volumes of disk images, and disk images of volumes",
		imageImportCommand(), imageAbortCommand(), imageExportCommand())
}

// stdio stands for standard input or output as a file.
const stdio = "-"

func imageImportCommand() *cobra.Command {
	var flags catalogFlags
	var out output
	var key keyFlag
	var config image.Config
	var size string
	var raw bool
	c := &cobra.Command{
		Use:   "import FILE|-",
		Short: "Make a volume of a raw or qcow2 image",
		Long: `Make a volume of a raw or qcow2 image, of a block device, or of a raw image that
comes through a pipe ("-"; its exact size has to be given by --size).

Holes and zeros are neither read nor stored. The volume appears when all of it is
stored; after a failure or Ctrl-C nothing of it is left. If Swift goes away or
this process is killed, the same command continues: what is stored already is not
uploaded again, as far as the image still holds it. With --keep it also does after
Ctrl-C and every other failure.

What an image is, it says itself. With --raw it is raw, whatever it begins with: give
it for what "image export" and "journal export" wrote of a raw block volume.

Any number of volumes can then be made from it without copying. With
--encryption-key it is encrypted, and so is what is made from it.`,
		Example: `  csi-swiftblock image import --name debian-12 debian-12-genericcloud-amd64.qcow2
  zcat disk.raw.gz | csi-swiftblock image import --name disk --size 10Gi -
  csi-swiftblock volume create web-1 --from debian-12`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) (err error) {
			if config.Size, err = parseSize(size); err != nil {
				return err
			}
			if config.Image, err = openImage(c.Context(), c.InOrStdin(), args[0], config.Size, raw); err != nil {
				return err
			}
			defer config.Image.Close()
			if config.Size > 0 && config.Size < config.Image.Size {
				return fmt.Errorf("%s has %d bytes, which is more than %d: a volume cannot be smaller than its image; leave out --size", args[0], config.Image.Size, config.Size)
			}
			s, err := flags.create()
			if err != nil {
				return err
			}
			var parameters map[string]string
			if key.path != "" {
				parameters = map[string]string{"encryption": "aes-256-gcm"}
			}
			ring, err := s.take(key, parameters)
			if err != nil {
				return err
			}
			var end func(ok bool)
			config.Progress, end = progressBar(c.ErrOrStderr(), printable(config.Name))
			config.Store, config.Volumes = s.store, importing{s, parameters, ring}
			began := time.Now()
			result, err := image.Import(c.Context(), config)
			end(err == nil)
			if err != nil {
				return err
			}
			v := importView{result.Volume, config.Name, result.Size, result.Objects, result.Reused, result.Bytes, time.Since(began).Seconds()}
			return out.print(c, v, v.print)
		},
	}
	flags.add(c)
	out.add(c)
	key.add(c)
	c.Flags().StringVar(&config.Name, "name", "", "name of the volume")
	c.Flags().StringVar(&size, "size", "", "size of the volume, such as 20Gi; default: the image's")
	c.Flags().BoolVar(&raw, "raw", false, "take it for a raw image, even if it looks like another kind")
	c.Flags().IntVar(&config.Parallel, "parallel", 0, "how many chunks of 8 MiB are stored at one time (default 4)")
	c.Flags().BoolVar(&config.Keep, "keep", false, "after Ctrl-C or a failure keep what is stored, for the same command to continue")
	c.MarkFlagRequired("name")
	return c
}

// openImage opens a file, or takes standard input for a raw image of that size.
func openImage(ctx context.Context, stdin io.Reader, path string, size int64, raw bool) (*image.Image, error) {
	switch {
	case path != stdio && raw:
		return image.OpenRaw(path)
	case path != stdio:
		return image.Open(path)
	case size == 0:
		return nil, errors.New("how large is the image? A pipe does not tell: give its exact size by --size, in bytes or as in 20Gi")
	}
	stdin = interruptible{ctx, stdin}
	if raw {
		return image.OpenRawStream(stdin, "standard input", size)
	}
	return image.OpenStream(stdin, "standard input", size)
}

// interruptible ends reads with a context; the one under way is left behind, as
// a read of a pipe cannot be ended.
type interruptible struct {
	ctx context.Context
	io.Reader
}

func (r interruptible) Read(p []byte) (int, error) {
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	go func() {
		n, err := r.Reader.Read(p)
		done <- result{n, err}
	}()
	select {
	case read := <-done:
		return read.n, read.err
	case <-r.ctx.Done():
		return 0, r.ctx.Err()
	}
}

// importView is what `image import` prints.
type importView struct {
	Volume  ident.Volume `json:"volume"`
	Name    string       `json:"name"`
	Size    int64        `json:"size"`
	Objects int          `json:"objects"`
	Reused  int          `json:"reused"`
	Bytes   int64        `json:"bytes"`
	Seconds float64      `json:"seconds"`
}

func (v importView) print(w io.Writer) {
	fmt.Fprintf(w, "volume %s: %s, %s, stored as %d objects of %s in %.1f s\n",
		v.Volume, printable(v.Name), sizeText(v.Size), v.Objects, sizeText(v.Bytes), v.Seconds)
	if v.Reused > 0 {
		fmt.Fprintf(w, "%d objects had been stored by an import that was interrupted\n", v.Reused)
	}
}

func imageAbortCommand() *cobra.Command {
	var flags catalogFlags
	var out output
	c := &cobra.Command{
		Use:   "abort NAME",
		Short: "Give up an import that was interrupted",
		Long: `Give up an import that was interrupted: what it has stored is removed, and the
name is free.`,
		Example:           `  csi-swiftblock image abort debian-12`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: flags.complete(1, importNames),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := flags.open()
			if err != nil {
				return err
			}
			return remove(c, out, args, "import", s.abortImport)
		},
	}
	flags.add(c)
	out.add(c)
	return c
}

// eachImport calls visit for every import under way or interrupted.
func (s *session) eachImport(ctx context.Context, visit func(authority.Volume) error) error {
	for row, err := range authority.All(ctx, s.records.Volumes()) {
		if err == nil && row.Value.State == authority.Importing {
			err = visit(row.Value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *session) abortImport(ctx context.Context, name string) (id string, err error) {
	var found authority.Volume
	err = s.eachImport(ctx, func(v authority.Volume) error {
		if v.Name == name {
			found = v
			return errFound
		}
		return nil
	})
	switch {
	case errors.Is(err, errFound):
		return string(found.ID), s.catalog.AbortImport(ctx, found.ID)
	case err == nil:
		err = notThere(fmt.Sprintf("no import has the name %.200q", name))
	}
	return "", err
}

func importNames(ctx context.Context, s *session, add func(id, name string)) {
	s.eachImport(ctx, func(v authority.Volume) error {
		add(v.Name, sizeText(v.Size))
		return nil
	})
}

// importing lets the catalog keep the records of an import.
type importing struct {
	*session
	parameters map[string]string
	keys       keys.Ring
}

// Begin holds an import to its size, in the catalog's unit: of an interrupted one
// of another size it could not use the volume.
func (i importing) Begin(ctx context.Context, name string, size int64) (image.Target, error) {
	t, err := i.catalog.BeginImport(ctx, catalog.VolumeSpec{Name: name, Required: size, Limit: (size + catalog.SizeUnit - 1) / catalog.SizeUnit * catalog.SizeUnit, Parameters: i.parameters, Keys: i.keys})
	switch {
	case errors.Is(err, catalog.ErrBusy), errors.Is(err, catalog.ErrRolledBack):
		return image.Target{}, err // it is not ours to abort
	case errors.Is(err, catalog.ErrConflict):
		t, err = catalog.Import{}, fmt.Errorf("%w; an import that was interrupted is removed by `csi-swiftblock image abort NAME`", err)
	}
	target := image.Target{Volume: t.Volume, Container: t.Container, Size: t.Size, Epoch: t.Epoch}
	if err == nil {
		target.Key, err = i.importKey(t.Volume, t.Keys)
	}
	return target, err
}

func (i importing) Complete(ctx context.Context, t image.Target, root snapshots.Ref) error {
	_, err := i.catalog.CompleteImport(ctx, t.Volume, new(root.In(t.Container)))
	return err
}

func (i importing) Abort(ctx context.Context, t image.Target) error {
	return i.catalog.AbortImport(ctx, t.Volume)
}
