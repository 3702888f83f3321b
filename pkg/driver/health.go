package driver

import (
	"context"
	"errors"
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/swiftblock/csi-swiftblock/pkg/host"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// The reasons that NodeGetVolumeHealth gives.
const (
	reasonExportAway = "ExportNotReachable" // I/O waits for the export process
	reasonNoSession  = "NotLoggedIn"        // the device is gone
	reasonTrouble    = "ExportTrouble"      // what the export process says
)

// NodeGetVolumeHealth tells what is wrong with an attached volume. It asks the
// export process and the kernel, and nothing that could hang with the volume.
func (n *Node) NodeGetVolumeHealth(ctx context.Context, r *csi.NodeGetVolumeHealthRequest) (*csi.NodeGetVolumeHealthResponse, error) {
	v, err := volumeID("volume_id", r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	health := &csi.VolumeHealth{VolumeId: string(v)}
	report := func(kind csi.VolumeHealthErrorType, reason, message string) {
		health.HealthStatuses = append(health.HealthStatuses, &csi.VolumeHealth_VolumeHealthEntry{Status: kind, Reason: reason, Message: message})
	}
	export, err := n.config.Exports.Status(ctx, &wire.StatusRequest{Volume: string(v)})
	switch {
	case status.Code(err) == codes.Unavailable:
		report(csi.VolumeHealthErrorType_INACCESSIBLE, reasonExportAway, "the export process does not answer; I/O waits until it does")
	case err != nil:
		return nil, fmt.Errorf("status: %w", err)
	case export.GetCondition() != "":
		report(csi.VolumeHealthErrorType_DEGRADED, reasonTrouble, export.GetCondition())
	}
	switch _, err := n.config.Initiator.Device(v); {
	case errors.Is(err, host.ErrNotLoggedIn):
		report(csi.VolumeHealthErrorType_INACCESSIBLE, reasonNoSession, "the initiator has no session with the volume's target")
	case err != nil:
		return nil, err
	}
	return &csi.NodeGetVolumeHealthResponse{VolumeHealth: health}, nil
}
