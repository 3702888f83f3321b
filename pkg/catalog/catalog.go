// Package catalog is the volumes and snapshots as the controller knows them:
// what exists, under which name, on which node, from which root, and what may be
// deleted. It decides by the records in the [authority] and keeps the objects in
// Swift in step with them; it holds no state of its own.
package catalog

import (
	"context"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// Config is what a catalog stands on.
type Config struct {
	Authority authority.Authority
	Store     swift.Store
	// Prefix begins the name of every container: <prefix><volume id>.
	Prefix string
	// Cluster owns the containers; those of another cluster are refused.
	Cluster string
	// Nodes reaches the export processes.
	Nodes Nodes
}

// Nodes reaches the `export` process that holds a volume's open epoch. An error
// that Is [ErrUnreachable] says that nobody answered.
type Nodes interface {
	// Seal cuts volume v for snapshot s and returns the published root of the
	// cut and the volume's size in it. The same s gets the same answer again.
	Seal(ctx context.Context, endpoint string, v ident.Volume, s ident.Snapshot) (Cut, error)
	// Status tells which epoch of v the node holds; the zero epoch for none.
	Status(ctx context.Context, endpoint string, v ident.Volume) (ident.Epoch, error)
	// Handover orders the node to fail the volume's I/O, to upload all that its
	// journal holds and to call Closed before it answers.
	Handover(ctx context.Context, endpoint string, v ident.Volume) error
}

// Cut is a point in time of a volume.
type Cut struct {
	Root authority.Root
	Size int64 // bytes
}

// Catalog is safe for concurrent use; several may run on one authority.
type Catalog struct{ config Config }

// New returns the catalog on the given edges.
func New(config Config) *Catalog { return &Catalog{config: config} }
