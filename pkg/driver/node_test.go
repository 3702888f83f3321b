package driver_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/swiftblock/csi-swiftblock/pkg/driver"
	"github.com/swiftblock/csi-swiftblock/pkg/driver/drivertest"
	"github.com/swiftblock/csi-swiftblock/pkg/host"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

var errTest = errors.New("as the test wants it")

// did checks what the machine was made to do since the last time.
func (r *rig) did(what string, want ...string) {
	r.t.Helper()
	if have := r.machine.Calls(); !slices.Equal(have, want) {
		r.t.Errorf("%s did %q, want %q", what, have, want)
	}
}

func (r *rig) must(what string, err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatalf("%s: %v", what, err)
	}
}

func TestLifeOfAVolumeOnANode(t *testing.T) {
	r := newRig(t)
	id := r.published("one")

	r.must("stage", r.stage(id, mounted("")))
	r.did("the first stage", "login", "rescan", "mkfs", "fsck", "mount", "grow")
	r.must("stage again", r.stage(id, mounted("")))
	r.did("a repeated stage", "grow")

	r.must("publish", r.mount(id, "pod", mounted(""), false))
	r.must("publish again", r.mount(id, "pod", mounted(""), false))
	r.did("publish, twice", "bind")
	expect(t, "publish there in another way", r.mount(id, "pod", mounted(""), true), codes.AlreadyExists, "pod")

	expect(t, "unstage while a pod has it", r.unstage(id), codes.FailedPrecondition, "pod")
	if r.exports.Attached() != 1 || len(r.machine.Sessions()) != 1 {
		t.Error("unstage took away what a pod uses")
	}
	r.machine.Calls()

	r.must("unpublish", r.unmount(id, "pod"))
	r.must("unpublish again", r.unmount(id, "pod"))
	r.did("unpublish, twice", "umount")
	if _, err := os.Stat(r.path("pod")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the target path is still there: %v", err)
	}
	r.must("unstage", r.unstage(id))
	r.did("unstage", "logout")
	r.must("unstage again", r.unstage(id))
	r.did("a repeated unstage")
	if r.exports.Attached() != 0 {
		t.Error("the volume is still attached")
	}

	// The second life: what is there is not formatted again.
	r.must("stage", r.stage(id, mounted("")))
	r.did("the second stage", "login", "rescan", "fsck", "mount", "grow")
}

// An interrupted mkfs is undone and started again; never what came after it.
func TestInterruptedFormat(t *testing.T) {
	r := newRig(t)
	id := r.published("one")
	r.machine.Fail("mkfs", errTest)
	if err := r.stage(id, mounted("")); err == nil {
		t.Fatal("staged without a file system")
	}
	if mark := r.exports.Formatted(id); mark != wire.Formatted_FORMATTED_BEGUN {
		t.Errorf("mark %v, want begun: mkfs has written", mark)
	}
	r.machine.Fail("mkfs", nil)
	r.machine.Calls()
	r.must("stage", r.stage(id, mounted("")))
	r.did("stage after an interrupted mkfs", "login", "rescan", "wipe", "mkfs", "fsck", "mount", "grow")
	if mark := r.exports.Formatted(id); mark != wire.Formatted_FORMATTED_DONE {
		t.Errorf("mark %v", mark)
	}
}

// After a failure that kubelet takes for final nobody unstages the volume.
func TestFailedStageLeavesNoSession(t *testing.T) {
	r := newRig(t)
	id := r.published("one")
	for _, step := range []string{"mkfs", "fsck", "mount"} {
		r.machine.Fail(step, errTest)
		if err := r.stage(id, mounted("")); status.Code(err) != codes.Internal {
			t.Fatalf("%s: %v", step, err)
		}
		if _, err := r.machine.Device(ident.Volume(id)); !errors.Is(err, host.ErrNotLoggedIn) {
			t.Errorf("%s failed, and the session is left: %v", step, err)
		}
		r.machine.Fail(step, nil)
	}
	r.machine.Fail("fsck", context.DeadlineExceeded)
	if err := r.stage(id, mounted("")); status.Code(err) != codes.DeadlineExceeded {
		t.Fatal(err)
	}
	if _, err := r.machine.Device(ident.Volume(id)); err != nil {
		t.Errorf("kubelet unstages what may be under way: %v", err)
	}
	r.machine.Fail("fsck", nil)
	r.must("stage", r.stage(id, mounted("")))
	r.machine.Fail("grow", errTest)
	if err := r.stage(id, mounted("")); status.Code(err) != codes.Internal {
		t.Fatal(err)
	}
	if _, err := r.machine.Device(ident.Volume(id)); err != nil {
		t.Errorf("a mounted volume was logged out: %v", err)
	}
}

