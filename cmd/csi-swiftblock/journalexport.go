package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/image"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

func journalExportCommand() *cobra.Command {
	var flags catalogFlags
	var state stateFlag
	var out output
	var key keyFlag
	var runDir string
	var only, force, damaged bool
	c := &cobra.Command{
		Use:   "export JOURNAL FILE|-",
		Short: "Write what a lost or damaged journal holds as a raw image",
		Long: `Write what a lost journal holds as a raw image: laid over the version of the volume
that it continued, so that the image is the volume as its node saw it last. Nothing
is uploaded, and the journal stays as it is; "image import" makes a volume of the image.
Through a pipe ("-") goes the image alone.

A damaged journal, whose volume is not served for that, is written with --damaged: as the
volume was before the first record that is damaged. What was written after that is not in
the image, nor is it in Swift.

With --only the version is left out, and needed neither in the authority nor in
Swift: what the journal does not hold is zeros in the image. The ranges that it
holds are listed with --json.`,
		Example: `  csi-swiftblock journal export 4f…c2/00000003-9a…1b rescued.raw
  csi-swiftblock image import --name rescued rescued.raw
  csi-swiftblock journal export --damaged 4f…c2/00000003-9a…1b before.raw`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: state.complete,
		RunE: func(c *cobra.Command, args []string) error {
			if err := notToTerminal(c.OutOrStdout(), args[1]); err != nil {
				return err
			}
			found, err := state.find(args[0])
			if err != nil {
				return err
			}
			if !found.Lost && !damaged {
				return fmt.Errorf("journal %s is not lost: take a snapshot of the volume instead, or start its export process; if that says that it is damaged, give --damaged", args[0])
			}
			j, set, err := flags.inspect(c.Context(), found, runDir, key)
			if err != nil {
				return err
			}
			defer j.Close()
			if err := j.Damage(); err != nil && !damaged {
				return fmt.Errorf("%w; --damaged writes what was there before", err)
			}
			base, root := image.NewVersion(nil, nil, 0, nil), (*snapshots.Root)(nil)
			if !only {
				if base, root, err = flags.continued(c.Context(), j, set); err != nil {
					return fmt.Errorf("the version that journal %s continued: %w; --only leaves it out", args[0], err)
				}
			}
			return salvage(c, found, j, base, root, args[1], force, out)
		},
	}
	flags.add(c)
	state.add(c)
	out.add(c)
	key.add(c)
	c.Flags().StringVar(&runDir, "run", defaultRun, "directory of the export process that survives it and not the reboot: it has the keys of encrypted volumes")
	c.Flags().BoolVar(&only, "only", false, "write only what the journal itself holds")
	c.Flags().BoolVar(&damaged, "damaged", false, "write what precedes the damage of a damaged journal")
	c.Flags().BoolVar(&force, "force", false, "replace a file that exists, or overwrite a block device")
	return c
}

// inspect opens a journal to be read, with the keys that it needs, if it is encrypted.
func (f *catalogFlags) inspect(ctx context.Context, found journal, runDir string, key keyFlag) (*delta.Remains, keys.Set, error) {
	config, id := delta.Config{Dir: found.Dir, AllowAnyFS: true}, delta.Identity{Volume: found.Volume, Epoch: found.Epoch}
	j, err := delta.Inspect(config, id)
	if !errors.Is(err, delta.ErrNoKey) {
		return j, keys.Set{}, err
	}
	set, err := f.keysOnNode(ctx, found.Volume, runDir, key)
	if err != nil {
		return nil, keys.Set{}, err
	}
	secret := set.Secret()
	config.Key = &secret
	j, err = delta.Inspect(config, id)
	return j, set, err
}

