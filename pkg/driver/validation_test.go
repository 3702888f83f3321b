package driver_test

import (
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// spoilt is one way to make a valid request invalid.
type spoilt[R proto.Message] struct {
	name  string
	spoil func(R)
	code  codes.Code
	field string // which the message must name
}

// refuse calls with each spoilt request; a call with the valid one must succeed.
func refuse[R proto.Message, A any](t *testing.T, valid R, call func(R) (A, error), cases []spoilt[R]) {
	t.Helper()
	for _, c := range cases {
		request := proto.Clone(valid).(R)
		c.spoil(request)
		_, err := call(request)
		expect(t, c.name, err, c.code, c.field)
	}
	if _, err := call(proto.Clone(valid).(R)); err != nil {
		t.Errorf("the valid request: %v", err)
	}
}

// badIDs are the ways in which an id can be wrong.
func badIDs[R proto.Message](field string, set func(R, string)) []spoilt[R] {
	return []spoilt[R]{
		{field + " absent", func(r R) { set(r, "") }, codes.InvalidArgument, field},
		{field + " oversized", func(r R) { set(r, strings.Repeat("0", 129)) }, codes.InvalidArgument, field},
		{field + " with a newline", func(r R) { set(r, "a\nb") }, codes.InvalidArgument, field},
		{field + " malformed", func(r R) { set(r, "../../etc/passwd") }, codes.NotFound, "hexadecimal"},
		{field + " unknown", func(r R) { set(r, unknownVolume()) }, codes.NotFound, ""},
	}
}

// badPaths are the ways in which a path can be wrong.
func badPaths[R proto.Message](field string, set func(R, string)) []spoilt[R] {
	return []spoilt[R]{
		{field + " absent", func(r R) { set(r, "") }, codes.InvalidArgument, field},
		{field + " relative", func(r R) { set(r, "some/path") }, codes.InvalidArgument, field},
		{field + " is the root", func(r R) { set(r, "/..") }, codes.InvalidArgument, field},
		{field + " oversized", func(r R) { set(r, "/"+strings.Repeat("a", 4096)) }, codes.InvalidArgument, field},
		{field + " with a newline", func(r R) { set(r, "/a\nb") }, codes.InvalidArgument, field},
	}
}

// badCapabilities are the ways in which a volume capability can be wrong.
func badCapabilities[R proto.Message](set func(R, *csi.VolumeCapability)) []spoilt[R] {
	bad := func(name string, c *csi.VolumeCapability, field string) spoilt[R] {
		return spoilt[R]{name, func(r R) { set(r, c) }, codes.InvalidArgument, field}
	}
	noMode, noType := mounted(""), mounted("")
	noMode.AccessMode, noType.AccessType = nil, nil
	group := mounted("")
	group.GetMount().VolumeMountGroup = "1000"
	return []spoilt[R]{
		bad("no access type", noType, "access_type"),
		bad("no access mode", noMode, "access_mode"),
		bad("many nodes", mode(mounted(""), csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER), "access_mode"),
		bad("many nodes and one writer", mode(mounted(""), csi.VolumeCapability_AccessMode_MULTI_NODE_SINGLE_WRITER), "access_mode"),
		bad("unknown access mode", mode(mounted(""), 99), "access_mode"),
		bad("raw block on many nodes", mode(block(), csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER), "access_mode"),
		bad("unknown file system", mounted("btrfs"), "fs_type"),
		bad("file system as an option", mounted("-o"), "fs_type"),
		bad("mount flag with a comma", mounted("", "noatime,bind"), "mount_flags"),
		bad("mount flag that binds", mounted("", "bind"), "mount_flags"),
		bad("mount group", group, "volume_mount_group"),
	}
}

func TestCreateVolumeValidation(t *testing.T) {
	r := newRig(t)
	type request = *csi.CreateVolumeRequest
	from := func(source *csi.VolumeContentSource) func(request) {
		return func(q request) { q.VolumeContentSource = source }
	}
	snapshot := func(id string) *csi.VolumeContentSource {
		return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: id}}}
	}
	volume := func(id string) *csi.VolumeContentSource {
		return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: id}}}
	}
	capacity := func(required, limit int64) func(request) {
		return func(q request) { q.CapacityRange = &csi.CapacityRange{RequiredBytes: required, LimitBytes: limit} }
	}
	cases := []spoilt[request]{
		{"no name", func(q request) { q.Name = "" }, codes.InvalidArgument, "name"},
		{"oversized name", func(q request) { q.Name = strings.Repeat("n", 129) }, codes.InvalidArgument, "name"},
		{"name with a control character", func(q request) { q.Name = "a\x00b" }, codes.InvalidArgument, "name"},
		{"no capabilities", func(q request) { q.VolumeCapabilities = nil }, codes.InvalidArgument, "volume_capabilities"},
		{"a capability that is nil", func(q request) { q.VolumeCapabilities = append(q.VolumeCapabilities, nil) }, codes.InvalidArgument, "volume_capability"},
		{"unknown parameter", func(q request) { q.Parameters = map[string]string{"color": "blue"} }, codes.InvalidArgument, "known are rpo"},
		{"parameter out of range", func(q request) { q.Parameters = map[string]string{"rpo": "-1s"} }, codes.InvalidArgument, "rpo"},
		{"mutable parameters", func(q request) { q.MutableParameters = map[string]string{"rpo": "soon"} }, codes.InvalidArgument, "mutable_parameters"},
		{"a parameter that is not mutable", func(q request) { q.MutableParameters = map[string]string{"fsType": "xfs"} }, codes.InvalidArgument, "fsType"},
		{"only to be read, and empty", func(q request) { q.VolumeCapabilities = []*csi.VolumeCapability{readers(mounted(""))} }, codes.InvalidArgument, "volume_content_source"},
		{"negative size", capacity(-1, 0), codes.InvalidArgument, "required_bytes"},
		{"negative limit", capacity(0, -1), codes.InvalidArgument, "limit_bytes"},
		{"limit below size", capacity(2, 1), codes.InvalidArgument, "capacity_range"},
		{"size beyond everything", capacity(1<<62, 0), codes.OutOfRange, ""},
		{"too small for the file system", func(q request) {
			capacity(0, 100<<20)(q)
			q.VolumeCapabilities = []*csi.VolumeCapability{mounted("xfs")}
		}, codes.OutOfRange, "limit_bytes"},
		{"empty source", from(&csi.VolumeContentSource{}), codes.InvalidArgument, "volume_content_source"},
		{"source snapshot without id", from(snapshot("")), codes.InvalidArgument, "snapshot_id"},
		{"source snapshot malformed", from(snapshot("x")), codes.NotFound, ""},
		{"source snapshot unknown", from(snapshot(string(ident.NewSnapshot()))), codes.NotFound, ""},
		{"source volume without id", from(volume("")), codes.InvalidArgument, "volume_id"},
		{"source volume unknown", from(volume(unknownVolume())), codes.NotFound, ""},
	}
	cases = append(cases, badCapabilities(func(q request, c *csi.VolumeCapability) { q.VolumeCapabilities = []*csi.VolumeCapability{c} })...)
	refuse(t, createRequest("one"), func(q request) (*csi.CreateVolumeResponse, error) {
		return r.controller.CreateVolume(t.Context(), q)
	}, cases)
}