// slowMkfs is file systems that are made as long as a test wants.
type slowMkfs struct {
	*drivertest.Host
	begun, made chan struct{}
}

func (s slowMkfs) Make(ctx context.Context, device string, t host.FSType) error {
	s.begun <- struct{}{}
	select {
	case <-s.made:
		return s.Host.Make(ctx, device, t)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A mkfs that takes longer than its caller waits comes to its end, and to its mark. Until
// then the session stays: what is still to be done to the device's path must not meet
// another volume there.
func TestFormatOutlivesItsCaller(t *testing.T) {
	r := newRig(t)
	slow := slowMkfs{r.machine, make(chan struct{}), make(chan struct{})}
	node := csi.NewNodeClient(r.serve("slow", driver.NewNode(driver.NodeConfig{
		ID: nodeName, Exports: r.exports, Initiator: r.machine, Filesystems: slow, Mounts: r.machine, Usage: r.machine,
	}).Register))
	id := r.published("pvc")
	stage := func(ctx context.Context) error {
		_, err := node.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: id, StagingTargetPath: r.path("staging"), VolumeCapability: mounted("")})
		return err
	}
	caller, giveUp := context.WithCancel(t.Context())
	go func() { <-slow.begun; giveUp() }()
	if err := stage(caller); status.Code(err) != codes.Canceled {
		t.Fatalf("stage: %v", err)
	}
	const reason = "file system is still being made"
	err := stage(t.Context())
	for ; status.Code(err) == codes.Aborted && !strings.Contains(err.Error(), reason); err = stage(t.Context()) {
		time.Sleep(time.Millisecond) // the call that was given up is not over yet
	}
	expect(t, "stage again", err, codes.Aborted, reason)
	_, err = node.NodeUnstageVolume(t.Context(), &csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: r.path("staging")})
	expect(t, "unstage", err, codes.Aborted, reason)
	close(slow.made)
	for err = stage(t.Context()); status.Code(err) == codes.Aborted; err = stage(t.Context()) {
		time.Sleep(time.Millisecond)
	}
	r.must("stage", err)
	if calls := r.machine.Calls(); slices.Contains(calls, "wipe") || slices.Contains(calls, "logout") {
		t.Errorf("it was undone: %v", calls)
	}
}

// A file system that a pod still has mounted is not checked: fsck would repair under its feet.
func TestNoCheckOfAFilesystemInUse(t *testing.T) {
	r := newRig(t)
	id := r.published("pvc")
	r.must("stage", r.stage(id, mounted("")))
	r.must("mount", r.mount(id, "pod", mounted(""), false))
	r.must("take the staging path away", r.machine.Unmount(t.Context(), r.path("staging-"+id)))
	r.machine.Calls()
	r.must("stage again", r.stage(id, mounted("")))
	if calls := r.machine.Calls(); slices.Contains(calls, "fsck") || r.machine.Mounted() != 2 {
		t.Errorf("%d mounts, and done was %v", r.machine.Mounted(), calls)
	}
}

// mkfs is only finished when it is on stable storage.
func TestFormatNeedsAFlush(t *testing.T) {
	r := newRig(t)
	id := r.published("one")
	r.machine.Fail("flush", errTest)
	if err := r.stage(id, mounted("")); err == nil {
		t.Fatal("staged a file system that is not flushed")
	}
	if mark := r.exports.Formatted(id); mark != wire.Formatted_FORMATTED_BEGUN {
		t.Errorf("mark %v, want begun", mark)
	}
	if r.machine.Mounted() != 0 {
		t.Error("mounted a file system that is not flushed")
	}
}

// What cannot be flushed is not let go of, unless the volume has gone on without
// this node: then it never can be.
func TestUnstageOfWhatCannotBeFlushed(t *testing.T) {
	for name, c := range map[string]struct {
		conditions []*wire.Condition
		detached   bool
		ends       bool
	}{
		"in trouble":  {conditions: []*wire.Condition{{Severity: wire.Severity_SEVERITY_INACCESSIBLE, Reason: "JournalStopped"}}},
		"fenced":      {conditions: []*wire.Condition{{Reason: wire.ReasonFenced}}, ends: true},
		"handed over": {detached: true, ends: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			id := r.published("one")
			r.must("stage", r.stage(id, mounted("")))
			r.machine.Fail("flush", errTest)
			r.exports.Trouble(c.conditions...)
			if c.detached {
				_, err := r.exports.Detach(t.Context(), &wire.DetachRequest{Volume: id})
				r.must("detach", err)
			}
			if err := r.unstage(id); (err == nil) != c.ends {
				t.Errorf("unstage: %v", err)
			}
		})
	}
}

