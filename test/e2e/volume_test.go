package e2e

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
)

// volume is one volume's life on a machine, through the CSI sockets.
type volume struct {
	*machine
	id, fsType string
	reader     bool              // one of any number of nodes that only read it
	secrets    map[string]string // that its class names for publishing and staging
}

func (v volume) capability() *csi.VolumeCapability {
	mode := csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
	if v.reader {
		mode = csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY
	}
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: v.fsType}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode},
	}
}

// spec is what a volume is made of; the zero value is an empty ext4 of 1 GiB.
type spec struct {
	fsType     string
	size       int64
	parameters map[string]string
	secrets    map[string]string // that its class names for provisioning
	snapshot   string            // restored: its id
	source     string            // cloned: its id
}

// make makes a volume.
func (m *machine) make(name string, s spec) volume {
	m.t.Helper()
	v := volume{machine: m, fsType: cmp.Or(s.fsType, "ext4")}
	m.kubelet("create", func(ctx context.Context) (err error) {
		v.id, err = v.create(ctx, name, s)
		return err
	})
	return v
}

func (v volume) create(ctx context.Context, name string, s spec) (id string, err error) {
	q := &csi.CreateVolumeRequest{
		Name: name, CapacityRange: &csi.CapacityRange{RequiredBytes: cmp.Or(s.size, 1<<30)}, Secrets: s.secrets,
		VolumeCapabilities: []*csi.VolumeCapability{v.capability()}, Parameters: map[string]string{"journalSize": "512Mi"},
	}
	maps.Copy(q.Parameters, s.parameters)
	switch {
	case s.snapshot != "":
		q.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
			Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: s.snapshot},
		}}
	case s.source != "":
		q.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
			Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: s.source},
		}}
	}
	answer, err := v.controller.CreateVolume(ctx, q)
	return answer.GetVolume().GetVolumeId(), err
}

// use makes a volume and mounts it.
func (m *machine) use(name string, s spec) volume {
	m.t.Helper()
	v := m.make(name, s)
	v.mount()
	return v
}

// on is the same volume on another machine.
func (v volume) on(m *machine) volume {
	v.machine = m
	return v
}

// mount brings the volume to a pod of the machine, unmount takes it away in good
// order.
func (v volume) mount() {
	v.t.Helper()
	v.bind()
	v.kubelet("stage", v.stage)
	v.kubelet("publish", v.publish)
}

func (v volume) unmount() {
	v.t.Helper()
	v.kubelet("unpublish", v.unpublish)
	v.kubelet("unstage", v.unstage)
	v.kubelet("unbind", v.unbind)
}

// bind is ControllerPublishVolume, unbind its opposite.
func (v volume) bind() {
	v.t.Helper()
	v.kubelet("bind", v.tryBind)
}

func (v volume) tryBind(ctx context.Context) error {
	_, err := v.controller.ControllerPublishVolume(ctx, &csi.ControllerPublishVolumeRequest{
		VolumeId: v.id, NodeId: v.name, VolumeCapability: v.capability(), Secrets: v.secrets,
	})
	return err
}

func (v volume) unbind(ctx context.Context) error {
	_, err := v.controller.ControllerUnpublishVolume(ctx, &csi.ControllerUnpublishVolumeRequest{VolumeId: v.id, NodeId: v.name})
	return err
}

// remove deletes the volume, which is not mounted.
func (v volume) remove() {
	v.t.Helper()
	v.kubelet("unbind", v.unbind)
	v.kubelet("delete", func(ctx context.Context) error {
		_, err := v.controller.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: v.id})
		return err
	})
}

// snapshot cuts the volume and returns the snapshot's id.
func (v volume) snapshot(name string) (id string) {
	v.t.Helper()
	v.kubelet("snapshot", func(ctx context.Context) error {
		answer, err := v.controller.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{SourceVolumeId: v.id, Name: name})
		id = answer.GetSnapshot().GetSnapshotId()
		return err
	})
	return id
}

func (m *machine) removeSnapshot(id string) {
	m.t.Helper()
	m.kubelet("delete snapshot", func(ctx context.Context) error {
		_, err := m.controller.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: id})
		return err
	})
}

