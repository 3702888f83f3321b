package driver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/host"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// The reasons that controller and node add to those of the export process.
const (
	reasonExportAway = "ExportNotReachable" // I/O waits for the export process
	reasonNodeAway   = "NodeNotReachable"   // as the controller sees it
	reasonRolledBack = "RolledBack"         // a node was lost with what it had not uploaded
)

// Reasons are all of those; the others are [wire.Reasons].
var Reasons = []string{reasonExportAway, reasonNodeAway, reasonRolledBack}

// health gathers what is wrong with a volume. Its entries differ in (status,
// reason), as CSI wants it.
type health struct{ *csi.VolumeHealth }

func newHealth(v ident.Volume) health { return health{&csi.VolumeHealth{VolumeId: string(v)}} }

func (h health) add(kind csi.VolumeHealthErrorType, reason, format string, args ...any) {
	for _, other := range h.HealthStatuses {
		if other.Status == kind && other.Reason == reason {
			return
		}
	}
	h.HealthStatuses = append(h.HealthStatuses, &csi.VolumeHealth_VolumeHealthEntry{
		Status: kind, Reason: reason, Message: fmt.Sprintf(format, args...),
	})
}

var severities = map[wire.Severity]csi.VolumeHealthErrorType{
	wire.Severity_SEVERITY_DEGRADED:     csi.VolumeHealthErrorType_DEGRADED,
	wire.Severity_SEVERITY_INACCESSIBLE: csi.VolumeHealthErrorType_INACCESSIBLE,
	wire.Severity_SEVERITY_DATA_LOSS:    csi.VolumeHealthErrorType_DATA_LOSS,
}

func (h health) addConditions(conditions []*wire.Condition) {
	for _, c := range conditions {
		h.add(severities[c.GetSeverity()], c.GetReason(), "%s", c.GetMessage())
	}
}

// NodeGetVolumeHealth tells what is wrong with an attached volume. It asks the
// export process and the kernel, and nothing that could hang with the volume.
func (n *Node) NodeGetVolumeHealth(ctx context.Context, r *csi.NodeGetVolumeHealthRequest) (*csi.NodeGetVolumeHealthResponse, error) {
	v, err := volumeID("volume_id", r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	health := newHealth(v)
	export, err := n.config.Exports.Status(ctx, &wire.StatusRequest{Volume: string(v)})
	switch {
	case status.Code(err) == codes.Unavailable:
		health.add(csi.VolumeHealthErrorType_INACCESSIBLE, reasonExportAway, "the export process does not answer; I/O waits until it does")
	case err != nil:
		return nil, fmt.Errorf("status: %w", err)
	}
	health.addConditions(export.GetConditions())
	switch _, err := n.config.Initiator.Device(v); {
	case errors.Is(err, host.ErrNotLoggedIn):
		health.add(csi.VolumeHealthErrorType_INACCESSIBLE, wire.ReasonNotLoggedIn, "the initiator has no session with the volume's target")
	case err != nil:
		return nil, err
	}
	return &csi.NodeGetVolumeHealthResponse{VolumeHealth: health.VolumeHealth}, nil
}

// Exports asks a node how a volume fares that it writes; see [Nodes].
type Exports interface {
	Ask(ctx context.Context, endpoint string, v ident.Volume) (*wire.StatusResponse, error)
}

// sparing asks no node again of which a moment ago no connection was had: else each of its
// volumes would take as long as one that does not answer may take.
type sparing struct {
	Exports
	silent sync.Map // why, by endpoint
}

// Ask implements [Exports].
func (s *sparing) Ask(ctx context.Context, endpoint string, v ident.Volume) (*wire.StatusResponse, error) {
	if why, silent := s.silent.Load(endpoint); silent {
		return nil, why.(error)
	}
	answer, err := s.Exports.Ask(ctx, endpoint, v)
	// Not where the node has the question and takes long: that may be one volume's trouble.
	if errors.Is(err, catalog.ErrUnreachable) || errors.Is(err, context.DeadlineExceeded) {
		s.silent.Store(endpoint, err)
	}
	return answer, err
}

const (
	// healthWait is how long a node may take to say how a volume fares.
	healthWait = 5 * time.Second
	// healthAsked bounds how many nodes are asked at a time.
	healthAsked = 16
)

// ControllerGetVolumeHealth tells what is wrong with a volume, as its record and
// the node that writes it know.
func (c *Controller) ControllerGetVolumeHealth(ctx context.Context, r *csi.ControllerGetVolumeHealthRequest) (*csi.ControllerGetVolumeHealthResponse, error) {
	v, err := c.volume(ctx, r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	health, _ := lookAt(ctx, c.config.Exports, v)
	return &csi.ControllerGetVolumeHealthResponse{VolumeHealth: health.VolumeHealth}, nil
}

// ControllerListVolumeHealth lists the volumes of a page that something is wrong
// with. So it may be short, or empty, and yet not the last one.
func (c *Controller) ControllerListVolumeHealth(ctx context.Context, r *csi.ControllerListVolumeHealthRequest) (*csi.ControllerListVolumeHealthResponse, error) {
	from, limit, err := page(r)
	if err != nil {
		return nil, err
	}
	volumes, next, err := c.config.Catalog.ListVolumes(ctx, from, limit)
	if err != nil {
		return nil, err
	}
	all := make([]*csi.VolumeHealth, len(volumes))
	exports := &sparing{Exports: c.config.Exports}
	var asked errgroup.Group
	asked.SetLimit(healthAsked)
	for i, v := range volumes {
		asked.Go(func() error {
			health, _ := lookAt(ctx, exports, v)
			all[i] = health.VolumeHealth
			return nil
		})
	}
	asked.Wait()
	answer := &csi.ControllerListVolumeHealthResponse{NextToken: string(next)}
	for _, h := range all {
		if len(h.GetHealthStatuses()) > 0 {
			answer.Entries = append(answer.Entries, h)
		}
	}
	return answer, nil
}

// lookAt tells what the record of a volume and the node that writes it know. A node
// that does not answer is a condition, too; there is no answer then, and none of a
// volume that no node writes.
func lookAt(ctx context.Context, exports Exports, v authority.Volume) (health, *wire.StatusResponse) {
	health := newHealth(v.ID)
	if r := v.Recovered; r != nil && time.Since(r.At) < catalog.LostKept {
		if r.Newest.IsZero() {
			health.add(csi.VolumeHealthErrorType_DATA_LOSS, reasonRolledBack,
				"node %q was given up at %v with all that it had written since it opened the volume", r.Node, r.At.Format(time.RFC3339))
		} else {
			health.add(csi.VolumeHealthErrorType_DATA_LOSS, reasonRolledBack,
				"node %q was given up at %v; what it wrote after %v is lost", r.Node, r.At.Format(time.RFC3339), r.Newest.Format(time.RFC3339))
		}
	}
	if !v.Opening.Open {
		return health, nil
	}
	ctx, cancel := context.WithTimeout(ctx, healthWait)
	defer cancel()
	answer, err := exports.Ask(ctx, v.Opening.Endpoint, v.ID)
	if err != nil {
		health.add(csi.VolumeHealthErrorType_DEGRADED, reasonNodeAway,
			"node %q, which writes the volume, does not tell how it fares: %v", v.Opening.Node, err)
	}
	health.addConditions(answer.GetConditions())
	return health, answer
}
