package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/class"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// Catalog is what the controller asks; [catalog.Catalog] says what each method
// promises.
type Catalog interface {
	CreateVolume(ctx context.Context, spec catalog.VolumeSpec) (authority.Volume, error)
	DeleteVolume(ctx context.Context, id ident.Volume) error
	GetVolume(ctx context.Context, id ident.Volume) (authority.Volume, error)
	ListVolumes(ctx context.Context, from authority.Place, limit int) ([]authority.Volume, authority.Place, error)
	Expand(ctx context.Context, id ident.Volume, required, limit int64) (authority.Volume, error)
	Modify(ctx context.Context, id ident.Volume, mutable map[string]string) (authority.Volume, error)

	Publish(ctx context.Context, id ident.Volume, node string, access catalog.Access) (authority.Volume, error)
	Unpublish(ctx context.Context, id ident.Volume, node string) error
	Reclaim(ctx context.Context, id ident.Volume, node string, givenUp bool) error

	CreateSnapshot(ctx context.Context, name string, source ident.Volume) (authority.Snapshot, error)
	DeleteSnapshot(ctx context.Context, id ident.Snapshot) error
	GetSnapshot(ctx context.Context, id ident.Snapshot) (authority.Snapshot, error)
	ListSnapshots(ctx context.Context, source ident.Volume, from authority.Place, limit int) ([]authority.Snapshot, authority.Place, error)
}

// Cluster knows the nodes.
type Cluster interface {
	// Known reports whether there is such a node.
	Known(ctx context.Context, node string) (bool, error)
	// GivenUp reports whether an administrator or the cluster has declared that
	// the node will not come back by itself.
	GivenUp(ctx context.Context, node string) (bool, error)
}

// Accounts takes in the credentials of Swift accounts and tries them; see
// [accounts.Accounts].
type Accounts interface {
	Add(secrets map[string]string) (name string, err error)
	Check(ctx context.Context, name string) error
}

// Keys keeps the keys of classes; see [keys.Vault].
type Keys interface {
	Add(keys.Ring) error
}

// ControllerConfig is what the controller service stands on.
type ControllerConfig struct {
	Catalog  Catalog
	Cluster  Cluster
	Account  Account
	Accounts Accounts
	Keys     Keys
	Exports  Exports
}

// Controller is the CSI controller service.
type Controller struct {
	csi.UnimplementedControllerServer
	config ControllerConfig
}

// NewController returns the controller service.
func NewController(config ControllerConfig) *Controller { return &Controller{config: config} }

// Register adds the service to a server.
func (c *Controller) Register(s grpc.ServiceRegistrar) { csi.RegisterControllerServer(s, c) }

// The keys of the volume context, which a volume has for life, and of the
// publish context, which it has on one node.
const (
	contextFSType   = "fsType"
	contextReadOnly = "readOnly"
)

// CreateVolume makes a volume that is empty, or has a snapshot's or another
// volume's content.
func (c *Controller) CreateVolume(ctx context.Context, r *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	spec, encrypted, volumeContext, err := volumeSpec(r)
	if err != nil {
		return nil, err
	}
	if spec.Account, spec.Keys, err = c.secrets(r.GetSecrets()); err != nil {
		return nil, err
	}
	if err := spec.Keys.Check(encrypted); err != nil {
		return nil, invalid("secrets", "%v", err)
	}
	// No record is made of a volume for which nothing can be: whoever asks may give up, and
	// asks for no deletion then.
	if err := c.config.Accounts.Check(ctx, spec.Account); err != nil {
		return nil, fmt.Errorf("the Swift account that the class's secret names: %w", err)
	}
	v, err := c.config.Catalog.CreateVolume(ctx, spec)
	if err == nil {
		// Once more: until there was a record that needs it, the key could be forgotten.
		err = c.config.Keys.Add(spec.Keys)
	}
	if err != nil {
		return nil, err
	}
	return &csi.CreateVolumeResponse{Volume: &csi.Volume{
		VolumeId:      string(v.ID),
		CapacityBytes: v.Size,
		VolumeContext: volumeContext,
		ContentSource: r.GetVolumeContentSource(),
	}}, nil
}

// secrets takes in the secrets of a request: it names their Swift account, and
// returns the keys of their class.
func (c *Controller) secrets(secrets map[string]string) (account string, ring keys.Ring, err error) {
	ring, rest, err := keys.Split(secrets)
	if err == nil {
		account, err = c.config.Accounts.Add(rest)
	}
	if errors.Is(err, swift.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		return "", nil, fmt.Errorf("secrets: %w", err)
	}
	if err != nil {
		return "", nil, invalid("secrets", "%v", err)
	}
	return account, ring, c.config.Keys.Add(ring)
}

// checkSecrets refuses secrets of another account than the volume's, and keys of
// another class; those of its own replace what was known before.
func (c *Controller) checkSecrets(v authority.Volume, secrets map[string]string) error {
	account, ring, err := c.secrets(secrets)
	if err != nil {
		return err
	}
	accountGiven := len(secrets) > len(ring)
	switch {
	case accountGiven && account != v.Account:
		return invalid("secrets", "are of another Swift account than the volume")
	case v.Keys == nil || len(ring) == 0:
		return nil
	}
	if _, err := ring.Unwrap(string(v.ID), v.Keys); err != nil {
		return invalid("secrets", "%s is not the key that wraps the volume's keys; give the one before as %s: %v", keys.Field, keys.PreviousField, err)
	}
	return nil
}

