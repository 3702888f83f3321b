package driver_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

func TestIdentity(t *testing.T) {
	r := newRig(t)
	info, err := r.identity.GetPluginInfo(t.Context(), &csi.GetPluginInfoRequest{})
	if err != nil || info.GetName() != "csi.swiftblock.dev" || info.GetVendorVersion() != "1.2.3" {
		t.Errorf("info %v, %v", info, err)
	}
	probe, err := r.identity.Probe(t.Context(), &csi.ProbeRequest{})
	if err != nil || !probe.GetReady().GetValue() {
		t.Errorf("probe %v, %v", probe, err)
	}
}

// A node is ready while its export process answers, and serves when it does not.
func TestProbe(t *testing.T) {
	r := newRig(t)
	for _, trouble := range []error{nil, status.Error(codes.Unavailable, "nobody there"), nil} {
		r.exports.Fail(trouble)
		probe, err := csi.NewIdentityClient(r.nodeConn).Probe(t.Context(), &csi.ProbeRequest{})
		if err != nil || probe.GetReady().GetValue() != (trouble == nil) {
			t.Errorf("with export's answer %v: %v, %v", trouble, probe, err)
		}
	}
}

// A node has room for as many volumes as its disk has for journals.
func TestNodeInfo(t *testing.T) {
	r := newRig(t)
	for budget, want := range map[int64]int64{0: 0, 5 * gib: 1, 75 * gib: 7} {
		r.exports.SetBudget(budget)
		node, err := r.node.NodeGetInfo(t.Context(), &csi.NodeGetInfoRequest{})
		if err != nil || node.GetNodeId() != nodeName || node.GetMaxVolumesPerNode() != want {
			t.Errorf("with a budget of %d bytes: %v, %v; want %d volumes", budget, node, err, want)
		}
	}
	r.exports.Fail(status.Error(codes.Unavailable, "nobody there"))
	_, err := r.node.NodeGetInfo(t.Context(), &csi.NodeGetInfoRequest{})
	expect(t, "without an export process", err, codes.Unavailable, "")
}

// The capabilities are those of the issue. CSI 1.13 has no VOLUME_CONDITION any
// more; GET_VOLUME_HEALTH and LIST_VOLUME_HEALTH took its place.
func TestCapabilities(t *testing.T) {
	r := newRig(t)
	controller, err := r.controller.ControllerGetCapabilities(t.Context(), &csi.ControllerGetCapabilitiesRequest{})
	r.must("controller", err)
	var have []string
	for _, c := range controller.GetCapabilities() {
		have = append(have, c.GetRpc().GetType().String())
	}
	want := []string{
		"CREATE_DELETE_VOLUME", "PUBLISH_UNPUBLISH_VOLUME", "LIST_VOLUMES", "LIST_VOLUMES_PUBLISHED_NODES", "GET_CAPACITY",
		"CREATE_DELETE_SNAPSHOT", "LIST_SNAPSHOTS", "GET_SNAPSHOT", "CLONE_VOLUME", "EXPAND_VOLUME", "GET_VOLUME",
		"GET_VOLUME_HEALTH", "LIST_VOLUME_HEALTH", "SINGLE_NODE_MULTI_WRITER", "MODIFY_VOLUME",
	}
	same(t, have, want)
	node, err := r.node.NodeGetCapabilities(t.Context(), &csi.NodeGetCapabilitiesRequest{})
	r.must("node", err)
	have = nil
	for _, c := range node.GetCapabilities() {
		have = append(have, c.GetRpc().GetType().String())
	}
	same(t, have, []string{"STAGE_UNSTAGE_VOLUME", "GET_VOLUME_STATS", "EXPAND_VOLUME", "GET_VOLUME_HEALTH", "SINGLE_NODE_MULTI_WRITER"})
}

func same(t *testing.T, have, want []string) {
	t.Helper()
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		t.Errorf("have %v\nwant %v", have, want)
	}
}

