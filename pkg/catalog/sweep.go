package catalog

import "context"

// Swept counts what a sweep removed.
type Swept struct{ Volumes, Objects int }

// Sweep removes the space of deleted volumes and snapshots as far as nothing
// needs it any more, and finishes what an interrupted deletion left. The
// controller calls it periodically; any number may run at once.
func (c *Catalog) Sweep(ctx context.Context) (Swept, error) { return Swept{}, nil }