// A device that cannot be read, or holds something else, is never formatted.
func TestMarkDecidesNotTheDevice(t *testing.T) {
	r := newRig(t)
	id := r.published("one")
	r.must("stage as raw block", r.stage(id, block()))
	if mark := r.exports.Formatted(id); mark != wire.Formatted_FORMATTED_DONE {
		t.Errorf("mark %v, want done: the content is the user's", mark)
	}
	r.must("unstage", r.unstage(id))
	r.machine.Calls()
	expect(t, "stage as a file system", r.stage(id, mounted("")), codes.FailedPrecondition, "no file system")
	r.did("staging raw content as a file system", "login", "rescan", "logout")

	r.machine.Put(ident.Volume(id), host.XFS)
	expect(t, "stage as ext4", r.stage(id, mounted("ext4")), codes.FailedPrecondition, "xfs")
	r.must("stage as what it is", r.stage(id, mounted("")))
}

func TestClassChoosesTheFilesystem(t *testing.T) {
	r := newRig(t)
	q := createRequest("one")
	q.Parameters = map[string]string{"fsType": "xfs"}
	answer, err := r.controller.CreateVolume(t.Context(), q)
	r.must("create", err)
	v := answer.GetVolume()
	r.publish(v.GetVolumeId())
	_, err = r.node.NodeStageVolume(t.Context(), &csi.NodeStageVolumeRequest{
		VolumeId: v.GetVolumeId(), StagingTargetPath: r.path("staging"), VolumeCapability: mounted(""), VolumeContext: v.GetVolumeContext(),
	})
	r.must("stage", err)
	device, err := r.machine.Device(ident.Volume(v.GetVolumeId()))
	r.must("device", err)
	if have, err := r.machine.Type(t.Context(), device.Path); have != host.XFS || err != nil {
		t.Errorf("formatted as %q, %v", have, err)
	}
}

// After a crash of the machine, staging again mounts what was there.
func TestStageAfterACrash(t *testing.T) {
	r := newRig(t)
	id := r.published("one")
	r.must("stage", r.stage(id, mounted("")))
	r.machine.Crash()
	r.machine.Calls()
	r.must("stage", r.stage(id, mounted("")))
	r.did("stage after a crash", "login", "rescan", "fsck", "mount", "grow")
}

// A journal that was lost takes the device with it; what was mounted from it is
// replaced (R7).
func TestStageInANewEpoch(t *testing.T) {
	r := newRig(t)
	id := r.published("one")
	r.must("stage", r.stage(id, mounted("")))
	old := r.machine.Sessions()[0].IQN
	r.exports.Lose()
	r.machine.Calls()
	r.must("stage", r.stage(id, mounted("")))
	r.did("stage in a new epoch", "login", "rescan", "umount", "fsck", "mount", "grow")
	if sessions := r.machine.Sessions(); len(sessions) != 1 || sessions[0].IQN == old {
		t.Errorf("sessions %+v", sessions)
	}
	if n := r.machine.Mounted(); n != 1 {
		t.Errorf("%d mounts", n)
	}
}

// Each step of staging fails once; the next call finishes the work.
func TestStageContinues(t *testing.T) {
	for _, step := range []string{"login", "rescan", "mkfs", "flush", "fsck", "mount", "grow"} {
		r := newRig(t)
		id := r.published("one")
		r.machine.Fail(step, errTest)
		if err := r.stage(id, mounted("")); status.Code(err) != codes.Internal {
			t.Errorf("%s fails: %v", step, err)
		}
		r.machine.Fail(step, nil)
		if err := r.stage(id, mounted("")); err != nil {
			t.Errorf("after %s failed: %v", step, err)
		}
		if n := r.machine.Mounted(); n != 1 {
			t.Errorf("after %s failed: %d mounts", step, n)
		}
	}
}

// An unmount that began before this process did is waited for: logging out would
// lose what it has not written yet.
func TestUnstageWaitsForTheFilesystem(t *testing.T) {
	r := newRig(t)
	id := r.published("one")
	r.must("stage", r.stage(id, mounted("")))
	r.machine.Fail("idle", host.ErrInUse)
	expect(t, "unstage", r.unstage(id), codes.FailedPrecondition, "in use")
	if len(r.machine.Sessions()) != 1 || r.exports.Attached() != 1 {
		t.Error("the device was taken away from its file system")
	}
	r.machine.Fail("idle", nil)
	r.must("unstage", r.unstage(id))
}

