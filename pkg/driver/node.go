package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"

	"github.com/swiftblock/csi-swiftblock/pkg/class"
	"github.com/swiftblock/csi-swiftblock/pkg/host"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// Initiator makes a block device of an exported LUN; see [host.Initiator].
type Initiator interface {
	Login(ctx context.Context, s host.Session) (host.Device, error)
	Logout(ctx context.Context, v ident.Volume) error
	Device(v ident.Volume) (host.Device, error)
	Rescan(ctx context.Context, v ident.Volume, size int64) error
}

// Filesystems makes and grows file systems; see [host.Filesystems].
type Filesystems interface {
	Make(ctx context.Context, device string, t host.FSType) error
	Wipe(ctx context.Context, device string) error
	SetReadOnly(ctx context.Context, device string) error
	Flush(ctx context.Context, device string) error
	Type(ctx context.Context, device string) (host.FSType, error)
	Check(ctx context.Context, device string, t host.FSType) error
	Grow(ctx context.Context, device, mountPoint string, t host.FSType) error
}

// Mounts mounts devices and binds them into pods; see [host.Mounts].
type Mounts interface {
	Of(device string) ([]host.Mount, error)
	Idle(device string) error
	MountDevice(ctx context.Context, device, target string, t host.FSType, options []string, readOnly bool) error
	BindDirectory(ctx context.Context, source, target string, readOnly bool) error
	BindDevice(ctx context.Context, device, target string, readOnly bool) error
	Unmount(ctx context.Context, target string) error
	Remove(ctx context.Context, target string) error
	Point(path string) string
}

// Usage tells how full a file system is; see [host.Statfs].
type Usage interface {
	Usage(ctx context.Context, path string) (host.Usage, error)
}

// NodeConfig is what the node service stands on.
type NodeConfig struct {
	// ID is the node's name, as the controller knows it.
	ID string
	// MaxVolumes is how many volumes the node may have; 0: as many as journals of
	// the default size fit into the budget of the export process.
	MaxVolumes int64

	Exports     wire.ExportsClient
	Initiator   Initiator
	Filesystems Filesystems
	Mounts      Mounts
	Usage       Usage
}

// Node is the CSI node service. It keeps nothing in memory that was done: that is read
// from the export process, the kernel's sessions and the mount table, so that a
// new process goes on where a killed one stopped (P8).
type Node struct {
	csi.UnimplementedNodeServer
	config  NodeConfig
	formats *locks // volumes whose file systems are being made; see formatted
}

// NewNode returns the node service.
func NewNode(config NodeConfig) *Node { return &Node{config: config, formats: newLocks()} }

// Register adds the service to a server.
func (n *Node) Register(s grpc.ServiceRegistrar) { csi.RegisterNodeServer(s, n) }

// Ready asks the export process, without which no volume can be staged, for a sign of life.
func (n *Node) Ready(ctx context.Context) error {
	_, err := n.config.Exports.Room(ctx, &wire.RoomRequest{})
	return err
}

// NodeGetInfo tells the node's name and how many volumes it has room for. Where
// classes have journals of another size, the export process has the last word.
func (n *Node) NodeGetInfo(ctx context.Context, _ *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	most := n.config.MaxVolumes
	if most == 0 {
		room, err := n.config.Exports.Room(ctx, &wire.RoomRequest{})
		if err != nil {
			return nil, fmt.Errorf("room: %w", err)
		}
		if budget := room.GetBudget(); budget > 0 {
			most = max(1, budget/class.DefaultJournalSize)
		}
	}
	return &csi.NodeGetInfoResponse{NodeId: n.config.ID, MaxVolumesPerNode: most}, nil
}

// NodeGetCapabilities lists what is implemented.
func (n *Node) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	answer := &csi.NodeGetCapabilitiesResponse{}
	for _, t := range []csi.NodeServiceCapability_RPC_Type{
		csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME,
		csi.NodeServiceCapability_RPC_GET_VOLUME_STATS,
		csi.NodeServiceCapability_RPC_EXPAND_VOLUME,
		csi.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
		csi.NodeServiceCapability_RPC_GET_VOLUME_HEALTH,
	} {
		answer.Capabilities = append(answer.Capabilities, &csi.NodeServiceCapability{
			Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: t}},
		})
	}
	return answer, nil
}

