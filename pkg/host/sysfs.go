package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// The kernel's view, below /sys/class/iscsi_session:
//
//	session7/targetname, state, recovery_tmo
//	session7/device/target2:0:0/2:0:0:1/   the SCSI device of LUN 1
//	    vpd_pg80, timeout, rescan
//	    block/sdb/{dev,size}
//	    scsi_disk/2:0:0:1/max_retries

// commandTimeout is how long the kernel waits for one command before it aborts
// and repeats it, in seconds. A full journal holds writes for as long as Swift
// is away (P9); aborting them would only be work.
const commandTimeout = 24 * 60 * 60

// session is one iSCSI session of the kernel.
type session struct {
	id   int
	iqn  string
	path string // /sys/class/iscsi_session/session<id>
}

// sessions lists the sessions whose target names the volume.
func (i *Initiator) sessions(v ident.Volume) ([]session, error) {
	return i.sessionsWith(func(iqn string) bool { return strings.Contains(iqn, string(v)) })
}

// sessionsWith lists the sessions to targets of some names.
func (i *Initiator) sessionsWith(wanted func(iqn string) bool) ([]session, error) {
	class := filepath.Join(i.sys(), "class/iscsi_session")
	entries, err := os.ReadDir(class)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // the transport's module loads with the first login
	}
	if err != nil {
		return nil, err
	}
	var found []session
	for _, entry := range entries {
		id, err := strconv.Atoi(strings.TrimPrefix(entry.Name(), "session"))
		if err != nil {
			continue
		}
		path := filepath.Join(class, entry.Name())
		iqn, err := readAttribute(path, "targetname")
		if errors.Is(err, fs.ErrNotExist) {
			continue // just gone
		}
		if err != nil {
			return nil, err
		}
		if wanted(iqn) {
			found = append(found, session{id: id, iqn: iqn, path: path})
		}
	}
	return found, nil
}

func (s session) gone() (bool, error) {
	iqn, err := readAttribute(s.path, "targetname")
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return err == nil && iqn != s.iqn, err
}

// disk is a LUN that the kernel made a block device of.
type disk struct {
	session session
	scsi    string // directory of the SCSI device
	block   string // directory of the block device
	node    string // /dev/sdX
}

// disks lists the session's block devices, of LUN lun only if it is not negative.
func (i *Initiator) disks(s session, lun int) ([]disk, error) {
	number := "*"
	if lun >= 0 {
		number = strconv.Itoa(lun)
	}
	blocks, err := filepath.Glob(filepath.Join(s.path, "device/target*/*:*:*:"+number+"/block/*"))
	if err != nil {
		return nil, err
	}
	var disks []disk
	for _, block := range blocks {
		disks = append(disks, disk{
			session: s,
			scsi:    filepath.Dir(filepath.Dir(block)),
			block:   block,
			node:    filepath.Join(i.dev(), filepath.Base(block)),
		})
	}
	return disks, nil
}

// disk returns the one block device of the volume's one session.
func (i *Initiator) disk(v ident.Volume) (disk, error) {
	sessions, err := i.sessions(v)
	if err != nil {
		return disk{}, err
	}
	var all []disk
	for _, session := range sessions {
		disks, err := i.disks(session, -1)
		if err != nil {
			return disk{}, err
		}
		all = append(all, disks...)
	}
	if len(all) == 0 {
		return disk{}, ErrNotLoggedIn
	}
	if len(all) > 1 {
		return disk{}, fmt.Errorf("%w: %d devices claim to be it", ErrWrongDevice, len(all))
	}
	return all[0], nil
}

// awaitDisk waits until the session stands and the kernel and udev have made
// the LUN's device.
func (i *Initiator) awaitDisk(ctx context.Context, s Session) (disk, error) {
	var found disk
	err := poll(ctx, func() (bool, error) {
		sessions, err := i.sessions(s.Volume)
		if err != nil || len(sessions) == 0 {
			return false, err
		}
		if state, err := readAttribute(sessions[0].path, "state"); err != nil || state != "LOGGED_IN" {
			return false, ignoreGone(err)
		}
		disks, err := i.disks(sessions[0], s.LUN)
		if err != nil || len(disks) == 0 {
			return false, err
		}
		found = disks[0]
		return found.hasNode()
	})
	if err != nil {
		return disk{}, fmt.Errorf("LUN %d of %s does not appear: %w", s.LUN, s.IQN, err)
	}
	return found, nil
}

// hasNode reports whether the device file exists and is that device: another
// disk may just have had its name.
func (d disk) hasNode() (bool, error) {
	number, err := readAttribute(d.block, "dev")
	if err != nil {
		return false, ignoreGone(err)
	}
	var stat unix.Stat_t
	if err := unix.Stat(d.node, &stat); err != nil {
		return false, ignoreGone(err)
	}
	have := fmt.Sprintf("%d:%d", unix.Major(stat.Rdev), unix.Minor(stat.Rdev))
	return stat.Mode&unix.S_IFMT == unix.S_IFBLK && have == number, nil
}

// verify compares the serial number in VPD page 80h (SPC-4 §7.8.16) that the
// kernel read when it found the device. There is no second way to know it.
func (d disk) verify(serial string) error {
	page, err := os.ReadFile(filepath.Join(d.scsi, "vpd_pg80"))
	if err != nil {
		return fmt.Errorf("%w: its serial number cannot be read: %w", ErrWrongDevice, err)
	}
	if len(page) < 4 || page[1] != 0x80 || len(page) < 4+int(page[3]) {
		return fmt.Errorf("%w: its serial number page is malformed", ErrWrongDevice)
	}
	if have := strings.TrimSpace(string(page[4 : 4+int(page[3])])); have != serial {
		return fmt.Errorf("%w: %s has serial number %.64q, want %q", ErrWrongDevice, d.node, have, serial)
	}
	return nil
}

// waitForever takes every timer away that could turn waiting into EIO (P9).
func (d disk) waitForever() error {
	return errors.Join(
		// iscsid set it from the record; written here it stays, whoever logs in again.
		writeAttribute(d.session.path, "recovery_tmo", "off"),
		writeAttribute(d.scsi, "timeout", strconv.Itoa(commandTimeout)),
		writeAttribute(filepath.Join(d.scsi, "scsi_disk", filepath.Base(d.scsi)), "max_retries", "-1"), // Linux 5.10
	)
}

// size is in bytes; the kernel counts in 512 whatever the logical block is.
func (d disk) size() (int64, error) {
	text, err := readAttribute(d.block, "size")
	if err != nil {
		return 0, err
	}
	sectors, err := strconv.ParseInt(text, 10, 64)
	return sectors * 512, err
}

func (d disk) device() (Device, error) {
	size, err := d.size()
	return Device{Path: d.node, Size: size}, err
}

func (d disk) rescan() error { return writeAttribute(d.scsi, "rescan", "1") }

func (i *Initiator) sys() string {
	if i.Sys != "" {
		return i.Sys
	}
	return "/sys"
}

func (i *Initiator) dev() string {
	if i.Dev != "" {
		return i.Dev
	}
	return "/dev"
}

func readAttribute(directory, name string) (string, error) {
	text, err := os.ReadFile(filepath.Join(directory, name))
	return strings.TrimSpace(string(text)), err
}

// writeAttribute never creates a file: in /sys it could not, and elsewhere it
// should not.
func writeAttribute(directory, name, value string) error {
	f, err := os.OpenFile(filepath.Join(directory, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}
