package catalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
)

// Import is a volume that is being filled. The importer writes objects of the
// epoch into the container, the root last, under the rules of any other epoch.
type Import struct {
	Volume    ident.Volume
	Container string
	Size      int64 // bytes
	Epoch     ident.Epoch
	Keys      *keys.Wrapped // nil: not encrypted
}

// importer is the node of an import's epoch.
const importer = "import"

// BeginImport makes a volume that nobody sees yet. The same name and size
// continue an import that was interrupted, in the same epoch; the importer draws
// a new opening, so that its objects have names of their own. ErrConflict: there
// is a volume of that name. After any other error but ErrBusy and ErrRolledBack the
// import has the volume to abort, if it has got that far.
func (c *Catalog) BeginImport(ctx context.Context, spec VolumeSpec) (Import, error) {
	i, err := c.beginImport(ctx, spec)
	return i, failed(err, "begin the import of", "volume", spec.Name)
}

func (c *Catalog) beginImport(ctx context.Context, spec VolumeSpec) (Import, error) {
	if spec.Source != nil || spec.Required == 0 {
		return Import{}, fmt.Errorf("%w: an import has a size and no source", ErrInvalid)
	}
	v, err := c.plan(ctx, spec, authority.Importing)
	if err == nil {
		err = incomplete(v)
	}
	if err != nil {
		return Import{}, err
	}
	begun := Import{Volume: v.ID, Container: v.Container, Size: v.Size, Keys: v.Keys}
	if err := c.store.CreateContainer(ctx, v.Container); err != nil {
		return begun, err
	}
	v, err = c.changeNew(ctx, v, func(v *authority.Volume) error {
		if err := incomplete(*v); err != nil {
			return err // another call of that name was faster
		}
		if v.Opening.Open {
			return errKeep
		}
		v.Opening = authority.Opening{Epoch: ident.NewEpoch(1), Node: importer, Open: true}
		return nil
	})
	if err != nil {
		return begun, err
	}
	begun.Epoch = v.Opening.Epoch
	return begun, c.putOnce(ctx, v.Container, chunks.EpochName(begun.Epoch.Number), markBody(begun.Epoch), ErrRolledBack)
}

// incomplete refuses to import into a volume that is in use by now.
func incomplete(v authority.Volume) error {
	if v.State != authority.Importing {
		return fmt.Errorf("%w: volume %s is complete", ErrConflict, v.ID)
	}
	return nil
}

// CompleteImport makes the volume visible, with the given root as its head; nil
// for an image without data.
func (c *Catalog) CompleteImport(ctx context.Context, id ident.Volume, root *authority.Root) (authority.Volume, error) {
	v, err := c.completeImport(ctx, id, root)
	return v, failed(err, "complete the import of", "volume", id)
}

func (c *Catalog) completeImport(ctx context.Context, id ident.Volume, root *authority.Root) (authority.Volume, error) {
	v, _, err := c.volumes.Get(ctx, string(id))
	if err == nil && v.State == authority.Importing {
		err = c.describe(ctx, v)
	}
	if err != nil {
		return v, absent(err)
	}
	return c.changeVolume(ctx, id, func(v *authority.Volume) error {
		if v.State == authority.Ready && v.Opening.Node == importer && !v.Opening.Open {
			return errKeep // completed already, the answer was lost
		}
		if v.State != authority.Importing || !v.Opening.Open {
			return fmt.Errorf("%w: it is not being imported", ErrConflict)
		}
		if err := advance(v, root); err != nil && !errors.Is(err, errKeep) {
			return err
		}
		v.State, v.Opening.Open = authority.Ready, false
		return nil
	})
}

// AbortImport gives an import up; its space follows.
func (c *Catalog) AbortImport(ctx context.Context, id ident.Volume) error {
	return failed(c.abort(ctx, id, authority.Importing), "abort the import of", "volume", id)
}
