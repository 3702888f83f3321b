package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// Session is what it takes to reach one volume's LUN.
type Session struct {
	Volume     ident.Volume
	Portal     string // address:port
	IQN        string // names the volume and its epoch
	LUN        int
	Serial     string // what VPD page 80h of the LUN must answer
	CHAPUser   string
	CHAPSecret string
}

var (
	// ErrNotLoggedIn says that no session of the volume exists.
	ErrNotLoggedIn = errors.New("no iSCSI session")
	// ErrWrongDevice says that the LUN answers with another serial number.
	ErrWrongDevice = errors.New("the device is not the volume")
	// ErrAuthentication says that the target refused the CHAP secret.
	ErrAuthentication = errors.New("the target refused the login")
	// ErrInitiator says that the host's iscsid cannot be reached.
	ErrInitiator = errors.New("the host's iscsid does not answer; is open-iscsi installed and running?")
)

// The exit codes of iscsiadm(8) that we tell apart.
const (
	iscsiadmSessionExists  = 15
	iscsiadmDaemonError    = 18
	iscsiadmDaemonAbsent   = 20
	iscsiadmNothingFound   = 21
	iscsiadmAuthentication = 24
)

// pollInterval is how often the kernel is asked for what cannot be waited for.
const pollInterval = 50 * time.Millisecond

// Initiator drives the host's open-iscsi. The kernel's list of sessions is its
// only state. Calls for one volume must not run at the same time.
type Initiator struct {
	Run Runner
	// Root is where the host's file system is seen from here: "" when the
	// process runs on the host itself, "/proc/1/root" in a container.
	Root string
	// Sys and Dev default to /sys and /dev, and differ in tests.
	Sys, Dev string
}

// Device is the block device that the kernel made of a volume's LUN.
type Device struct {
	Path string // /dev/sdX
	Size int64  // bytes
}

// Login returns the device of the volume's LUN, logging in first if there is no
// session yet. Sessions of other epochs of the volume are torn down before that
// (R7): what they held belongs to a journal that may no longer write.
func (i *Initiator) Login(ctx context.Context, s Session) (device Device, err error) {
	defer wrap(&err, "log in to", s.Volume)
	if err := s.validate(); err != nil {
		return Device{}, err
	}
	if err := i.logout(ctx, s.Volume, s.IQN); err != nil {
		return Device{}, err
	}
	found, err := i.sessions(s.Volume)
	if err != nil {
		return Device{}, err
	}
	if len(found) == 0 {
		if err := i.connect(ctx, s); err != nil {
			return Device{}, err
		}
	}
	disk, err := i.awaitDisk(ctx, s)
	if err != nil {
		return Device{}, err
	}
	if err := disk.verify(s.Serial); err != nil {
		return Device{}, err
	}
	if err := disk.waitForever(); err != nil {
		return Device{}, err
	}
	return disk.device()
}

// connect makes the node record and logs in with it.
func (i *Initiator) connect(ctx context.Context, s Session) error {
	record := []string{"-m", "node", "-T", s.IQN, "-p", s.Portal}
	if _, err := i.iscsiadm(ctx, append(record, "-o", "new")...); err != nil {
		return err
	}
	if err := i.configure(s); err != nil {
		return err
	}
	_, err := i.iscsiadm(ctx, append(record, "--login")...)
	if exitCode(err) == iscsiadmSessionExists {
		return nil // an earlier call that gave up waiting got through after all
	}
	return err
}

// Logout ends every session of the volume and removes its node records. It
// returns when the kernel has forgotten the devices.
func (i *Initiator) Logout(ctx context.Context, v ident.Volume) (err error) {
	defer wrap(&err, "log out of", v)
	if _, err := ident.ParseVolume(string(v)); err != nil {
		return err
	}
	return i.logout(ctx, v, "")
}

// logout ends the sessions of v except those to the target keep.
func (i *Initiator) logout(ctx context.Context, v ident.Volume, keep string) error {
	sessions, err := i.sessions(v)
	if err != nil {
		return err
	}
	for _, session := range sessions {
		if session.iqn == keep {
			continue
		}
		if _, err := i.iscsiadm(ctx, "-m", "session", "-r", strconv.Itoa(session.id), "--logout"); err != nil && exitCode(err) != iscsiadmNothingFound {
			return err
		}
		if err := poll(ctx, func() (bool, error) { return session.gone() }); err != nil {
			return fmt.Errorf("session %d to %s does not end: %w", session.id, session.iqn, err)
		}
	}
	return i.forget(ctx, v, keep)
}

// Device returns the volume's block device, or ErrNotLoggedIn.
func (i *Initiator) Device(v ident.Volume) (device Device, err error) {
	defer wrap(&err, "find the device of", v)
	disk, err := i.disk(v)
	if err != nil {
		return Device{}, err
	}
	return disk.device()
}

// Volumes lists the volumes that have a session with a target whose name is
// "prefix:<volume>.<rest>".
func (i *Initiator) Volumes(prefix string) ([]ident.Volume, error) {
	named := func(iqn string) (ident.Volume, bool) {
		name, ours := strings.CutPrefix(iqn, prefix+":")
		name, _, _ = strings.Cut(name, ".")
		v, err := ident.ParseVolume(name)
		return v, ours && err == nil
	}
	sessions, err := i.sessionsWith(func(iqn string) bool { _, ours := named(iqn); return ours })
	var volumes []ident.Volume
	for _, s := range sessions {
		if v, _ := named(s.iqn); !slices.Contains(volumes, v) {
			volumes = append(volumes, v)
		}
	}
	return volumes, err
}

// FailSoon makes waiting I/O of a volume fail as soon as its session is lost: what
// nobody will serve any more must not be waited for. The kernel takes it for a
// session that stands, only.
func (i *Initiator) FailSoon(v ident.Volume) (err error) {
	defer wrap(&err, "give up", v)
	sessions, err := i.sessions(v)
	for _, s := range sessions {
		err = errors.Join(err, writeAttribute(s.path, "recovery_tmo", "0"))
	}
	return err
}

// Rescan makes the kernel ask the LUN for its size again, until it sees at least
// size bytes.
func (i *Initiator) Rescan(ctx context.Context, v ident.Volume, size int64) (err error) {
	defer wrap(&err, "rescan", v)
	disk, err := i.disk(v)
	if err != nil {
		return err
	}
	return poll(ctx, func() (bool, error) {
		if have, err := disk.size(); err != nil || have >= size {
			return err == nil, err
		}
		return false, disk.rescan()
	})
}

// iscsiadm runs the host's iscsiadm and gives its exit codes a meaning.
func (i *Initiator) iscsiadm(ctx context.Context, args ...string) ([]byte, error) {
	out, err := i.Run.Run(ctx, "iscsiadm", args...)
	switch exitCode(err) {
	case iscsiadmDaemonError, iscsiadmDaemonAbsent:
		err = fmt.Errorf("%w: %w", ErrInitiator, err)
	case iscsiadmAuthentication:
		err = fmt.Errorf("%w: %w", ErrAuthentication, err)
	}
	return out, err
}

// poll calls done until it says so, fails, or ctx ends.
func poll(ctx context.Context, done func() (bool, error)) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

func wrap(err *error, operation string, v ident.Volume) {
	if *err != nil {
		*err = fmt.Errorf("%s volume %.64q: %w", operation, v, *err)
	}
}
