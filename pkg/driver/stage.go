package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/swiftblock/csi-swiftblock/pkg/host"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// NodeStageVolume brings a volume from its epoch to its mount point:
//
//	epoch confirmed, journal open, LUN exported   Exports.Attach
//	session of another epoch gone, logged in      Initiator.Login
//	formatted, once in the volume's life          format
//	checked, mounted, as large as the volume      mountStaged
//
// Each step finds what an earlier call has done.
func (n *Node) NodeStageVolume(ctx context.Context, r *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	s, err := staging(r)
	if err != nil {
		return nil, err
	}
	ring, secrets, err := keys.Split(r.GetSecrets())
	if err != nil {
		return nil, invalid("secrets", "%v", err)
	}
	if err := n.settled(s.volume); err != nil { // else the mark that Attach answers may be old when it is used
		return nil, err
	}
	export, err := n.config.Exports.Attach(ctx, &wire.AttachRequest{
		Volume: string(s.volume), Reader: s.use.readOnly, Secrets: secrets, ClassKeys: ring.Names(), // and not the keys
	})
	if err != nil {
		return nil, fmt.Errorf("attach: %w", err)
	}
	device, err := n.config.Initiator.Login(ctx, host.Session{
		Volume:     s.volume,
		Portal:     export.GetPortal(),
		IQN:        export.GetIqn(),
		LUN:        int(export.GetLun()),
		Serial:     export.GetSerial(),
		CHAPUser:   export.GetChapUser(),
		CHAPSecret: export.GetChapSecret(),
	})
	if err == nil {
		err = n.prepare(ctx, s, device.Path, export)
	}
	if err != nil && !uncertain(err) {
		// Nobody unstages it after that, and a session that is left behind is there until the
		// machine reboots. Where it cannot be ended something of the volume is in use.
		if left := n.logout(ctx, s.volume); left != nil {
			err = fmt.Errorf("%w; its session stays: %v", err, left)
		}
	}
	if err != nil {
		return nil, err
	}
	return &csi.NodeStageVolumeResponse{}, nil
}

// prepare makes what a pod can use of a device.
func (n *Node) prepare(ctx context.Context, s staged, device string, export *wire.Attachment) error {
	// A session that was there before may not know that the volume has grown.
	if err := n.config.Initiator.Rescan(ctx, s.volume, export.GetSize()); err != nil {
		return err
	}
	if err := n.formatted(ctx, s, device, export.GetFormatted()); err != nil {
		return err
	}
	switch {
	case !s.use.block:
		return n.mountStaged(ctx, s, device)
	case s.use.readOnly:
		return n.config.Filesystems.SetReadOnly(ctx, device)
	}
	return nil
}

// uncertain reports whether kubelet unstages a volume although NodeStageVolume failed with
// err. After any other error it takes for granted that nothing of the volume is staged.
func uncertain(err error) bool {
	switch codeOf(err) {
	case codes.Canceled, codes.DeadlineExceeded, codes.Unavailable, codes.ResourceExhausted, codes.Aborted:
		return true
	}
	return false
}

type staged struct {
	volume ident.Volume
	path   string
	use    access
	fsType host.FSType
}

func staging(r *csi.NodeStageVolumeRequest) (s staged, err error) {
	if err := checkText("volume_id", r.GetVolumeId(), maxString); err != nil {
		return s, err
	}
	if s.path, err = absolutePath("staging_target_path", r.GetStagingTargetPath()); err != nil {
		return s, err
	}
	if s.use, err = capability(r.GetVolumeCapability()); err != nil {
		return s, err
	}
	name := s.use.fsType
	if name == "" {
		name = r.GetVolumeContext()[contextFSType]
	}
	if s.fsType, err = host.ParseFSType(name); err != nil {
		return s, invalid("volume_context."+contextFSType, "%v", err)
	}
	s.use.readOnly = s.use.readOnly || r.GetPublishContext()[contextReadOnly] == "true"
	s.volume, err = volumeID("volume_id", r.GetVolumeId())
	return s, err
}

// formatted formats a volume and marks it, also when the caller has gone: a mkfs that takes
// longer than kubelet waits for an answer would be undone and started again for ever.
func (n *Node) formatted(ctx context.Context, s staged, device string, mark wire.Formatted) error {
	if !n.formats.take(string(s.volume)) {
		return errFormatting
	}
	done := make(chan error, 1)
	go func() {
		err := n.format(context.WithoutCancel(ctx), s, device, mark)
		n.formats.release(string(s.volume)) // before the answer: the next call may follow at once
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("the file system is being made: %w", ctx.Err())
	}
}

// settled refuses a call while the file system of its volume is being made for an earlier
// one. Were the session logged out meanwhile, the path of the device could be another
// volume's when the next tool gets it. Calls on a volume come one at a time ([locks]), so
// none begins after this.
func (n *Node) settled(v ident.Volume) error {
	if !n.formats.take(string(v)) {
		return errFormatting
	}
	n.formats.release(string(v))
	return nil
}

