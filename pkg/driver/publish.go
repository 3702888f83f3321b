package driver

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
)

// ControllerPublishVolume gives a volume to a node. The epoch comes later, when
// the node opens its journal (R5).
func (c *Controller) ControllerPublishVolume(ctx context.Context, r *csi.ControllerPublishVolumeRequest) (*csi.ControllerPublishVolumeResponse, error) {
	if err := checkText("volume_id", r.GetVolumeId(), maxString); err != nil {
		return nil, err
	}
	node := r.GetNodeId()
	if err := checkText("node_id", node, maxString); err != nil {
		return nil, err
	}
	use, err := capability(r.GetVolumeCapability())
	if err != nil {
		return nil, err
	}
	id, err := volumeID("volume_id", r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	v, err := c.config.Catalog.GetVolume(ctx, id)
	if err == nil {
		err = c.checkSecrets(v, r.GetSecrets())
	}
	if err != nil {
		return nil, err
	}
	if known, err := c.config.Cluster.Known(ctx, node); err != nil {
		return nil, err
	} else if !known {
		return nil, fmt.Errorf("%q: %w", node, errNoSuchNode)
	}
	access := catalog.Write
	switch {
	case use.manyNodes:
		access = catalog.ReadShared
	case use.readOnly || r.GetReadonly():
		access = catalog.ReadAlone
	}
	if _, err := c.config.Catalog.Publish(ctx, id, node, access); err != nil {
		return nil, err
	}
	return &csi.ControllerPublishVolumeResponse{PublishContext: map[string]string{contextReadOnly: strconv.FormatBool(access != catalog.Write)}}, nil
}

// ControllerUnpublishVolume ends the binding. A node that has not closed the
// volume is asked to hand it over; if it does not answer, the volume stays bound
// to it, unless it was given up (R6).
func (c *Controller) ControllerUnpublishVolume(ctx context.Context, r *csi.ControllerUnpublishVolumeRequest) (*csi.ControllerUnpublishVolumeResponse, error) {
	node := r.GetNodeId()
	if len(node) > maxString {
		return nil, invalid("node_id", "is %d bytes long, at most %d are allowed", len(node), maxString)
	}
	id, err := volumeID("volume_id", r.GetVolumeId())
	if err == nil {
		err = c.config.Catalog.Unpublish(ctx, id, node)
	}
	if errors.Is(err, catalog.ErrBusy) && node != "" {
		givenUp, clusterErr := c.config.Cluster.GivenUp(ctx, node)
		if clusterErr != nil {
			return nil, clusterErr
		}
		err = c.config.Catalog.Reclaim(ctx, id, node, givenUp)
	}
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return nil, err
	}
	return &csi.ControllerUnpublishVolumeResponse{}, nil
}