func TestCapacity(t *testing.T) {
	r := newRig(t)
	ask := func(q *csi.GetCapacityRequest) *csi.GetCapacityResponse {
		t.Helper()
		answer, err := r.controller.GetCapacity(t.Context(), q)
		r.must("capacity", err)
		return answer
	}
	const largest = 16 << 40
	for _, c := range []struct {
		account swift.Account
		free    int64
	}{
		{swift.Account{Used: 5 * gib}, largest}, // nobody says how much there is
		{swift.Account{Used: 3 * gib, Quota: 10 * gib}, 7 * gib},
		{swift.Account{Used: 11 * gib, Quota: 10 * gib}, 0},
	} {
		r.account.set(c.account, nil)
		answer := ask(&csi.GetCapacityRequest{})
		if answer.GetAvailableCapacity() != c.free || answer.GetMaximumVolumeSize().GetValue() != largest {
			t.Errorf("of %+v: %v", c.account, answer)
		}
	}
	xfs := ask(&csi.GetCapacityRequest{Parameters: map[string]string{"fsType": "xfs"}, VolumeCapabilities: []*csi.VolumeCapability{mounted("")}})
	if xfs.GetMinimumVolumeSize().GetValue() != 300<<20 {
		t.Errorf("xfs: %v", xfs)
	}
	r.account.set(swift.Account{}, swift.ErrUnavailable)
	_, err := r.controller.GetCapacity(t.Context(), &csi.GetCapacityRequest{})
	expect(t, "without Swift", err, codes.Unavailable, "")
}

func TestModifyVolume(t *testing.T) {
	r := newRig(t)
	q := createRequest("one")
	q.MutableParameters = map[string]string{"rpo": "30s"}
	created, err := r.controller.CreateVolume(t.Context(), q)
	r.must("create", err)
	id := created.GetVolume().GetVolumeId()
	modify := func(parameters map[string]string) error {
		_, err := r.controller.ControllerModifyVolume(t.Context(), &csi.ControllerModifyVolumeRequest{VolumeId: id, MutableParameters: parameters})
		return err
	}
	for range 2 {
		r.must("modify", modify(map[string]string{"iops": "100"}))
	}
	v, err := r.catalog.GetVolume(t.Context(), ident.Volume(id))
	r.must("get", err)
	if have, want := catalog.Parameters(v), map[string]string{"rpo": "30s", "iops": "100"}; !maps.Equal(have, want) {
		t.Errorf("parameters %v, want %v", have, want)
	}
	expect(t, "half of it is impossible", modify(map[string]string{"iops": "200", "fsType": "xfs"}), codes.InvalidArgument, "fsType")
	again, err := r.catalog.GetVolume(t.Context(), ident.Volume(id))
	r.must("get", err)
	if !maps.Equal(again.Mutable, v.Mutable) {
		t.Errorf("a refused call has changed %v to %v", v.Mutable, again.Mutable)
	}
	_, err = r.controller.CreateVolume(t.Context(), q)
	expect(t, "create as it was before", err, codes.AlreadyExists, "parameters")
}

// What is wrong with a volume is told by its record, its node, and the silence of
// that; healthy volumes are not listed.
func TestVolumeHealth(t *testing.T) {
	r := newRig(t)
	id := r.published("one")
	r.create("healthy")
	ask := func() []string {
		t.Helper()
		answer, err := r.controller.ControllerGetVolumeHealth(t.Context(), &csi.ControllerGetVolumeHealthRequest{VolumeId: id})
		r.must("health", err)
		listed, err := r.controller.ControllerListVolumeHealth(t.Context(), &csi.ControllerListVolumeHealthRequest{})
		r.must("list", err)
		var found []string
		for _, h := range answer.GetVolumeHealth().GetHealthStatuses() {
			found = append(found, h.GetStatus().String()+" "+h.GetReason())
		}
		switch entries := listed.GetEntries(); {
		case len(found) == 0 && len(entries) == 0:
		case len(entries) != 1 || entries[0].GetVolumeId() != id || len(entries[0].GetHealthStatuses()) != len(found):
			t.Errorf("the list has %v, the volume %v", entries, found)
		}
		return found
	}
	same(t, ask(), nil)
	r.must("stage", r.stage(id, mounted("")))
	same(t, ask(), nil)
	r.exports.Trouble(
		&wire.Condition{Severity: wire.Severity_SEVERITY_DEGRADED, Reason: "UploadOverdue", Message: "it is late"},
		&wire.Condition{Severity: wire.Severity_SEVERITY_DATA_LOSS, Reason: "DataDamaged", Message: "it is bad"},
	)
	same(t, ask(), []string{"DEGRADED UploadOverdue", "DATA_LOSS DataDamaged"})
	r.exports.Fail(catalog.ErrUnreachable)
	same(t, ask(), []string{"DEGRADED NodeNotReachable"})
	r.cluster.giveUp()
	_, err := r.controller.ControllerUnpublishVolume(t.Context(), &csi.ControllerUnpublishVolumeRequest{VolumeId: id, NodeId: nodeName})
	r.must("unpublish", err)
	same(t, ask(), []string{"DATA_LOSS RolledBack"})
}

