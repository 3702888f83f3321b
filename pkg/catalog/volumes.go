package catalog

import (
	"context"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// VolumeSpec asks for a volume.
type VolumeSpec struct {
	Name     string // the CSI name: the same name gets the same volume
	Required int64  // bytes at least; 0: the source's size, or DefaultSize
	Limit    int64  // bytes at most; 0: no limit
	// Source is what the volume starts as; nil: empty. Only the ids are read.
	Source     *authority.Origin
	Parameters map[string]string
}

// CreateVolume makes a volume, or finds the one that the same spec made before.
// It returns once the volume can be published.
func (c *Catalog) CreateVolume(ctx context.Context, spec VolumeSpec) (authority.Volume, error) {
	return authority.Volume{}, ErrNotReady
}

// DeleteVolume tombstones a volume: it is gone for everybody when the call
// returns, its space follows (see [Catalog.Sweep]). A volume that is not there
// is deleted already; one that is published is ErrInUse.
func (c *Catalog) DeleteVolume(ctx context.Context, id ident.Volume) error { return ErrNotReady }

// GetVolume returns a volume that is ready, else ErrNotFound.
func (c *Catalog) GetVolume(ctx context.Context, id ident.Volume) (authority.Volume, error) {
	return authority.Volume{}, ErrNotFound
}

// ListVolumes returns at most limit volumes that are ready, in the order of
// their ids, after the given one. next is "" at the end of the list.
func (c *Catalog) ListVolumes(ctx context.Context, after ident.Volume, limit int) (page []authority.Volume, next ident.Volume, err error) {
	return nil, "", nil
}

// Expand grows a volume's record to at least required bytes and returns the
// volume; an attached volume is then grown by its node.
func (c *Catalog) Expand(ctx context.Context, id ident.Volume, required, limit int64) (authority.Volume, error) {
	return authority.Volume{}, ErrNotReady
}
