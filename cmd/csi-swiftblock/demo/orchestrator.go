package demo

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// orchestrator calls the CSI sockets in the order in which Kubernetes would.
type orchestrator struct {
	controller csi.ControllerClient
	node       csi.NodeClient
	nodeID     string
	staging    string // parent of staging paths
	targets    string // parent of target paths
	conns      []*grpc.ClientConn
}

func newOrchestrator(ctx context.Context, controller, node, dir string) (*orchestrator, error) {
	o := &orchestrator{staging: filepath.Join(dir, "staging"), targets: filepath.Join(dir, "pods")}
	dial := func(endpoint string) (*grpc.ClientConn, error) {
		c, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err == nil {
			o.conns = append(o.conns, c)
		}
		return c, err
	}
	c, err := dial(controller)
	if err != nil {
		return nil, err
	}
	n, err := dial(node)
	if err != nil {
		return nil, err
	}
	o.controller, o.node = csi.NewControllerClient(c), csi.NewNodeClient(n)
	info, err := o.node.NodeGetInfo(ctx, &csi.NodeGetInfoRequest{})
	if err != nil {
		return nil, err
	}
	o.nodeID = info.NodeId
	return o, nil
}

func (o *orchestrator) close() {
	for _, c := range o.conns {
		c.Close()
	}
}

var mounted = &csi.VolumeCapability{
	AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: "ext4"}},
	AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
}

// patience is how long the demo lets a call be repeated before it gives up.
const patience = time.Minute

// retry repeats what CSI wants repeated, as every orchestrator does.
func retry(ctx context.Context, call func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := call()
		switch status.Code(err) {
		case codes.Aborted, codes.Unavailable:
		default:
			return err
		}
		select {
		case <-time.After(250 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%w; last answer: %w", context.Cause(ctx), err)
		}
	}
}

func fromVolume(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: id}}}
}

func fromSnapshot(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: id}}}
}

// create makes a volume and returns its id.
func (o *orchestrator) create(ctx context.Context, name string, bytes int64, source *csi.VolumeContentSource) (id string, err error) {
	err = retry(ctx, func() error {
		a, err := o.controller.CreateVolume(ctx, &csi.CreateVolumeRequest{
			Name:                name,
			CapacityRange:       &csi.CapacityRange{RequiredBytes: bytes},
			VolumeCapabilities:  []*csi.VolumeCapability{mounted},
			Parameters:          map[string]string{"rpo": "5s", "journalSize": "1Gi"},
			VolumeContentSource: source,
		})
		id = a.GetVolume().GetVolumeId()
		return err
	})
	return id, err
}

func (o *orchestrator) paths(id string) (staging, target string) {
	return filepath.Join(o.staging, id), filepath.Join(o.targets, id, "mount")
}

// attach brings a volume to where a pod would see it, and returns that path.
func (o *orchestrator) attach(ctx context.Context, id string) (string, error) {
	var published map[string]string
	err := retry(ctx, func() error {
		a, err := o.controller.ControllerPublishVolume(ctx, &csi.ControllerPublishVolumeRequest{
			VolumeId: id, NodeId: o.nodeID, VolumeCapability: mounted,
		})
		published = a.GetPublishContext()
		return err
	})
	if err != nil {
		return "", err
	}
	staging, target := o.paths(id)
	if err := makeDirs(staging, filepath.Dir(target)); err != nil {
		return "", err
	}
	err = retry(ctx, func() error {
		_, err := o.node.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{
			VolumeId: id, PublishContext: published, StagingTargetPath: staging, VolumeCapability: mounted,
		})
		return err
	})
	if err != nil {
		return "", err
	}
	return target, retry(ctx, func() error {
		_, err := o.node.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
			VolumeId: id, PublishContext: published, StagingTargetPath: staging, TargetPath: target, VolumeCapability: mounted,
		})
		return err
	})
}

// detach undoes attach, including the hand-over to the controller.
func (o *orchestrator) detach(ctx context.Context, id string) error {
	staging, target := o.paths(id)
	err := retry(ctx, func() error {
		_, err := o.node.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: target})
		return err
	})
	if err != nil {
		return err
	}
	err = retry(ctx, func() error {
		_, err := o.node.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: staging})
		return err
	})
	if err != nil {
		return err
	}
	return retry(ctx, func() error {
		_, err := o.controller.ControllerUnpublishVolume(ctx, &csi.ControllerUnpublishVolumeRequest{VolumeId: id, NodeId: o.nodeID})
		return err
	})
}

// snapshot cuts a volume and returns the snapshot's id once it is ready.
func (o *orchestrator) snapshot(ctx context.Context, name, source string) (id string, err error) {
	err = retry(ctx, func() error {
		a, err := o.controller.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: source})
		if err == nil && !a.Snapshot.ReadyToUse {
			return status.Error(codes.Unavailable, "the snapshot is not ready yet")
		}
		id = a.GetSnapshot().GetSnapshotId()
		return err
	})
	return id, err
}

// expand grows a volume and its file system while it is in use.
func (o *orchestrator) expand(ctx context.Context, id string, bytes int64) error {
	grow := &csi.CapacityRange{RequiredBytes: bytes}
	err := retry(ctx, func() error {
		_, err := o.controller.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{
			VolumeId: id, CapacityRange: grow, VolumeCapability: mounted,
		})
		return err
	})
	if err != nil {
		return err
	}
	staging, target := o.paths(id)
	return retry(ctx, func() error {
		_, err := o.node.NodeExpandVolume(ctx, &csi.NodeExpandVolumeRequest{
			VolumeId: id, VolumePath: target, StagingTargetPath: staging, CapacityRange: grow, VolumeCapability: mounted,
		})
		return err
	})
}

// capacity is the size of the file system as NodeGetVolumeStats tells it.
func (o *orchestrator) capacity(ctx context.Context, id string) (int64, error) {
	staging, target := o.paths(id)
	a, err := o.node.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{VolumeId: id, VolumePath: target, StagingTargetPath: staging})
	if err != nil {
		return 0, err
	}
	for _, u := range a.Usage {
		if u.Unit == csi.VolumeUsage_BYTES {
			return u.Total, nil
		}
	}
	return 0, fmt.Errorf("no bytes among the usage of %s", id)
}

func (o *orchestrator) deleteVolume(ctx context.Context, id string) error {
	return retry(ctx, func() error {
		_, err := o.controller.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: id})
		return err
	})
}

func (o *orchestrator) deleteSnapshot(ctx context.Context, id string) error {
	return retry(ctx, func() error {
		_, err := o.controller.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: id})
		return err
	})
}
