package catalog

import (
	"context"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// CreateSnapshot cuts a volume and returns once the snapshot is ready; the cut
// is taken when the first call for that name arrives. ErrConflict: the name is
// that of a snapshot of another volume. ErrLost is final.
func (c *Catalog) CreateSnapshot(ctx context.Context, name string, source ident.Volume) (authority.Snapshot, error) {
	return authority.Snapshot{}, ErrNotReady
}

// DeleteSnapshot removes a snapshot; its space follows. One that is not there is
// deleted already. Volumes made from it keep working.
func (c *Catalog) DeleteSnapshot(ctx context.Context, id ident.Snapshot) error { return ErrNotReady }

// GetSnapshot returns a snapshot that is ready, else ErrNotFound.
func (c *Catalog) GetSnapshot(ctx context.Context, id ident.Snapshot) (authority.Snapshot, error) {
	return authority.Snapshot{}, ErrNotFound
}

// ListSnapshots returns at most limit ready snapshots, of one volume if source
// is not "", in the order of their ids, after the given one. next is "" at the
// end of the list.
func (c *Catalog) ListSnapshots(ctx context.Context, source ident.Volume, after ident.Snapshot, limit int) (page []authority.Snapshot, next ident.Snapshot, err error) {
	return nil, "", nil
}