func TestControllerValidation(t *testing.T) {
	r := newRig(t)
	id := r.create("one")

	type publish = *csi.ControllerPublishVolumeRequest
	cases := badIDs("volume_id", func(q publish, id string) { q.VolumeId = id })
	cases = append(cases, badCapabilities(func(q publish, c *csi.VolumeCapability) { q.VolumeCapability = c })...)
	cases = append(cases,
		spoilt[publish]{"no capability", func(q publish) { q.VolumeCapability = nil }, codes.InvalidArgument, "volume_capability"},
		spoilt[publish]{"no node", func(q publish) { q.NodeId = "" }, codes.InvalidArgument, "node_id"},
		spoilt[publish]{"oversized node", func(q publish) { q.NodeId = strings.Repeat("n", 200) }, codes.InvalidArgument, "node_id"},
		spoilt[publish]{"unknown node", func(q publish) { q.NodeId = "elsewhere" }, codes.NotFound, "elsewhere"},
	)
	refuse(t, publishRequest(id), func(q publish) (*csi.ControllerPublishVolumeResponse, error) {
		return r.controller.ControllerPublishVolume(t.Context(), q)
	}, cases)

	type expand = *csi.ControllerExpandVolumeRequest
	refuse(t, &csi.ControllerExpandVolumeRequest{VolumeId: id, CapacityRange: &csi.CapacityRange{RequiredBytes: 2 * gib}},
		func(q expand) (*csi.ControllerExpandVolumeResponse, error) {
			return r.controller.ControllerExpandVolume(t.Context(), q)
		},
		append(badIDs("volume_id", func(q expand, id string) { q.VolumeId = id }),
			spoilt[expand]{"no range", func(q expand) { q.CapacityRange = nil }, codes.InvalidArgument, "capacity_range"},
			spoilt[expand]{"negative", func(q expand) { q.CapacityRange.RequiredBytes = -1 }, codes.InvalidArgument, "required_bytes"},
			spoilt[expand]{"limit below what there is", func(q expand) { q.CapacityRange = &csi.CapacityRange{LimitBytes: gib / 2} }, codes.OutOfRange, ""},
		))

	type validate = *csi.ValidateVolumeCapabilitiesRequest
	refuse(t, &csi.ValidateVolumeCapabilitiesRequest{VolumeId: id, VolumeCapabilities: []*csi.VolumeCapability{block()}},
		func(q validate) (*csi.ValidateVolumeCapabilitiesResponse, error) {
			return r.controller.ValidateVolumeCapabilities(t.Context(), q)
		},
		append(badIDs("volume_id", func(q validate, id string) { q.VolumeId = id }),
			spoilt[validate]{"no capabilities", func(q validate) { q.VolumeCapabilities = nil }, codes.InvalidArgument, "volume_capabilities"},
		))

	type get = *csi.ControllerGetVolumeRequest
	refuse(t, &csi.ControllerGetVolumeRequest{VolumeId: id}, func(q get) (*csi.ControllerGetVolumeResponse, error) {
		return r.controller.ControllerGetVolume(t.Context(), q)
	}, badIDs("volume_id", func(q get, id string) { q.VolumeId = id }))

	type health = *csi.ControllerGetVolumeHealthRequest
	refuse(t, &csi.ControllerGetVolumeHealthRequest{VolumeId: id}, func(q health) (*csi.ControllerGetVolumeHealthResponse, error) {
		return r.controller.ControllerGetVolumeHealth(t.Context(), q)
	}, badIDs("volume_id", func(q health, id string) { q.VolumeId = id }))

	type modify = *csi.ControllerModifyVolumeRequest
	mutable := func(name, value string) func(modify) {
		return func(q modify) { q.MutableParameters = map[string]string{"rpo": "5s", name: value} }
	}
	refuse(t, &csi.ControllerModifyVolumeRequest{VolumeId: id, MutableParameters: map[string]string{"rpo": "5s"}},
		func(q modify) (*csi.ControllerModifyVolumeResponse, error) {
			return r.controller.ControllerModifyVolume(t.Context(), q)
		},
		append(badIDs("volume_id", func(q modify, id string) { q.VolumeId = id }),
			spoilt[modify]{"nothing to modify", func(q modify) { q.MutableParameters = nil }, codes.InvalidArgument, "mutable_parameters"},
			spoilt[modify]{"unknown", mutable("color", "blue"), codes.InvalidArgument, "color"},
			spoilt[modify]{"fixed", mutable("journalSize", "20Gi"), codes.InvalidArgument, "journalSize"},
			spoilt[modify]{"out of range", mutable("iops", "-1"), codes.InvalidArgument, "iops"},
			spoilt[modify]{"oversized", mutable("bandwidth", strings.Repeat("9", 4096)), codes.InvalidArgument, "bandwidth"},
		))

	type capacity = *csi.GetCapacityRequest
	capacities := badCapabilities(func(q capacity, c *csi.VolumeCapability) { q.VolumeCapabilities = []*csi.VolumeCapability{c} })
	refuse(t, &csi.GetCapacityRequest{}, func(q capacity) (*csi.GetCapacityResponse, error) {
		return r.controller.GetCapacity(t.Context(), q)
	}, append(capacities,
		spoilt[capacity]{"unknown parameter", func(q capacity) { q.Parameters = map[string]string{"color": "blue"} }, codes.InvalidArgument, "color"},
		spoilt[capacity]{"topology", func(q capacity) { q.AccessibleTopology = &csi.Topology{} }, codes.InvalidArgument, "accessible_topology"},
	))

	type healths = *csi.ControllerListVolumeHealthRequest
	refuse(t, &csi.ControllerListVolumeHealthRequest{}, func(q healths) (*csi.ControllerListVolumeHealthResponse, error) {
		return r.controller.ControllerListVolumeHealth(t.Context(), q)
	}, []spoilt[healths]{
		{"negative", func(q healths) { q.MaxEntries = -1 }, codes.InvalidArgument, "max_entries"},
		{"unknown token", func(q healths) { q.StartingToken = "x" }, codes.Aborted, "token"},
	})

	type list = *csi.ListVolumesRequest
	refuse(t, &csi.ListVolumesRequest{}, func(q list) (*csi.ListVolumesResponse, error) {
		return r.controller.ListVolumes(t.Context(), q)
	}, []spoilt[list]{
		{"negative", func(q list) { q.MaxEntries = -1 }, codes.InvalidArgument, "max_entries"},
		{"unknown token", func(q list) { q.StartingToken = "x" }, codes.Aborted, "token"},
	})
}

