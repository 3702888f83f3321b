package driver_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
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
	node, err := r.node.NodeGetInfo(t.Context(), &csi.NodeGetInfoRequest{})
	if err != nil || node.GetNodeId() != nodeName || node.GetMaxVolumesPerNode() != 7 {
		t.Errorf("node %v, %v", node, err)
	}
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
	expect(t, "unpublish", unpublish(), codes.Aborted, nodeName)
	r.cluster.giveUp() // and nobody answers at the export's endpoint
	r.must("unpublish from a node that was given up", unpublish())
	elsewhere := publishRequest(id)
	elsewhere.NodeId = "node-2"
	_, err := r.controller.ControllerPublishVolume(t.Context(), elsewhere)
	r.must("publish elsewhere", err)
	expect(t, "stage on the node that was given up", r.stage(id, mounted("")), codes.FailedPrecondition, "")
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