// NodePublishVolume binds a staged volume into a pod.
func (n *Node) NodePublishVolume(ctx context.Context, r *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	p, err := publication(r)
	if err != nil {
		return nil, err
	}
	device, err := n.staged(p.volume)
	if err != nil {
		return nil, err
	}
	mounts, err := n.config.Mounts.Of(device.Path)
	if err != nil {
		return nil, err
	}
	staging, target := n.config.Mounts.Point(p.staging), n.config.Mounts.Point(p.target)
	if !p.use.block && !mountedAt(mounts, staging) {
		return nil, fmt.Errorf("%s: %w", p.staging, errNotStaged)
	}
	for _, m := range mounts {
		switch {
		case m.Point == target && m.ReadOnly == p.use.readOnly:
			return &csi.NodePublishVolumeResponse{}, nil
		case m.Point == target:
			return nil, fmt.Errorf("%s: %w", p.target, errPublished)
		case p.use.onePod && m.Point != staging:
			return nil, fmt.Errorf("at %s: %w", m.Point, errExclusive)
		}
	}
	if p.use.block {
		err = n.config.Mounts.BindDevice(ctx, device.Path, p.target, p.use.readOnly)
	} else {
		err = n.config.Mounts.BindDirectory(ctx, p.staging, p.target, p.use.readOnly)
	}
	if err != nil {
		return nil, err
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

type published struct {
	volume          ident.Volume
	staging, target string
	use             access
}

func publication(r *csi.NodePublishVolumeRequest) (p published, err error) {
	if err := checkText("volume_id", r.GetVolumeId(), maxString); err != nil {
		return p, err
	}
	if p.target, err = absolutePath("target_path", r.GetTargetPath()); err != nil {
		return p, err
	}
	if p.use, err = capability(r.GetVolumeCapability()); err != nil {
		return p, err
	}
	if p.staging, err = absolutePath("staging_target_path", r.GetStagingTargetPath()); err != nil {
		return p, err
	}
	// Of a raw block device that others on this node write, the kernel does not make one of
	// its device files read-only, whatever its mount says: kubelet gives the container no
	// right to write to it.
	p.use.readOnly = p.use.readOnly || r.GetPublishContext()[contextReadOnly] == "true" || r.GetReadonly()
	p.volume, err = volumeID("volume_id", r.GetVolumeId())
	return p, err
}

// NodeUnpublishVolume takes a volume away from a pod and removes its path.
func (n *Node) NodeUnpublishVolume(ctx context.Context, r *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	if err := checkText("volume_id", r.GetVolumeId(), maxString); err != nil {
		return nil, err
	}
	target, err := absolutePath("target_path", r.GetTargetPath())
	if err != nil {
		return nil, err
	}
	if err := n.config.Mounts.Remove(ctx, target); err != nil {
		return nil, err
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

// NodeGetVolumeStats tells how full a published volume is.
func (n *Node) NodeGetVolumeStats(ctx context.Context, r *csi.NodeGetVolumeStatsRequest) (*csi.NodeGetVolumeStatsResponse, error) {
	device, mount, err := n.publishedAt(r.GetVolumeId(), r.GetVolumePath())
	if err != nil {
		return nil, err
	}
	if !mount.Filesystem() {
		return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{{Unit: csi.VolumeUsage_BYTES, Total: device.Size}}}, nil
	}
	usage, err := n.config.Usage.Usage(ctx, r.GetVolumePath())
	if err != nil {
		return nil, err
	}
	return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{
		volumeUsage(csi.VolumeUsage_BYTES, usage.Bytes),
		volumeUsage(csi.VolumeUsage_INODES, usage.Inodes),
	}}, nil
}

func volumeUsage(unit csi.VolumeUsage_Unit, a host.Amounts) *csi.VolumeUsage {
	return &csi.VolumeUsage{Unit: unit, Total: a.Total, Used: a.Used, Available: a.Available}
}

// NodeExpandVolume grows the LUN to the size that the controller has recorded,
// makes the kernel see it, and grows the file system.
func (n *Node) NodeExpandVolume(ctx context.Context, r *csi.NodeExpandVolumeRequest) (*csi.NodeExpandVolumeResponse, error) {
	required, limit, err := capacity(r.GetCapacityRange())
	if err != nil {
		return nil, err
	}
	if c := r.GetVolumeCapability(); c != nil {
		if _, err := capability(c); err != nil {
			return nil, err
		}
	}
	device, mount, err := n.publishedAt(r.GetVolumeId(), r.GetVolumePath())
	if err != nil {
		return nil, err
	}
	v := ident.Volume(r.GetVolumeId())
	resized, err := n.config.Exports.Resize(ctx, &wire.ResizeRequest{Volume: string(v), Size: wholeSectors(required)})
	if err != nil {
		return nil, fmt.Errorf("resize: %w", err)
	}
	if limit > 0 && resized.GetSize() > limit {
		return nil, outOfRange("capacity_range.limit_bytes", "the volume has %d bytes", resized.GetSize())
	}
	if err := n.config.Initiator.Rescan(ctx, v, resized.GetSize()); err != nil {
		return nil, err
	}
	if mount.Filesystem() {
		if err := n.config.Filesystems.Grow(ctx, device.Path, mount.Point, mount.FSType); err != nil {
			return nil, err
		}
	}
	return &csi.NodeExpandVolumeResponse{CapacityBytes: resized.GetSize()}, nil
}

// wholeSectors rounds up to what a LUN can have.
func wholeSectors(size int64) int64 { return (size + 511) &^ 511 }

// staged returns the device of a volume that is logged in.
func (n *Node) staged(v ident.Volume) (host.Device, error) {
	device, err := n.config.Initiator.Device(v)
	if errors.Is(err, host.ErrNotLoggedIn) {
		err = errNotStaged
	}
	return device, err
}

// publishedAt takes in a volume and the path it is mounted at. Whatever else is
// given, nothing is there: NOT_FOUND.
func (n *Node) publishedAt(id, path string) (host.Device, host.Mount, error) {
	if err := checkText("volume_id", id, maxString); err != nil {
		return host.Device{}, host.Mount{}, err
	}
	if err := checkText("volume_path", path, maxPath); err != nil {
		return host.Device{}, host.Mount{}, err
	}
	v, err := volumeID("volume_id", id)
	if err != nil {
		return host.Device{}, host.Mount{}, err
	}
	device, err := n.config.Initiator.Device(v)
	if errors.Is(err, host.ErrNotLoggedIn) {
		return device, host.Mount{}, errNotPublished
	}
	if err != nil {
		return device, host.Mount{}, err
	}
	mounts, err := n.config.Mounts.Of(device.Path)
	if err != nil {
		return device, host.Mount{}, err
	}
	point := n.config.Mounts.Point(path)
	at := slices.IndexFunc(mounts, func(m host.Mount) bool { return m.Point == point })
	if at < 0 {
		return device, host.Mount{}, errNotPublished
	}
	return device, mounts[at], nil
}

func mountedAt(mounts []host.Mount, point string) bool {
	return slices.ContainsFunc(mounts, func(m host.Mount) bool { return m.Point == point })
}
