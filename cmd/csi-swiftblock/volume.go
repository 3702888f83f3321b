package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/class"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

func volumeCommand() *cobra.Command {
	return group("volume", "Make, list, grow and delete volumes",
		volumeCreateCommand(), volumeListCommand(), volumeInspectCommand(), volumeExpandCommand(), volumeUnpublishCommand(), volumeRemoveCommand(), volumeRecoverCommand())
}

func volumeCreateCommand() *cobra.Command {
	var flags catalogFlags
	var out output
	var key keyFlag
	var size, from string
	var parameters map[string]string
	c := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a volume: empty, or from a snapshot or another volume",
		Long: `Make a volume: empty, or from a snapshot or another volume.

No data is copied, whatever the size. The same command again finds the volume
that the first one made. After a failure or Ctrl-C nothing of it is left.`,
		Example: `  csi-swiftblock volume create scratch --size 100Gi
  csi-swiftblock volume create web-1 --from debian-12
  csi-swiftblock volume create db-copy --from nightly --parameter rpo=10s
  csi-swiftblock volume create vault --size 10Gi --parameter encryption=aes-256-gcm --encryption-key class.key`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, args []string) error {
			spec := catalog.VolumeSpec{Name: args[0], Parameters: parameters}
			var err error
			if spec.Required, err = parseSize(size); err != nil {
				return err
			}
			if spec.Required == 0 && from == "" {
				return fmt.Errorf("how large? Give --size, such as --size 100Gi, or --from a snapshot or volume")
			}
			if _, err := class.Parse(parameters); err != nil {
				return err
			}
			s, err := flags.create()
			if err != nil {
				return err
			}
			if from != "" {
				p, err := s.point(c.Context(), from)
				if err != nil {
					return err
				}
				if spec.Required > 0 && spec.Required < p.Size {
					return fmt.Errorf("%s has %s, which is more than %s: a volume cannot be smaller than what it is made from; leave out --size", p.text(), sizeText(p.Size), sizeText(spec.Required))
				}
				spec.Source = p.origin()
			}
			if spec.Keys, err = s.take(key, parameters); err != nil {
				return err
			}
			v, err := s.createVolume(c.Context(), spec)
			if err != nil {
				return err
			}
			return out.print(c, viewVolume(v), func(w io.Writer) {
				fmt.Fprintf(w, "volume %s: %s, %s\n", v.ID, printable(v.Name), sizeText(v.Size))
			})
		},
	}
	flags.add(c)
	out.add(c)
	key.add(c)
	c.Flags().StringVar(&size, "size", "", "size of the volume, such as 100Gi; default: the source's")
	c.Flags().StringVar(&from, "from", "", "snapshot or volume to start from, by id or name")
	c.Flags().StringToStringVar(&parameters, "parameter", nil, "parameters as in a StorageClass, such as rpo=10s")
	c.RegisterFlagCompletionFunc("from", flags.complete(0, snapshotIDs, volumeIDs))
	return c
}

// abortLimit bounds how long what failed is cleared away.
const abortLimit = 30 * time.Second

// createVolume makes a volume, or gives up what it has made of it: nobody else is to
// repeat the call.
func (s *session) createVolume(ctx context.Context, spec catalog.VolumeSpec) (authority.Volume, error) {
	v, err := s.catalog.CreateVolume(ctx, spec)
	if err == nil || v.ID == "" || errors.Is(err, catalog.ErrConflict) || errors.Is(err, catalog.ErrBusy) {
		return v, err // the volume, if there is one, is somebody else's
	}
	// The context may be what failed, yet nothing is to stay behind.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortLimit)
	defer cancel()
	return v, errors.Join(err, s.catalog.AbortCreation(ctx, v.ID))
}

// origin is the source that a point is for a new volume.
func (p point) origin() *authority.Origin {
	if p.Kind == "snapshot" {
		return &authority.Origin{Snapshot: ident.Snapshot(p.ID)}
	}
	return &authority.Origin{Volume: ident.Volume(p.ID)}
}