// volumeSpec takes in a request for a volume and gives it its volume context.
func volumeSpec(r *csi.CreateVolumeRequest) (spec catalog.VolumeSpec, encrypted bool, volumeContext map[string]string, err error) {
	if err := checkText("name", r.GetName(), maxString); err != nil {
		return spec, false, nil, err
	}
	uses, err := capabilities(r.GetVolumeCapabilities())
	if err != nil {
		return spec, false, nil, err
	}
	if err := mutable(r.GetMutableParameters()); err != nil {
		return spec, false, nil, err
	}
	parameters, err := class.Parse(r.GetParameters())
	if err != nil {
		return spec, false, nil, err
	}
	spec = catalog.VolumeSpec{Name: r.GetName(), Parameters: r.GetParameters(), Mutable: r.GetMutableParameters()}
	if spec.Required, spec.Limit, err = capacity(r.GetCapacityRange()); err != nil {
		return spec, false, nil, err
	}
	for _, use := range uses {
		if !use.block {
			spec.Required = max(spec.Required, use.minSize(parameters))
		}
	}
	if spec.Limit > 0 && spec.Limit < spec.Required {
		return spec, false, nil, outOfRange("capacity_range.limit_bytes", "the file system needs %d bytes", spec.Required)
	}
	if spec.Source, err = contentSource(r.GetVolumeContentSource()); err != nil {
		return spec, false, nil, err
	}
	if spec.Source == nil && !slices.ContainsFunc(uses, func(use access) bool { return !use.readOnly }) {
		return spec, false, nil, invalid("volume_capabilities", "allow only to read, and without a volume_content_source there is nothing to be read")
	}
	return spec, parameters.Encrypted, map[string]string{contextFSType: parameters.FSType}, err
}

func contentSource(s *csi.VolumeContentSource) (*authority.Origin, error) {
	const field = "volume_content_source"
	switch {
	case s == nil:
		return nil, nil
	case s.GetSnapshot() != nil:
		id, err := snapshotID(field+".snapshot.snapshot_id", s.GetSnapshot().GetSnapshotId())
		return &authority.Origin{Snapshot: id}, err
	case s.GetVolume() != nil:
		id, err := volumeID(field+".volume.volume_id", s.GetVolume().GetVolumeId())
		return &authority.Origin{Volume: id}, err
	}
	return nil, invalid(field, "names neither a snapshot nor a volume")
}

// DeleteVolume succeeds for volumes that are not there.
func (c *Controller) DeleteVolume(ctx context.Context, r *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	id, err := volumeID("volume_id", r.GetVolumeId())
	if err == nil {
		err = c.config.Catalog.DeleteVolume(ctx, id)
	}
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return nil, err
	}
	return &csi.DeleteVolumeResponse{}, nil
}

// ValidateVolumeCapabilities confirms what CreateVolume would accept.
func (c *Controller) ValidateVolumeCapabilities(ctx context.Context, r *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	id, err := volumeID("volume_id", r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	if len(r.GetVolumeCapabilities()) == 0 {
		return nil, invalid("volume_capabilities", "at least one is required")
	}
	if _, err := c.config.Catalog.GetVolume(ctx, id); err != nil {
		return nil, err
	}
	if _, err := capabilities(r.GetVolumeCapabilities()); err != nil {
		return &csi.ValidateVolumeCapabilitiesResponse{Message: err.Error()}, nil
	}
	if _, err := class.Parse(r.GetParameters()); err != nil {
		return &csi.ValidateVolumeCapabilitiesResponse{Message: err.Error()}, nil
	}
	if err := mutable(r.GetMutableParameters()); err != nil {
		return &csi.ValidateVolumeCapabilitiesResponse{Message: err.Error()}, nil
	}
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{
		VolumeContext:      r.GetVolumeContext(),
		VolumeCapabilities: r.GetVolumeCapabilities(),
		Parameters:         r.GetParameters(),
		MutableParameters:  r.GetMutableParameters(),
	}}, nil
}

