package catalog

import (
	"context"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// Publish binds a volume to a node: ErrInUse if it is bound to another one,
// ErrConflict if it is bound to the same one otherwise (read-only or not).
func (c *Catalog) Publish(ctx context.Context, id ident.Volume, node string, readOnly bool) (authority.Volume, error) {
	return authority.Volume{}, ErrNotReady
}

// Unpublish ends the binding to node ("" for whichever it is) once the node has
// closed its epoch. While the epoch is open it is ErrBusy: unstage first.
func (c *Catalog) Unpublish(ctx context.Context, id ident.Volume, node string) error {
	return ErrNotReady
}

// Abandon ends the binding of a volume whose node was given up. A node that
// answers hands over; only for one that does not, the epoch is fenced and the
// newest root in Swift is searched and adopted: what that does not hold is lost.
func (c *Catalog) Abandon(ctx context.Context, id ident.Volume) error { return ErrNotReady }

// Confirmation is a node's request for the epoch of its journal.
type Confirmation struct {
	Volume   ident.Volume
	Node     string
	Endpoint string // where the node's Exports service answers
	Journal  string // random id, synced by the node before it asks
}

// Opening is what a node needs to open a volume.
type Opening struct {
	Epoch      ident.Epoch
	Container  string
	Head       *authority.Root // nil: blank
	Size       int64           // bytes
	ReadOnly   bool
	Parameters map[string]string
}

// Confirm gives the epoch of a journal (R5): the same for the same journal, a
// new one for any other. ErrInUse: the volume is not published to this node.
func (c *Catalog) Confirm(ctx context.Context, r Confirmation) (Opening, error) {
	return Opening{}, ErrNotReady
}

// Report is a node's word on the open epoch of its journal.
type Report struct {
	Volume  ident.Volume
	Node    string
	Journal string
	Root    *authority.Root // newest published; nil: none in this epoch
}

// Published records a root of an open epoch. ErrFenced: the epoch has ended.
func (c *Catalog) Published(ctx context.Context, r Report) error { return ErrNotReady }

// Closed ends an epoch (R6): everything that its journal held is in the root.
func (c *Catalog) Closed(ctx context.Context, r Report) error { return ErrNotReady }