func TestSnapshotValidation(t *testing.T) {
	r := newRig(t)
	id := r.create("one")
	type create = *csi.CreateSnapshotRequest
	refuse(t, &csi.CreateSnapshotRequest{Name: "snapshot", SourceVolumeId: id},
		func(q create) (*csi.CreateSnapshotResponse, error) {
			return r.controller.CreateSnapshot(t.Context(), q)
		},
		append(badIDs("source_volume_id", func(q create, id string) { q.SourceVolumeId = id }),
			spoilt[create]{"no name", func(q create) { q.Name = "" }, codes.InvalidArgument, "name"},
			spoilt[create]{"oversized name", func(q create) { q.Name = strings.Repeat("n", 129) }, codes.InvalidArgument, "name"},
			spoilt[create]{"parameters", func(q create) { q.Parameters = map[string]string{"color": "blue"} }, codes.InvalidArgument, "color"},
		))

	made, err := r.controller.CreateSnapshot(t.Context(), &csi.CreateSnapshotRequest{Name: "another", SourceVolumeId: id})
	if err != nil {
		t.Fatal(err)
	}
	type get = *csi.GetSnapshotRequest
	refuse(t, &csi.GetSnapshotRequest{SnapshotId: made.GetSnapshot().GetSnapshotId()},
		func(q get) (*csi.GetSnapshotResponse, error) { return r.controller.GetSnapshot(t.Context(), q) },
		badIDs("snapshot_id", func(q get, id string) { q.SnapshotId = id }))

	type list = *csi.ListSnapshotsRequest
	refuse(t, &csi.ListSnapshotsRequest{}, func(q list) (*csi.ListSnapshotsResponse, error) {
		return r.controller.ListSnapshots(t.Context(), q)
	}, []spoilt[list]{
		{"negative", func(q list) { q.MaxEntries = -1 }, codes.InvalidArgument, "max_entries"},
		{"unknown token", func(q list) { q.StartingToken = "x" }, codes.Aborted, "token"},
		{"oversized id", func(q list) { q.SnapshotId = strings.Repeat("0", 129) }, codes.InvalidArgument, "snapshot_id"},
		{"oversized source", func(q list) { q.SourceVolumeId = strings.Repeat("0", 129) }, codes.InvalidArgument, "source_volume_id"},
	})
	for _, unknown := range []*csi.ListSnapshotsRequest{{SnapshotId: "x"}, {SourceVolumeId: "x"}, {SnapshotId: string(ident.NewSnapshot())}} {
		if answer, err := r.controller.ListSnapshots(t.Context(), unknown); err != nil || len(answer.GetEntries()) > 0 {
			t.Errorf("%v: %v, %v; want an empty list", unknown, answer, err)
		}
	}
}