// Success of unstaging means that everything is in Swift (R6).
func TestUnstageFailsWhileTheJournalIsFull(t *testing.T) {
	r := newRig(t)
	id := r.published("one")
	r.must("stage", r.stage(id, mounted("")))
	r.exports.Fail(status.Error(codes.Unavailable, "Swift is away"))
	expect(t, "unstage", r.unstage(id), codes.Unavailable, "Swift is away")
	expect(t, "stage", r.stage(id, mounted("")), codes.Unavailable, "Swift is away")
	r.exports.Fail(nil)
	r.must("unstage", r.unstage(id))
	if r.exports.Attached() != 0 {
		t.Error("still attached")
	}
}

func TestAccessModes(t *testing.T) {
	r := newRig(t)
	id := r.published("one")
	single := mode(mounted(""), csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER)
	r.must("stage", r.stage(id, single))
	r.must("publish", r.mount(id, "pod-1", single, false))
	expect(t, "publish to a second pod", r.mount(id, "pod-2", single, false), codes.FailedPrecondition, "one pod")
	r.must("publish again", r.mount(id, "pod-1", single, false))
	multi := mode(mounted(""), csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER)
	r.must("publish to a second pod that may", r.mount(id, "pod-2", multi, false))
}

// Who only reads a volume never formats it, mounts it read-only, and has no epoch.
func TestReadOnly(t *testing.T) {
	r := newRig(t)
	id := r.published("one")
	r.must("stage", r.stage(id, mounted("")))
	r.must("unstage", r.unstage(id))
	unpublish := &csi.ControllerUnpublishVolumeRequest{VolumeId: id, NodeId: nodeName}
	_, err := r.controller.ControllerUnpublishVolume(t.Context(), unpublish)
	r.must("unpublish", err)
	r.machine.Calls()

	q := publishRequest(id)
	q.Readonly = true
	answer, err := r.controller.ControllerPublishVolume(t.Context(), q)
	r.must("publish", err)
	stage := &csi.NodeStageVolumeRequest{
		VolumeId: id, StagingTargetPath: r.path("staging-" + id), VolumeCapability: mounted(""), PublishContext: answer.GetPublishContext(),
	}
	_, err = r.node.NodeStageVolume(t.Context(), stage)
	r.must("stage", err)
	r.did("stage read-only", "login", "rescan", "fsck", "mount")
	device, err := r.machine.Device(ident.Volume(id))
	r.must("device", err)
	if mounts, err := r.machine.Of(device.Path); err != nil || len(mounts) != 1 || !mounts[0].ReadOnly {
		t.Errorf("mounts %+v, %v", mounts, err)
	}
	q.Readonly = false
	_, err = r.controller.ControllerPublishVolume(t.Context(), q)
	expect(t, "publish for writing", err, codes.AlreadyExists, "")
	stage.PublishContext = nil
	_, err = r.node.NodeStageVolume(t.Context(), stage)
	expect(t, "stage for writing", err, codes.FailedPrecondition, "not published")
}

func TestReadOnlyBlock(t *testing.T) {
	r := newRig(t)
	id := r.create("one")
	reader := mode(block(), csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY)
	q := publishRequest(id)
	q.VolumeCapability = reader
	_, err := r.controller.ControllerPublishVolume(t.Context(), q)
	r.must("publish", err)
	r.must("stage", r.stage(id, reader))
	r.did("stage read-only", "login", "rescan", "setro")
	r.must("publish", r.mount(id, "disk", reader, true))
	mountedReader := mode(mounted(""), csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY)
	expect(t, "a file system that was never made", r.stage(id, mountedReader), codes.FailedPrecondition, "never been formatted")

	// One pod reads, beside one that writes.
	id = r.published("two")
	r.must("stage", r.stage(id, block()))
	r.must("publish for reading", r.mount(id, "read", block(), true))
	r.must("publish for reading again", r.mount(id, "read", block(), true))
	r.must("publish for writing", r.mount(id, "write", block(), false))
	expect(t, "publish for writing in the reader's place", r.mount(id, "read", block(), false), codes.AlreadyExists, "")
}