// ControllerModifyVolume changes parameters of a volume, in use or not.
func (c *Controller) ControllerModifyVolume(ctx context.Context, r *csi.ControllerModifyVolumeRequest) (*csi.ControllerModifyVolumeResponse, error) {
	id, err := volumeID("volume_id", r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	if len(r.GetMutableParameters()) == 0 {
		return nil, invalid("mutable_parameters", "at least one is required")
	}
	if err := mutable(r.GetMutableParameters()); err != nil {
		return nil, err
	}
	if _, err := c.config.Catalog.Modify(ctx, id, r.GetMutableParameters()); err != nil {
		return nil, err
	}
	return &csi.ControllerModifyVolumeResponse{}, nil
}

// mutable takes in the parameters of a VolumeAttributesClass.
func mutable(parameters map[string]string) error {
	if err := class.CheckMutable(parameters); err != nil {
		return invalid("mutable_parameters", "%v", err)
	}
	return nil
}

// ControllerExpandVolume grows the volume's record. If it is attached, its node
// grows it next: NodeExpandVolume; else it is grown when it is staged.
func (c *Controller) ControllerExpandVolume(ctx context.Context, r *csi.ControllerExpandVolumeRequest) (*csi.ControllerExpandVolumeResponse, error) {
	id, err := volumeID("volume_id", r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	required, limit, err := capacity(r.GetCapacityRange())
	if err != nil {
		return nil, err
	}
	if required == 0 && limit == 0 {
		return nil, invalid("capacity_range", "is required")
	}
	v, err := c.config.Catalog.Expand(ctx, id, required, limit)
	if err != nil {
		return nil, err
	}
	return &csi.ControllerExpandVolumeResponse{CapacityBytes: v.Size, NodeExpansionRequired: true}, nil
}

// volume returns the volume that a request is about.
func (c *Controller) volume(ctx context.Context, field string) (authority.Volume, error) {
	id, err := volumeID("volume_id", field)
	if err != nil {
		return authority.Volume{}, err
	}
	return c.config.Catalog.GetVolume(ctx, id)
}

// ControllerGetVolume returns one volume and the node it is published to.
func (c *Controller) ControllerGetVolume(ctx context.Context, r *csi.ControllerGetVolumeRequest) (*csi.ControllerGetVolumeResponse, error) {
	v, err := c.volume(ctx, r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	return &csi.ControllerGetVolumeResponse{
		Volume: describe(v),
		Status: &csi.ControllerGetVolumeResponse_VolumeStatus{PublishedNodeIds: nodes(v)},
	}, nil
}

// ListVolumes returns a page of the volumes, in the order of their ids.
func (c *Controller) ListVolumes(ctx context.Context, r *csi.ListVolumesRequest) (*csi.ListVolumesResponse, error) {
	from, limit, err := page(r)
	if err != nil {
		return nil, err
	}
	volumes, next, err := c.config.Catalog.ListVolumes(ctx, from, limit)
	if err != nil {
		return nil, err
	}
	answer := &csi.ListVolumesResponse{NextToken: string(next)}
	for _, v := range volumes {
		answer.Entries = append(answer.Entries, &csi.ListVolumesResponse_Entry{
			Volume: describe(v),
			Status: &csi.ListVolumesResponse_VolumeStatus{PublishedNodeIds: nodes(v)},
		})
	}
	return answer, nil
}

// describe is a volume as listings show it.
func describe(v authority.Volume) *csi.Volume {
	described := &csi.Volume{VolumeId: string(v.ID), CapacityBytes: v.Size}
	if v.Origin == nil {
		return described
	}
	if id := v.Origin.Snapshot; id != "" {
		described.ContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
			Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: string(id)},
		}}
	} else {
		described.ContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
			Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: string(v.Origin.Volume)},
		}}
	}
	return described
}

func nodes(v authority.Volume) []string {
	var all []string
	if v.Binding != nil {
		all = append(all, v.Binding.Node)
	}
	for _, r := range v.Readers {
		all = append(all, r.Node)
	}
	return all
}

// maxPage bounds the entries of one answer, whatever the caller asks for.
const maxPage = 1000

// page takes in where a listing goes on, and how long its page may be.
func page(r interface {
	GetStartingToken() string
	GetMaxEntries() int32
},
) (from authority.Place, limit int, err error) {
	if r.GetMaxEntries() < 0 {
		return "", 0, invalid("max_entries", "is negative")
	}
	limit = maxPage
	if n := int(r.GetMaxEntries()); n > 0 && n < limit {
		limit = n
	}
	return authority.Place(r.GetStartingToken()), limit, nil
}

// ControllerGetCapabilities lists what is implemented.
func (c *Controller) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	answer := &csi.ControllerGetCapabilitiesResponse{}
	for _, t := range []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_PUBLISH_UNPUBLISH_VOLUME,
		csi.ControllerServiceCapability_RPC_LIST_VOLUMES,
		csi.ControllerServiceCapability_RPC_LIST_VOLUMES_PUBLISHED_NODES,
		csi.ControllerServiceCapability_RPC_GET_CAPACITY,
		csi.ControllerServiceCapability_RPC_GET_VOLUME,
		csi.ControllerServiceCapability_RPC_GET_VOLUME_HEALTH,
		csi.ControllerServiceCapability_RPC_LIST_VOLUME_HEALTH,
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT,
		csi.ControllerServiceCapability_RPC_LIST_SNAPSHOTS,
		csi.ControllerServiceCapability_RPC_GET_SNAPSHOT,
		csi.ControllerServiceCapability_RPC_CLONE_VOLUME,
		csi.ControllerServiceCapability_RPC_EXPAND_VOLUME,
		csi.ControllerServiceCapability_RPC_MODIFY_VOLUME,
		csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	} {
		answer.Capabilities = append(answer.Capabilities, &csi.ControllerServiceCapability{
			Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: t}},
		})
	}
	return answer, nil
}
