package driver

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/swiftblock/csi-swiftblock/pkg/class"
	"github.com/swiftblock/csi-swiftblock/pkg/host"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// Account tells how full the object store is; see [swift.Client].
type Account interface {
	Account(ctx context.Context) (swift.Account, error)
}

// GetCapacity tells how many bytes may yet be stored. Volumes are thin, so one of
// any size can be made whatever it answers. Where nobody has set a quota, nobody
// can say when Swift is full: then there is room for the largest volume.
func (c *Controller) GetCapacity(ctx context.Context, r *csi.GetCapacityRequest) (*csi.GetCapacityResponse, error) {
	if r.GetAccessibleTopology() != nil {
		return nil, invalid("accessible_topology", "volumes are reached from everywhere: there is no topology")
	}
	parameters, err := class.Parse(r.GetParameters())
	if err != nil {
		return nil, err
	}
	least := int64(1)
	for _, wanted := range r.GetVolumeCapabilities() {
		use, err := capability(wanted)
		if err != nil {
			return nil, err
		}
		least = max(least, use.minSize(parameters))
	}
	account, err := c.config.Account.Account(ctx)
	if err != nil {
		return nil, err
	}
	free, limited := account.Free()
	if !limited {
		free = snapshots.MaxSize
	}
	return &csi.GetCapacityResponse{
		AvailableCapacity: free,
		MaximumVolumeSize: wrapperspb.Int64(snapshots.MaxSize),
		MinimumVolumeSize: wrapperspb.Int64(least),
	}, nil
}

// minSize is the least size of a volume that is used so, in bytes.
func (a access) minSize(p class.Parameters) int64 {
	switch {
	case a.block:
		return 1
	case a.fsType != "":
		return host.FSType(a.fsType).MinSize()
	}
	return host.FSType(p.FSType).MinSize()
}