// Many nodes read what none writes.
func TestManyReaders(t *testing.T) {
	r := newRig(t)
	id := r.published("one")
	publish := func(node string, c *csi.VolumeCapability) error {
		q := publishRequest(id)
		q.NodeId, q.VolumeCapability = node, c
		_, err := r.controller.ControllerPublishVolume(t.Context(), q)
		return err
	}
	expect(t, "a reader beside the writer", publish("node-2", readers(mounted(""))), codes.FailedPrecondition, "published to node")
	expect(t, "as a reader, too", publish(nodeName, readers(mounted(""))), codes.AlreadyExists, "")
	r.must("stage", r.stage(id, mounted("")))
	r.must("unstage", r.unstage(id))
	_, err := r.controller.ControllerUnpublishVolume(t.Context(), &csi.ControllerUnpublishVolumeRequest{VolumeId: id, NodeId: nodeName})
	r.must("unpublish", err)

	for _, node := range []string{nodeName, "node-2", "node-3", nodeName} {
		r.must("publish to "+node, publish(node, readers(mounted(""))))
	}
	expect(t, "a writer beside readers", publish("node-4", mounted("")), codes.FailedPrecondition, "published to node")
	got, err := r.controller.ControllerGetVolume(t.Context(), &csi.ControllerGetVolumeRequest{VolumeId: id})
	if err != nil || !slices.Equal(got.GetStatus().GetPublishedNodeIds(), []string{nodeName, "node-2", "node-3"}) {
		t.Errorf("published to %v, %v", got.GetStatus(), err)
	}
	_, err = r.controller.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id})
	expect(t, "delete", err, codes.FailedPrecondition, "published to node")

	r.machine.Calls()
	r.must("stage", r.stage(id, readers(mounted(""))))
	r.did("stage a reader", "login", "rescan", "fsck", "mount")
	r.must("publish", r.mount(id, "pod", readers(mounted("")), true))
	_, err = r.node.NodeExpandVolume(t.Context(), &csi.NodeExpandVolumeRequest{VolumeId: id, VolumePath: r.path("pod")})
	expect(t, "expand", err, codes.FailedPrecondition, "only read")
}

func TestVolumeCreation(t *testing.T) {
	r := newRig(t)
	first, err := r.controller.CreateVolume(t.Context(), createRequest("one"))
	r.must("create", err)
	again, err := r.controller.CreateVolume(t.Context(), createRequest("one"))
	r.must("create again", err)
	if again.GetVolume().GetVolumeId() != first.GetVolume().GetVolumeId() {
		t.Error("the same name got two volumes")
	}
	if v := first.GetVolume(); v.GetCapacityBytes() != gib || v.GetVolumeContext()["fsType"] != "ext4" {
		t.Errorf("volume %v", v)
	}
	larger := createRequest("one")
	larger.CapacityRange.RequiredBytes = 2 * gib
	_, err = r.controller.CreateVolume(t.Context(), larger)
	expect(t, "create with another size", err, codes.AlreadyExists, "one")

	small := createRequest("small")
	small.CapacityRange = &csi.CapacityRange{RequiredBytes: 1 << 20}
	small.VolumeCapabilities = []*csi.VolumeCapability{mounted("xfs")}
	answer, err := r.controller.CreateVolume(t.Context(), small)
	r.must("create", err)
	if have := answer.GetVolume().GetCapacityBytes(); have < 300<<20 {
		t.Errorf("an xfs volume of %d bytes: mkfs.xfs refuses that", have)
	}
}