// continued returns the version that a journal continued, and its root.
func (f *catalogFlags) continued(ctx context.Context, j *delta.Remains, set keys.Set) (*image.Version, *snapshots.Root, error) {
	s, err := f.open()
	if err != nil {
		return nil, nil, err
	}
	root, err := s.continued(ctx, j)
	if err != nil {
		return nil, nil, err
	}
	var objects chunks.Keys
	if root != nil {
		if objects, err = root.Keys(set.Secrets); err != nil {
			return nil, nil, err
		}
	}
	return image.NewVersion(s.store, root, 0, objects), root, nil
}

// salvageView is what `journal export` prints.
type salvageView struct {
	journalView
	File   string `json:"file"`
	Size   int64  `json:"size"`
	Data   int64  `json:"data"`             // bytes written; the rest are holes
	Damage string `json:"damage,omitempty"` // why what followed is left out
	// Base is the root that the journal continued; nil: blank, or left out.
	Base    string   `json:"base,omitempty"`
	Held    int64    `json:"held"` // bytes of all extents
	Extents []extent `json:"extents"`
}

func salvage(c *cobra.Command, found journal, j *delta.Remains, base *image.Version, root *snapshots.Root, path string, force bool, out output) error {
	content := image.NewSalvage(j, base)
	v := salvageView{journalView: found.view(), File: path, Extents: []extent{}}
	if root != nil {
		v.Base = root.Location().String()
	}
	if err := j.Damage(); err != nil {
		v.Damage = err.Error()
	}
	for span, err := range content.Held(c.Context()) {
		if err != nil {
			return err
		}
		v.Held += span.Len
		v.Extents = append(v.Extents, extent{span.Off, span.Len})
	}
	progress, end := progressBar(c.ErrOrStderr(), found.name())
	written, err := write(c, image.Export{Content: content, Progress: progress}, path, force)
	end(err == nil)
	if err != nil {
		return err
	}
	if path == stdio {
		if v.Damage != "" {
			fmt.Fprintf(c.ErrOrStderr(), "what followed is left out: %s\n", v.Damage)
		}
		return nil
	}
	v.Size, v.Data = written.Size, written.Data
	return out.print(c, v, func(w io.Writer) {
		fmt.Fprintf(w, "%s: %s, of which %s are data, written to %s; %s in %d ranges are the journal's\n",
			v.Journal, sizeText(v.Size), sizeText(v.Data), path, sizeText(v.Held), len(v.Extents))
		if v.Damage != "" {
			fmt.Fprintf(w, "what followed is left out: %s\n", v.Damage)
		}
	})
}

// continued finds the root that the oldest layer of such a journal follows: the
// newest that the journal published itself or, if it published none, the one that
// its epoch started from; nil for a blank volume.
func (s *session) continued(ctx context.Context, j *delta.Remains) (*snapshots.Root, error) {
	id := j.Identity()
	v, _, err := s.records.Volumes().Get(ctx, string(id.Volume))
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", id.Volume, err)
	}
	if gen := j.Retired(); gen > 0 {
		at := chunks.Location{Container: v.Container, Name: chunks.RootName(id.Epoch, gen)}
		object, err := s.store.Get(ctx, at.Container, at.Name, swift.GetOptions{Newest: true})
		if err != nil {
			return nil, err
		}
		return snapshots.DecodeRoot(at, object.Body)
	}
	return s.before(ctx, v, id.Epoch.Number)
}

// before returns the root that was a volume's newest when an epoch began.
func (s *session) before(ctx context.Context, v authority.Volume, epoch uint64) (*snapshots.Root, error) {
	root, err := s.root(ctx, v.Head)
	for err == nil && root != nil && root.Container == v.Container && root.Ref.Epoch.Number >= epoch {
		parent := root.Parent
		if parent.IsZero() {
			return nil, nil
		}
		root, err = snapshots.LoadRoot(ctx, s.store, parent.Container, parent.Ref)
	}
	if errors.Is(err, swift.ErrNotFound) {
		err = fmt.Errorf("%w: it was removed since", err)
	}
	return root, err
}
