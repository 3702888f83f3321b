package target

import (
	"errors"

	"github.com/swiftblock/csi-swiftblock/pkg/target/disk"
	"github.com/swiftblock/csi-swiftblock/pkg/target/login"
)

// What a LUN stands on.
type (
	// Device holds the data; see [disk.Device].
	Device = disk.Device
	// Mapper is a Device that knows what of it is stored; see [disk.Mapper].
	Mapper = disk.Mapper
	// Keeper keeps persistent reservations; see [disk.Keeper].
	Keeper = disk.Keeper
)

// Errors of a Device; see [disk.ErrMedium] and what follows it.
var (
	ErrMedium      = disk.ErrMedium
	ErrGone        = disk.ErrGone
	ErrUnavailable = disk.ErrUnavailable
)

// Errors of the Server's administration.
var (
	// ErrExists is returned by AddTarget for a name that is registered.
	ErrExists = errors.New("target exists")
	// ErrLastLUN is returned for the removal of a target's only LUN.
	ErrLastLUN = disk.ErrLastLUN
	// ErrLUNExists is returned by AddLUN for a number that the target has.
	ErrLUNExists = disk.ErrLUNExists
	// ErrNoLUN is returned for a number that it does not have.
	ErrNoLUN = disk.ErrNoLUN
	// ErrNoTarget is returned for a name that is not registered, or not ready.
	ErrNoTarget = errors.New("no such target")
	// ErrClosed is returned once Shutdown has begun.
	ErrClosed = errors.New("target server is shut down")
)

// Target is an iSCSI target node: a name, who may log in, and its LUNs.
type Target struct {
	// IQN is the target's iSCSI name (RFC 7143 §4.2.7).
	IQN string
	// CHAP authenticates initiators; the zero value asks for nothing.
	CHAP CHAP
	// Initiators are the names that may log in; empty: any.
	Initiators []string
	// Shared lets several initiator names hold sessions at once. Without it a
	// second name is refused for as long as the first has a session.
	Shared bool
	// NotReady refuses logins with "service unavailable" (03/01), which
	// initiators retry, until SetReady.
	NotReady bool
	// LUNs of the target; may be left out while NotReady.
	LUNs []LUN
}

// CHAP holds the credentials of one target; see [login.CHAP].
type CHAP = login.CHAP

// LUN is one logical unit of a target.
type LUN struct {
	// Number is the LUN, below 256.
	Number uint8
	// Volume is the identity that serial number (VPD 80h: the id itself) and
	// NAA and T10 designators (VPD 83h) are made of; they never change.
	Volume string
	// Device holds the data.
	Device Device
	// ReadOnly write-protects the unit.
	ReadOnly bool
	// Keeper keeps persistent reservations through a loss of power; nil: that is not
	// offered, and they end with the unit.
	Keeper Keeper
}
