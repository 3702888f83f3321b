package catalog

import (
	"context"
	"maps"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// Parameters returns those that a volume has now: of its class, as modified since.
func Parameters(v authority.Volume) map[string]string {
	all := maps.Clone(v.Parameters)
	if all == nil {
		return maps.Clone(v.Mutable)
	}
	maps.Copy(all, v.Mutable)
	return all
}

// Modify sets mutable parameters of a volume, which the caller has checked, and
// leaves those that are not named as they are. The node that writes the volume
// has taken them over when it returns; one that reads it does when it attaches
// it next.
func (c *Catalog) Modify(ctx context.Context, id ident.Volume, mutable map[string]string) (authority.Volume, error) {
	v, err := c.modify(ctx, id, mutable)
	return v, failed(err, "modify", "volume", id)
}

func (c *Catalog) modify(ctx context.Context, id ident.Volume, mutable map[string]string) (authority.Volume, error) {
	if _, err := c.readyVolume(ctx, id); err != nil {
		return authority.Volume{}, err
	}
	v, err := c.changeVolume(ctx, id, func(v *authority.Volume) error {
		changed := maps.Clone(v.Mutable)
		if changed == nil {
			changed = map[string]string{}
		}
		maps.Copy(changed, mutable)
		if maps.Equal(changed, v.Mutable) {
			return errKeep
		}
		v.Mutable = changed
		return nil
	})
	if err != nil || !v.Opening.Open {
		return v, err
	}
	return v, c.config.Nodes.Modify(ctx, v.Opening.Endpoint, id, Parameters(v))
}
