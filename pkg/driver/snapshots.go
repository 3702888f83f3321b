package driver

import (
	"context"
	"errors"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// CreateSnapshot cuts the volume when the first call for the name arrives, and
// answers when the cut is in Swift.
func (c *Controller) CreateSnapshot(ctx context.Context, r *csi.CreateSnapshotRequest) (*csi.CreateSnapshotResponse, error) {
	if err := checkText("name", r.GetName(), maxString); err != nil {
		return nil, err
	}
	for name := range r.GetParameters() {
		return nil, invalid("parameters", "%.64q is unknown; snapshots have no parameters", name)
	}
	source, err := volumeID("source_volume_id", r.GetSourceVolumeId())
	if err != nil {
		return nil, err
	}
	s, err := c.config.Catalog.CreateSnapshot(ctx, r.GetName(), source)
	if err != nil {
		return nil, err
	}
	return &csi.CreateSnapshotResponse{Snapshot: snapshot(s)}, nil
}

// DeleteSnapshot succeeds for snapshots that are not there.
func (c *Controller) DeleteSnapshot(ctx context.Context, r *csi.DeleteSnapshotRequest) (*csi.DeleteSnapshotResponse, error) {
	id, err := snapshotID("snapshot_id", r.GetSnapshotId())
	if err == nil {
		err = c.config.Catalog.DeleteSnapshot(ctx, id)
	}
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return nil, err
	}
	return &csi.DeleteSnapshotResponse{}, nil
}

// GetSnapshot returns one snapshot.
func (c *Controller) GetSnapshot(ctx context.Context, r *csi.GetSnapshotRequest) (*csi.GetSnapshotResponse, error) {
	id, err := snapshotID("snapshot_id", r.GetSnapshotId())
	if err != nil {
		return nil, err
	}
	s, err := c.config.Catalog.GetSnapshot(ctx, id)
	if err != nil {
		return nil, err
	}
	return &csi.GetSnapshotResponse{Snapshot: snapshot(s)}, nil
}

// ListSnapshots returns a page of the snapshots, those of one volume, or one. An
// id that names nothing finds nothing; it is no error.
func (c *Controller) ListSnapshots(ctx context.Context, r *csi.ListSnapshotsRequest) (*csi.ListSnapshotsResponse, error) {
	from, limit, err := page(r)
	if err != nil {
		return nil, err
	}
	found, next, err := c.findSnapshots(ctx, r, from, limit)
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return nil, err
	}
	answer := &csi.ListSnapshotsResponse{NextToken: string(next)}
	for _, s := range found {
		answer.Entries = append(answer.Entries, &csi.ListSnapshotsResponse_Entry{Snapshot: snapshot(s)})
	}
	return answer, nil
}

func (c *Controller) findSnapshots(ctx context.Context, r *csi.ListSnapshotsRequest, from authority.Place, limit int) (found []authority.Snapshot, next authority.Place, err error) {
	var source ident.Volume
	if r.GetSourceVolumeId() != "" {
		if source, err = volumeID("source_volume_id", r.GetSourceVolumeId()); err != nil {
			return nil, "", err
		}
	}
	if r.GetSnapshotId() == "" {
		return c.config.Catalog.ListSnapshots(ctx, source, from, limit)
	}
	id, err := snapshotID("snapshot_id", r.GetSnapshotId())
	if err != nil {
		return nil, "", err
	}
	s, err := c.config.Catalog.GetSnapshot(ctx, id)
	if err != nil || source != "" && s.Source != source {
		return nil, "", err
	}
	return []authority.Snapshot{s}, "", nil
}

func snapshot(s authority.Snapshot) *csi.Snapshot {
	return &csi.Snapshot{
		SnapshotId:     string(s.ID),
		SourceVolumeId: string(s.Source),
		SizeBytes:      s.Size,
		CreationTime:   timestamppb.New(s.Created),
		ReadyToUse:     s.State == authority.Ready,
	}
}
