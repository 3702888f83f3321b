package driver

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
)

// locks lets one call at a time change a volume or a snapshot. A second one is
// refused at once: it would wait longer than its caller, who asks again anyway
// (CSI, "concurrency"). This only saves work; what must hold between processes
// is decided by the authority.
type locks struct {
	mu   sync.Mutex
	held map[string]bool
}

func newLocks() *locks { return &locks{held: map[string]bool{}} }

// csiMethods begins the names of the calls that are kept apart. Export processes
// and the Openings service know best what may run beside what.
const csiMethods = "/csi.v1."

func (l *locks) exclusive(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	key := subject(req)
	if key == "" || readOnly(req) || !strings.HasPrefix(info.FullMethod, csiMethods) {
		return next(ctx, req)
	}
	if !l.take(key) {
		return nil, fmt.Errorf("%.128q: %w", key, errPending)
	}
	defer l.release(key)
	return next(ctx, req)
}

func (l *locks) take(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[key] {
		return false
	}
	l.held[key] = true
	return true
}

func (l *locks) release(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.held, key)
}

// subject is what a request is about: the id of a volume or a snapshot, or the
// name of one that is to be made.
func subject(req any) string {
	switch r := req.(type) {
	case interface{ GetSnapshotId() string }:
		return r.GetSnapshotId()
	case interface{ GetVolumeId() string }:
		return r.GetVolumeId()
	case interface{ GetName() string }:
		return r.GetName()
	case interface{ GetVolume() string }:
		return r.GetVolume()
	}
	return ""
}

// readOnly reports whether a request changes nothing.
func readOnly(req any) bool {
	switch req.(type) {
	case *csi.ValidateVolumeCapabilitiesRequest, *csi.ControllerGetVolumeRequest, *csi.ControllerGetVolumeHealthRequest, *csi.ListSnapshotsRequest, *csi.GetSnapshotRequest,
		*csi.NodeGetVolumeStatsRequest, *csi.NodeGetVolumeHealthRequest:
		return true
	}
	return false
}