// expand grows the volume and its file system under whoever uses it.
func (v volume) expand(size int64) {
	v.t.Helper()
	capacity := &csi.CapacityRange{RequiredBytes: size}
	v.kubelet("expand", func(ctx context.Context) error {
		_, err := v.controller.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{VolumeId: v.id, CapacityRange: capacity})
		return err
	})
	v.kubelet("expand on the node", func(ctx context.Context) error {
		_, err := v.node.NodeExpandVolume(ctx, &csi.NodeExpandVolumeRequest{VolumeId: v.id, VolumePath: v.pod(), CapacityRange: capacity})
		return err
	})
}

func (v volume) staging() string { return v.path("staging-" + v.id) }
func (v volume) pod() string     { return v.path("pod-" + v.id) }

func (v volume) stage(ctx context.Context) error {
	_, err := v.node.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{
		VolumeId: v.id, StagingTargetPath: v.staging(), VolumeCapability: v.capability(), Secrets: v.secrets,
	})
	return err
}

func (v volume) unstage(ctx context.Context) error {
	_, err := v.node.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: v.id, StagingTargetPath: v.staging()})
	return err
}

func (v volume) publish(ctx context.Context) error {
	_, err := v.node.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
		VolumeId: v.id, StagingTargetPath: v.staging(), TargetPath: v.pod(), VolumeCapability: v.capability(),
	})
	return err
}

func (v volume) unpublish(ctx context.Context) error {
	_, err := v.node.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: v.id, TargetPath: v.pod()})
	return err
}

// stats is NodeGetVolumeStats.
func (v volume) stats(ctx context.Context) error {
	_, err := v.node.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{VolumeId: v.id, VolumePath: v.pod()})
	return err
}

// fileSize is the size of the files that write writes.
const fileSize = 4 << 20

// write puts a file made of its name into the volume, and onto stable storage if
// sync is set; else it is in the kernel's memory until the volume is unmounted.
func (v volume) write(name string, sync bool) error { return v.writeAt(v.pod(), name, sync) }

func (v volume) writeAt(directory, name string, sync bool) error {
	flag := ""
	if sync {
		flag = "conv=fsync"
	}
	// yes dies of SIGPIPE, as it should.
	_, err := v.try("set +o pipefail; yes %s | head -c %d | dd of=%s/%s bs=1M iflag=fullblock status=none %s", name, fileSize, directory, name, flag)
	return err
}

// expect reads files back, past the page cache.
func (v volume) expect(names ...string) {
	v.t.Helper()
	v.run("echo 3 >/proc/sys/vm/drop_caches")
	for _, name := range names {
		want := sha256.Sum256([]byte(strings.Repeat(name+"\n", fileSize/len(name))[:fileSize]))
		if have, err := v.try("sha256sum <%s/%s", v.pod(), name); err != nil || !strings.HasPrefix(have, hex.EncodeToString(want[:])) {
			v.t.Errorf("%s on %s: %s, want %x, %v", name, v.machine.name, have, want, err)
		}
	}
}

// names are prefix-0 to prefix-(n-1).
func names(prefix string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("%s-%d", prefix, i)
	}
	return list
}

// healthy checks what the kernel knows of a mounted volume: its file system has
// met no error and can be written to.
func (v volume) healthy() {
	v.t.Helper()
	if v.fsType == "ext4" {
		if n := v.run("cat /sys/fs/ext4/$(basename $(findmnt -fno SOURCE %s))/errors_count", v.staging()); n != "0" {
			v.t.Errorf("ext4 counts %s errors", n)
		}
	}
	if flags := v.run("findmnt -fno OPTIONS %s", v.staging()); !strings.HasPrefix(flags, "rw") {
		v.t.Errorf("mounted %s", flags)
	}
}

// must ends the test with an error.
func (m *machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// checked unmounts the volume, has its file system checked, and takes it from the
// machine.
func (v volume) checked() {
	v.t.Helper()
	v.kubelet("unpublish", v.unpublish)
	check := "e2fsck -fn"
	if v.fsType == "xfs" {
		check = "xfs_repair -n"
	}
	v.run("device=$(findmnt -fno SOURCE %[1]s); umount %[1]s; %[2]s $device", v.staging(), check)
	v.kubelet("unstage", v.unstage)
	v.kubelet("unbind", v.unbind)
}
