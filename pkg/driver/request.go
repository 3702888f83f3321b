package driver

import (
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/host"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// The size limits of the CSI specification, in bytes.
const (
	maxString = 128
	maxPath   = 4096
)

// checkText refuses an absent, oversized or unprintable string.
func checkText(field, value string, limit int) error {
	switch {
	case value == "":
		return invalid(field, "is required")
	case len(value) > limit:
		return invalid(field, "is %d bytes long, at most %d are allowed", len(value), limit)
	case !utf8.ValidString(value) || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return invalid(field, "contains control characters or is not UTF-8")
	}
	return nil
}

// volumeID takes in a volume's id. One that is not in our form is the id of no
// volume: catalog.ErrNotFound.
func volumeID(field, value string) (ident.Volume, error) {
	if err := checkText(field, value, maxString); err != nil {
		return "", err
	}
	id, err := ident.ParseVolume(value)
	if err != nil {
		return "", notFound{err}
	}
	return id, nil
}

// snapshotID is volumeID for snapshots.
func snapshotID(field, value string) (ident.Snapshot, error) {
	if err := checkText(field, value, maxString); err != nil {
		return "", err
	}
	id, err := ident.ParseSnapshot(value)
	if err != nil {
		return "", notFound{err}
	}
	return id, nil
}

// notFound is an id that was never given out.
type notFound struct{ error }

func (notFound) Is(target error) bool { return target == catalog.ErrNotFound }

// absolutePath takes in a path that we are to create or mount at.
func absolutePath(field, value string) (string, error) {
	if err := checkText(field, value, maxPath); err != nil {
		return "", err
	}
	if !filepath.IsAbs(value) || filepath.Clean(value) == "/" {
		return "", invalid(field, "%.128q is not an absolute path below /", value)
	}
	return filepath.Clean(value), nil
}

// access is a volume capability in our terms.
type access struct {
	block     bool
	fsType    string   // "" leaves it to the class
	flags     []string // mount options
	readOnly  bool
	manyNodes bool // MULTI_NODE_READER_ONLY
	onePod    bool // SINGLE_NODE_SINGLE_WRITER
}

// capability takes in what a volume is to be used as.
func capability(c *csi.VolumeCapability) (access, error) {
	const field = "volume_capability"
	var a access
	switch {
	case c == nil:
		return a, invalid(field, "is required")
	case c.GetBlock() != nil:
		a.block = true
	case c.GetMount() != nil:
		m := c.GetMount()
		a.fsType, a.flags = m.GetFsType(), m.GetMountFlags()
		if _, err := host.ParseFSType(a.fsType); err != nil {
			return a, invalid(field+".mount.fs_type", "%v", err)
		}
		if err := host.CheckMountOptions(a.flags); err != nil {
			return a, invalid(field+".mount.mount_flags", "%v", err)
		}
		if m.GetVolumeMountGroup() != "" {
			return a, invalid(field+".mount.volume_mount_group", "%s and %s have no mount option for it; kubelet changes the group of the files itself", host.Ext4, host.XFS)
		}
	default:
		return a, invalid(field+".access_type", "is required: mount or block")
	}
	switch mode := c.GetAccessMode().GetMode(); mode {
	case csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER, csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER:
	case csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER:
		a.onePod = true
	case csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY:
		a.readOnly = true
	case csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY:
		a.readOnly, a.manyNodes = true, true
	case csi.VolumeCapability_AccessMode_UNKNOWN:
		return a, invalid(field+".access_mode", "is required")
	default:
		return a, invalid(field+".access_mode", "%v is not possible: what is written goes to a journal on one node, "+
			"and no other node would see it; many nodes may read a volume that none writes", mode)
	}
	return a, nil
}

// capabilities takes in a list that all must be possible for one volume.
func capabilities(list []*csi.VolumeCapability) ([]access, error) {
	if len(list) == 0 {
		return nil, invalid("volume_capabilities", "at least one is required")
	}
	var all []access
	for _, c := range list {
		a, err := capability(c)
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, nil
}

// capacity takes in a size range; 0 is "unspecified".
func capacity(r *csi.CapacityRange) (required, limit int64, err error) {
	required, limit = r.GetRequiredBytes(), r.GetLimitBytes()
	switch {
	case required < 0:
		err = invalid("capacity_range.required_bytes", "is negative")
	case limit < 0:
		err = invalid("capacity_range.limit_bytes", "is negative")
	case limit > 0 && limit < required:
		err = invalid("capacity_range", "limit_bytes %d is below required_bytes %d", limit, required)
	}
	return required, limit, err
}