func TestStats(t *testing.T) {
	r := newRig(t)
	id := r.published("one")
	r.must("stage", r.stage(id, mounted("")))
	r.must("publish", r.mount(id, "pod", mounted(""), false))
	answer, err := r.node.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: id, VolumePath: r.path("pod")})
	r.must("stats", err)
	if u := answer.GetUsage(); len(u) != 2 || u[0].GetUnit() != csi.VolumeUsage_BYTES || u[0].GetUsed() == 0 || u[1].GetUnit() != csi.VolumeUsage_INODES {
		t.Errorf("usage %v", u)
	}

	raw := r.published("two")
	r.must("stage", r.stage(raw, block()))
	r.must("publish", r.mount(raw, "disk", block(), false))
	answer, err = r.node.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: raw, VolumePath: r.path("disk")})
	r.must("stats", err)
	if u := answer.GetUsage(); len(u) != 1 || u[0].GetTotal() != gib {
		t.Errorf("usage of a raw block volume %v", u)
	}
}

func TestHealth(t *testing.T) {
	r := newRig(t)
	id := r.published("one")
	ask := func() ([]*csi.VolumeHealth_VolumeHealthEntry, error) {
		answer, err := r.node.NodeGetVolumeHealth(t.Context(), &csi.NodeGetVolumeHealthRequest{VolumeId: id})
		return answer.GetVolumeHealth().GetHealthStatuses(), err
	}
	is := func(what, reason string) {
		t.Helper()
		if found, err := ask(); err != nil || len(found) != 1 || found[0].GetReason() != reason || found[0].GetMessage() == "" {
			t.Errorf("%s: %v, %v; want %s", what, found, err, reason)
		}
	}
	_, err := ask()
	expect(t, "a volume that is not attached", err, codes.NotFound, "")
	r.must("stage", r.stage(id, mounted("")))
	if found, err := ask(); err != nil || len(found) != 0 {
		t.Errorf("a healthy volume: %v, %v", found, err)
	}
	r.exports.Trouble(&wire.Condition{Severity: wire.Severity_SEVERITY_DEGRADED, Reason: "SwiftUnreachable", Message: "Swift is away"})
	is("trouble", "SwiftUnreachable")
	r.exports.Fail(status.Error(codes.Unavailable, "nobody there"))
	is("no export process", "ExportNotReachable")
	r.exports.Fail(nil)
	r.exports.Trouble()
	r.machine.Crash()
	is("no session", "NotLoggedIn")
}

func TestExpand(t *testing.T) {
	for name, c := range map[string]struct {
		capability *csi.VolumeCapability
		did        []string
	}{"mounted": {mounted(""), []string{"rescan", "grow"}}, "block": {block(), []string{"rescan"}}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			id := r.published("one")
			r.must("stage", r.stage(id, c.capability))
			r.must("publish", r.mount(id, "pod", c.capability, false))
			r.machine.Calls()
			grown, err := r.controller.ControllerExpandVolume(t.Context(), &csi.ControllerExpandVolumeRequest{
				VolumeId: id, CapacityRange: &csi.CapacityRange{RequiredBytes: 2*gib + 1},
			})
			r.must("expand the volume", err)
			if !grown.GetNodeExpansionRequired() || grown.GetCapacityBytes() < 2*gib+1 {
				t.Errorf("answer %v", grown)
			}
			answer, err := r.node.NodeExpandVolume(t.Context(), &csi.NodeExpandVolumeRequest{
				VolumeId: id, VolumePath: r.path("pod"), CapacityRange: &csi.CapacityRange{RequiredBytes: grown.GetCapacityBytes()},
			})
			r.must("expand on the node", err)
			if answer.GetCapacityBytes() != grown.GetCapacityBytes() {
				t.Errorf("node has %d bytes, the volume %d", answer.GetCapacityBytes(), grown.GetCapacityBytes())
			}
			r.did("expand", c.did...)
		})
	}
}

// A volume that grew while nobody had it is grown when it is staged.
func TestExpandOffline(t *testing.T) {
	r := newRig(t)
	id := r.published("one")
	r.must("stage", r.stage(id, mounted("")))
	r.must("unstage", r.unstage(id))
	_, err := r.controller.ControllerExpandVolume(t.Context(), &csi.ControllerExpandVolumeRequest{
		VolumeId: id, CapacityRange: &csi.CapacityRange{RequiredBytes: 3 * gib},
	})
	r.must("expand", err)
	r.must("stage", r.stage(id, mounted("")))
	if device, err := r.machine.Device(ident.Volume(id)); err != nil || device.Size != 3*gib {
		t.Errorf("device %+v, %v", device, err)
	}
}

func TestStageNeedsPublication(t *testing.T) {
	r := newRig(t)
	expect(t, "stage", r.stage(r.create("one"), mounted("")), codes.FailedPrecondition, "not published")
	if len(r.machine.Sessions()) != 0 {
		t.Error("logged in to a volume that is not ours")
	}
}