// Deletions of what is not there succeed, whatever the id looks like.
func TestDeletingNothing(t *testing.T) {
	r := newRig(t)
	for _, id := range []string{"x", unknownVolume()} {
		if _, err := r.controller.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id}); err != nil {
			t.Error(err)
		}
		if _, err := r.controller.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{SnapshotId: id}); err != nil {
			t.Error(err)
		}
		if _, err := r.controller.ControllerUnpublishVolume(t.Context(), &csi.ControllerUnpublishVolumeRequest{VolumeId: id, NodeId: nodeName}); err != nil {
			t.Error(err)
		}
	}
	for _, id := range []string{"", strings.Repeat("0", 129), "a\nb"} {
		_, err := r.controller.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id})
		expect(t, "DeleteVolume", err, codes.InvalidArgument, "volume_id")
		_, err = r.controller.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{SnapshotId: id})
		expect(t, "DeleteSnapshot", err, codes.InvalidArgument, "snapshot_id")
		_, err = r.controller.ControllerUnpublishVolume(t.Context(), &csi.ControllerUnpublishVolumeRequest{VolumeId: id, NodeId: nodeName})
		expect(t, "ControllerUnpublishVolume", err, codes.InvalidArgument, "volume_id")
	}
	_, err := r.controller.ControllerUnpublishVolume(t.Context(), &csi.ControllerUnpublishVolumeRequest{VolumeId: unknownVolume(), NodeId: strings.Repeat("n", 200)})
	expect(t, "ControllerUnpublishVolume", err, codes.InvalidArgument, "node_id")
}