func volumeListCommand() *cobra.Command {
	var flags catalogFlags
	var out output
	c := &cobra.Command{
		Use:               "ls",
		Short:             "List the volumes",
		Example:           `  csi-swiftblock volume ls --json | jq -r '.[] | select(.node == "n1") | .id'`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := flags.openRecords()
			if err != nil {
				return err
			}
			views := []volumeView{}
			err = s.eachVolume(c.Context(), func(v authority.Volume) error {
				views = append(views, viewVolume(v))
				return nil
			})
			if err != nil {
				return err
			}
			return out.print(c, views, func(w io.Writer) {
				row(w, "ID", "NAME", "SIZE", "STATE", "NODE", "CREATED")
				for _, v := range views {
					row(w, v.ID, printable(v.Name), sizeText(v.Size), v.State, orDash(v.Node), timeText(v.Created))
				}
			})
		},
	}
	flags.add(c)
	out.add(c)
	return c
}

func volumeInspectCommand() *cobra.Command {
	var flags catalogFlags
	var out output
	c := &cobra.Command{
		Use:   "inspect VOLUME",
		Short: "Show all that is known of a volume",
		Long: `Show all that is known of a volume: its record, and what its newest published
version in Swift says.`,
		Example:           `  csi-swiftblock volume inspect debian-12`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: flags.complete(1, volumeIDs),
		RunE: func(c *cobra.Command, args []string) error {
			s, v, err := flags.openVolume(c.Context(), args[0])
			if err != nil {
				return err
			}
			i, err := s.inspect(c.Context(), v)
			if err != nil {
				return err
			}
			return out.print(c, i, i.print)
		},
	}
	flags.add(c)
	out.add(c)
	return c
}

func volumeExpandCommand() *cobra.Command {
	var flags catalogFlags
	var out output
	var size string
	c := &cobra.Command{
		Use:   "expand VOLUME --size SIZE",
		Short: "Grow a volume",
		Long: `Grow a volume. Sizes never shrink.

A volume that is attached gets its new size when its node is told by Kubernetes,
or when it is attached the next time.`,
		Example:           `  csi-swiftblock volume expand scratch --size 200Gi`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: flags.complete(1, volumeIDs),
		RunE: func(c *cobra.Command, args []string) error {
			bytes, err := parseSize(size)
			if err != nil {
				return err
			}
			s, v, err := flags.openVolume(c.Context(), args[0])
			if err != nil {
				return err
			}
			if bytes < v.Size {
				return fmt.Errorf("volume %s has %s, which is more than %s: a volume cannot shrink", v.ID, sizeText(v.Size), sizeText(bytes))
			}
			if v, err = s.catalog.Expand(c.Context(), v.ID, bytes, 0); err != nil {
				return err
			}
			return out.print(c, viewVolume(v), func(w io.Writer) {
				fmt.Fprintf(w, "volume %s: %s, %s\n", v.ID, printable(v.Name), sizeText(v.Size))
			})
		},
	}
	flags.add(c)
	out.add(c)
	c.Flags().StringVar(&size, "size", "", "new size, such as 200Gi")
	c.MarkFlagRequired("size")
	return c
}

func volumeRemoveCommand() *cobra.Command {
	var flags catalogFlags
	var out output
	c := &cobra.Command{
		Use:   "rm VOLUME...",
		Short: "Delete volumes",
		Long: `Delete volumes. What they hold cannot be had back.

Snapshots of a deleted volume and volumes made from it keep working; its space in
Swift follows when nothing needs it any more.`,
		Example:           `  csi-swiftblock volume rm scratch`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: flags.complete(0, volumeIDs),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := flags.open()
			if err != nil {
				return err
			}
			return remove(c, out, args, "volume", func(ctx context.Context, arg string) (string, error) {
				id, err := s.removableVolume(ctx, arg)
				if err != nil {
					return "", err
				}
				return string(id), s.catalog.DeleteVolume(ctx, id)
			})
		},
	}
	flags.add(c)
	out.add(c)
	return c
}

// remove deletes things one after the other, up to the first failure, and says
// which are gone.
func remove(c *cobra.Command, out output, args []string, kind string, one func(context.Context, string) (string, error)) error {
	deleted := []string{}
	var failure error
	for _, arg := range args {
		id, err := one(c.Context(), arg)
		if err != nil {
			failure = err
			break
		}
		deleted = append(deleted, id)
	}
	err := out.print(c, struct {
		Deleted []string `json:"deleted"`
	}{deleted}, func(w io.Writer) {
		for _, id := range deleted {
			fmt.Fprintf(w, "deleted %s %s\n", kind, id)
		}
	})
	if failure != nil {
		return failure
	}
	return err
}

// parametersText lists parameters by name.
func parametersText(parameters map[string]string) string {
	text := ""
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		text += name + "=" + parameters[name] + " "
	}
	return orDash(text)
}
