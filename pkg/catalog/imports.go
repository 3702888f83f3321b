package catalog

import (
	"context"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// Import is a volume that is being filled. The importer writes objects of the
// epoch into the container, the root last, under the rules of any other epoch.
type Import struct {
	Volume    ident.Volume
	Container string
	Size      int64 // bytes
	Epoch     ident.Epoch
}

// BeginImport makes a volume that nobody sees yet. The same name and size
// continue an import that was interrupted, in the same epoch; the importer draws
// a new opening, so that its objects have names of their own.
func (c *Catalog) BeginImport(ctx context.Context, spec VolumeSpec) (Import, error) {
	return Import{}, ErrNotReady
}

// CompleteImport makes the volume visible, with the given root as its head; nil
// for an image without data.
func (c *Catalog) CompleteImport(ctx context.Context, id ident.Volume, root *authority.Root) (authority.Volume, error) {
	return authority.Volume{}, ErrNotReady
}

// AbortImport gives an import up; its space follows.
func (c *Catalog) AbortImport(ctx context.Context, id ident.Volume) error { return ErrNotReady }