func TestNodeValidation(t *testing.T) {
	r := newRig(t)
	id := r.published("one")

	type stage = *csi.NodeStageVolumeRequest
	valid := &csi.NodeStageVolumeRequest{VolumeId: id, StagingTargetPath: r.path("staging-" + id), VolumeCapability: mounted("")}
	cases := badIDs("volume_id", func(q stage, id string) { q.VolumeId = id })
	cases = append(cases, badPaths("staging_target_path", func(q stage, p string) { q.StagingTargetPath = p })...)
	cases = append(cases, badCapabilities(func(q stage, c *csi.VolumeCapability) { q.VolumeCapability = c })...)
	cases = append(cases,
		spoilt[stage]{"no capability", func(q stage) { q.VolumeCapability = nil }, codes.InvalidArgument, "volume_capability"},
		spoilt[stage]{"class's file system", func(q stage) { q.VolumeContext = map[string]string{"fsType": "ntfs"} }, codes.InvalidArgument, "fsType"},
	)
	refuse(t, valid, func(q stage) (*csi.NodeStageVolumeResponse, error) { return r.node.NodeStageVolume(t.Context(), q) }, cases)

	type publish = *csi.NodePublishVolumeRequest
	at := &csi.NodePublishVolumeRequest{VolumeId: id, StagingTargetPath: valid.StagingTargetPath, TargetPath: r.path("pod"), VolumeCapability: mounted("")}
	refusals := append(badPaths("target_path", func(q publish, p string) { q.TargetPath = p }),
		badPaths("staging_target_path", func(q publish, p string) { q.StagingTargetPath = p })...)
	refusals = append(refusals, badCapabilities(func(q publish, c *csi.VolumeCapability) { q.VolumeCapability = c })...)
	refusals = append(refusals,
		spoilt[publish]{"no id", func(q publish) { q.VolumeId = "" }, codes.InvalidArgument, "volume_id"},
		spoilt[publish]{"oversized id", func(q publish) { q.VolumeId = strings.Repeat("0", 129) }, codes.InvalidArgument, "volume_id"},
		spoilt[publish]{"not staged", func(q publish) { q.VolumeId = unknownVolume() }, codes.FailedPrecondition, "staged"},
		spoilt[publish]{"staged elsewhere", func(q publish) { q.StagingTargetPath = r.path("else") }, codes.FailedPrecondition, "staged"},
		spoilt[publish]{"no capability", func(q publish) { q.VolumeCapability = nil }, codes.InvalidArgument, "volume_capability"},
	)
	refuse(t, at, func(q publish) (*csi.NodePublishVolumeResponse, error) {
		return r.node.NodePublishVolume(t.Context(), q)
	}, refusals)

	type stats = *csi.NodeGetVolumeStatsRequest
	refuse(t, &csi.NodeGetVolumeStatsRequest{VolumeId: id, VolumePath: at.TargetPath},
		func(q stats) (*csi.NodeGetVolumeStatsResponse, error) {
			return r.node.NodeGetVolumeStats(t.Context(), q)
		},
		append(badIDs("volume_id", func(q stats, id string) { q.VolumeId = id }),
			spoilt[stats]{"no path", func(q stats) { q.VolumePath = "" }, codes.InvalidArgument, "volume_path"},
			spoilt[stats]{"another path", func(q stats) { q.VolumePath = "/proc" }, codes.NotFound, "not mounted"},
		))

	type health = *csi.NodeGetVolumeHealthRequest
	refuse(t, &csi.NodeGetVolumeHealthRequest{VolumeId: id},
		func(q health) (*csi.NodeGetVolumeHealthResponse, error) {
			return r.node.NodeGetVolumeHealth(t.Context(), q)
		},
		badIDs("volume_id", func(q health, id string) { q.VolumeId = id }))

	type expand = *csi.NodeExpandVolumeRequest
	refuse(t, &csi.NodeExpandVolumeRequest{VolumeId: id, VolumePath: at.TargetPath},
		func(q expand) (*csi.NodeExpandVolumeResponse, error) { return r.node.NodeExpandVolume(t.Context(), q) },
		append(badIDs("volume_id", func(q expand, id string) { q.VolumeId = id }),
			spoilt[expand]{"no path", func(q expand) { q.VolumePath = "" }, codes.InvalidArgument, "volume_path"},
			spoilt[expand]{"another path", func(q expand) { q.VolumePath = "/proc" }, codes.NotFound, "not mounted"},
			spoilt[expand]{"negative", func(q expand) { q.CapacityRange = &csi.CapacityRange{RequiredBytes: -1} }, codes.InvalidArgument, "required_bytes"},
			spoilt[expand]{"limit below what there is", func(q expand) { q.CapacityRange = &csi.CapacityRange{LimitBytes: 512} }, codes.OutOfRange, "limit_bytes"},
			spoilt[expand]{"capability", func(q expand) { q.VolumeCapability = mounted("ntfs") }, codes.InvalidArgument, "fs_type"},
		))

	type unpublish = *csi.NodeUnpublishVolumeRequest
	refuse(t, &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: at.TargetPath},
		func(q unpublish) (*csi.NodeUnpublishVolumeResponse, error) {
			return r.node.NodeUnpublishVolume(t.Context(), q)
		},
		append(badPaths("target_path", func(q unpublish, p string) { q.TargetPath = p }),
			spoilt[unpublish]{"no id", func(q unpublish) { q.VolumeId = "" }, codes.InvalidArgument, "volume_id"},
			spoilt[unpublish]{"oversized id", func(q unpublish) { q.VolumeId = strings.Repeat("0", 129) }, codes.InvalidArgument, "volume_id"}))

	type unstage = *csi.NodeUnstageVolumeRequest
	refuse(t, &csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: valid.StagingTargetPath},
		func(q unstage) (*csi.NodeUnstageVolumeResponse, error) {
			return r.node.NodeUnstageVolume(t.Context(), q)
		},
		append(badPaths("staging_target_path", func(q unstage, p string) { q.StagingTargetPath = p }),
			spoilt[unstage]{"no id", func(q unstage) { q.VolumeId = "" }, codes.InvalidArgument, "volume_id"},
			spoilt[unstage]{"oversized id", func(q unstage) { q.VolumeId = strings.Repeat("0", 129) }, codes.InvalidArgument, "volume_id"}))
}