// format makes the file system of a volume that never had one. What decides is
// the volume's own mark, which is exactly as old as its data, never what the
// device looks like: a read error must not look like an empty device. A mkfs
// that was interrupted is undone and started again. What a raw block volume
// holds is its user's, and is never formatted later on either.
func (n *Node) format(ctx context.Context, s staged, device string, mark wire.Formatted) error {
	switch {
	case mark == wire.Formatted_FORMATTED_DONE, s.use.readOnly && s.use.block:
		return nil
	case s.use.readOnly:
		return errBlank
	}
	if mark == wire.Formatted_FORMATTED_BEGUN {
		if err := n.config.Filesystems.Wipe(ctx, device); err != nil {
			return err
		}
	}
	if !s.use.block {
		if err := n.mark(ctx, s.volume, wire.Formatted_FORMATTED_BEGUN); err != nil {
			return err
		}
		if err := n.config.Filesystems.Make(ctx, device, s.fsType); err != nil {
			return err
		}
	}
	if err := n.config.Filesystems.Flush(ctx, device); err != nil {
		return err
	}
	return n.mark(ctx, s.volume, wire.Formatted_FORMATTED_DONE)
}

func (n *Node) mark(ctx context.Context, v ident.Volume, mark wire.Formatted) error {
	_, err := n.config.Exports.SetFormatted(ctx, &wire.SetFormattedRequest{Volume: string(v), Formatted: mark})
	if err != nil {
		return fmt.Errorf("mark as %v: %w", mark, err)
	}
	return nil
}

// mountStaged mounts the volume's file system at the staging path.
func (n *Node) mountStaged(ctx context.Context, s staged, device string) error {
	mounts, err := n.config.Mounts.Of(device)
	if err != nil {
		return err
	}
	t, err := n.config.Filesystems.Type(ctx, device)
	if err != nil {
		return err
	}
	if s.use.fsType != "" && t != s.fsType {
		return fmt.Errorf("it holds %s, not %s: %w", t, s.fsType, host.ErrNoFilesystem)
	}
	if !mountedAt(mounts, n.config.Mounts.Point(s.path)) {
		// The device of another epoch, which Login has taken away, may still be
		// mounted here.
		if err := n.config.Mounts.Unmount(ctx, s.path); err != nil {
			return err
		}
		if len(mounts) == 0 { // a file system in use is not checked
			if err := n.config.Filesystems.Check(ctx, device, t); err != nil {
				return err
			}
		}
		if err := n.config.Mounts.MountDevice(ctx, device, s.path, t, s.use.flags, s.use.readOnly); err != nil {
			return err
		}
	}
	if s.use.readOnly {
		return nil
	}
	return n.config.Filesystems.Grow(ctx, device, s.path, t)
}

// NodeUnstageVolume undoes NodeStageVolume in the opposite order and returns
// when everything that was written is in Swift and the epoch is closed (R6).
func (n *Node) NodeUnstageVolume(ctx context.Context, r *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	path, err := absolutePath("staging_target_path", r.GetStagingTargetPath())
	if err != nil {
		return nil, err
	}
	v, err := volumeID("volume_id", r.GetVolumeId())
	if err == nil {
		err = n.settled(v)
	}
	if err != nil {
		return nil, err
	}
	if err := n.config.Mounts.Unmount(ctx, path); err != nil {
		return nil, err
	}
	if err := n.logout(ctx, v); err != nil {
		return nil, err
	}
	if _, err := n.config.Exports.Detach(ctx, &wire.DetachRequest{Volume: string(v)}); err != nil {
		return nil, fmt.Errorf("detach: %w", err)
	}
	return &csi.NodeUnstageVolumeResponse{}, nil
}

// logout takes the device away that nobody uses any more.
func (n *Node) logout(ctx context.Context, v ident.Volume) error {
	device, err := n.config.Initiator.Device(v)
	switch {
	case errors.Is(err, host.ErrNotLoggedIn):
		// Perhaps a session without a device, or a node record.
	case err != nil:
		return err
	default:
		mounts, err := n.config.Mounts.Of(device.Path)
		if err != nil {
			return err
		}
		if len(mounts) > 0 {
			return fmt.Errorf("at %s: %w", mounts[0].Point, errMounted)
		}
		if err := n.config.Mounts.Idle(device.Path); err != nil {
			return err
		}
		if err := n.config.Filesystems.Flush(ctx, device.Path); err != nil && !n.taken(ctx, v) {
			return err
		}
	}
	return n.config.Initiator.Logout(ctx, v)
}

// taken reports whether a volume has gone on without this node: then nothing that
// the kernel still holds of it can ever be written, and it must be let go of.
func (n *Node) taken(ctx context.Context, v ident.Volume) bool {
	export, err := n.config.Exports.Status(ctx, &wire.StatusRequest{Volume: string(v)})
	if err != nil {
		return status.Code(err) == codes.NotFound
	}
	return slices.ContainsFunc(export.GetConditions(), func(c *wire.Condition) bool {
		return c.GetReason() == wire.ReasonFenced || c.GetReason() == wire.ReasonEpochEnded
	})
}