func TestClonesAndSnapshots(t *testing.T) {
	r := newRig(t)
	id := r.create("one")
	snapshot, err := r.controller.CreateSnapshot(t.Context(), &csi.CreateSnapshotRequest{Name: "s", SourceVolumeId: id})
	r.must("snapshot", err)
	s := snapshot.GetSnapshot()
	if !s.GetReadyToUse() || s.GetSourceVolumeId() != id || s.GetCreationTime() == nil || s.GetSizeBytes() != gib {
		t.Errorf("snapshot %v", s)
	}
	other := r.create("two")
	_, err = r.controller.CreateSnapshot(t.Context(), &csi.CreateSnapshotRequest{Name: "s", SourceVolumeId: other})
	expect(t, "the same name for another volume", err, codes.AlreadyExists, "")

	for name, source := range map[string]*csi.VolumeContentSource{
		"restored": {Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: s.GetSnapshotId()}}},
		"cloned":   {Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: id}}},
	} {
		q := createRequest(name)
		q.VolumeContentSource = source
		answer, err := r.controller.CreateVolume(t.Context(), q)
		r.must(name, err)
		if answer.GetVolume().GetContentSource().String() != source.String() {
			t.Errorf("%s: source %v", name, answer.GetVolume().GetContentSource())
		}
		got, err := r.controller.ControllerGetVolume(t.Context(), &csi.ControllerGetVolumeRequest{VolumeId: answer.GetVolume().GetVolumeId()})
		if err != nil || got.GetVolume().GetContentSource().String() != source.String() {
			t.Errorf("%s: get %v, %v", name, got, err)
		}
	}
	found, err := r.controller.ListSnapshots(t.Context(), &csi.ListSnapshotsRequest{SnapshotId: s.GetSnapshotId(), SourceVolumeId: other})
	if err != nil || len(found.GetEntries()) != 0 {
		t.Errorf("the snapshot of another volume: %v, %v", found, err)
	}
	// Deletion in any order, and again.
	for range 2 {
		_, err = r.controller.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id})
		r.must("delete the source", err)
		_, err = r.controller.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{SnapshotId: s.GetSnapshotId()})
		r.must("delete the snapshot", err)
	}
	_, err = r.controller.GetSnapshot(t.Context(), &csi.GetSnapshotRequest{SnapshotId: s.GetSnapshotId()})
	expect(t, "get the deleted snapshot", err, codes.NotFound, "")
}

func TestPublication(t *testing.T) {
	r := newRig(t)
	id := r.published("one")
	r.publish(id)
	elsewhere := publishRequest(id)
	elsewhere.NodeId = "node-2"
	_, err := r.controller.ControllerPublishVolume(t.Context(), elsewhere)
	expect(t, "publish to a second node", err, codes.FailedPrecondition, nodeName)

	list, err := r.controller.ListVolumes(t.Context(), &csi.ListVolumesRequest{})
	if err != nil || len(list.GetEntries()) != 1 || !slices.Equal(list.GetEntries()[0].GetStatus().GetPublishedNodeIds(), []string{nodeName}) {
		t.Errorf("list %v, %v", list, err)
	}
	_, err = r.controller.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id})
	expect(t, "delete a published volume", err, codes.FailedPrecondition, "")
	for range 2 {
		_, err = r.controller.ControllerUnpublishVolume(t.Context(), &csi.ControllerUnpublishVolumeRequest{VolumeId: id, NodeId: nodeName})
		r.must("unpublish", err)
	}
	_, err = r.controller.ControllerPublishVolume(t.Context(), elsewhere)
	r.must("publish to the other node", err)
}

// What a node has not closed stays bound to it, until it is given up (R6).
func TestUnpublishOfAnOpenVolume(t *testing.T) {
	r := newRig(t)
	id := r.published("one")
	r.must("stage", r.stage(id, mounted("")))
	unpublish := func() error {
		_, err := r.controller.ControllerUnpublishVolume(t.Context(), &csi.ControllerUnpublishVolumeRequest{VolumeId: id, NodeId: nodeName})
		return err
	}
	expect(t, "unpublish", unpublish(), codes.Unavailable, "does not answer") // at the export's endpoint
	r.cluster.giveUp()
	r.must("unpublish from a node that was given up", unpublish())
	elsewhere := publishRequest(id)
	elsewhere.NodeId = "node-2"
	_, err := r.controller.ControllerPublishVolume(t.Context(), elsewhere)
	r.must("publish elsewhere", err)
	expect(t, "stage on the node that was given up", r.stage(id, mounted("")), codes.DataLoss, "")
}

func TestPages(t *testing.T) {
	r := newRig(t)
	want := map[string]bool{}
	for i := range 5 {
		want[r.create(fmt.Sprint("volume-", i))] = true
	}
	token := ""
	for pages := 1; ; pages++ {
		answer, err := r.controller.ListVolumes(t.Context(), &csi.ListVolumesRequest{MaxEntries: 2, StartingToken: token})
		r.must("list", err)
		for _, entry := range answer.GetEntries() {
			if id := entry.GetVolume().GetVolumeId(); !want[id] {
				t.Errorf("%s is listed twice, or is not ours", id)
			} else {
				delete(want, id)
			}
		}
		if token = answer.GetNextToken(); token == "" {
			if pages != 3 {
				t.Errorf("%d pages", pages)
			}
			break
		}
	}
	if len(want) > 0 {
		t.Errorf("not listed: %v", want)
	}
}
