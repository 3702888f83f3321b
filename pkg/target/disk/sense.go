package disk

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/gostor/gotgt/pkg/api"
	"github.com/gostor/gotgt/pkg/scsi"
)

// senseError is the reason of a CHECK CONDITION (SPC-4).
type senseError struct {
	key  byte
	code scsi.SCSISubError
	info *uint32 // INFORMATION field, or nil
}

func (e *senseError) Error() string {
	return fmt.Sprintf("sense %x/%02x/%02x", e.key, byte(e.code>>8), byte(e.code))
}

func sense(key byte, code scsi.SCSISubError) *senseError { return &senseError{key: key, code: code} }

// Additional sense codes that gotgt has no name for.
const (
	ascPowerOn                scsi.SCSISubError = 0x2900
	ascCapacityChanged        scsi.SCSISubError = 0x2a09
	ascDeviceReset            scsi.SCSISubError = 0x2903
	ascDataPhase              scsi.SCSISubError = 0x4b00
	ascRegistrationsPreempted scsi.SCSISubError = 0x2a05
	ascLUNsChanged            scsi.SCSISubError = 0x3f0e
)

var (
	errOpcode      = sense(scsi.ILLEGAL_REQUEST, scsi.ASC_INVALID_OP_CODE)
	errField       = sense(scsi.ILLEGAL_REQUEST, scsi.ASC_INVALID_FIELD_IN_CDB)
	errRange       = sense(scsi.ILLEGAL_REQUEST, scsi.ASC_LBA_OUT_OF_RANGE)
	errLUN         = sense(scsi.ILLEGAL_REQUEST, scsi.ASC_LUN_NOT_SUPPORTED)
	errListLength  = sense(scsi.ILLEGAL_REQUEST, scsi.ASC_PARAMETER_LIST_LENGTH_ERR)
	errListField   = sense(scsi.ILLEGAL_REQUEST, scsi.ASC_INVALID_FIELD_IN_PARMS)
	errProtected   = sense(scsi.DATA_PROTECT, scsi.ASC_WRITE_PROTECT)
	errUnreadable  = sense(scsi.MEDIUM_ERROR, scsi.ASC_UNRECOVERED_READ)
	errHardware    = sense(scsi.HARDWARE_ERROR, scsi.ASC_INTERNAL_TGT_FAILURE)
	errDataPhase   = sense(scsi.ABORTED_COMMAND, ascDataPhase)
	errUnavailable = sense(scsi.NOT_READY, scsi.ASC_BECOMING_READY)
)

// Unit attentions of the unit and of its target.
var (
	attentionPowerOn  = sense(scsi.UNIT_ATTENTION, ascPowerOn)
	attentionReset    = sense(scsi.UNIT_ATTENTION, ascDeviceReset)
	attentionCapacity = sense(scsi.UNIT_ATTENTION, ascCapacityChanged)
	attentionCleared  = sense(scsi.UNIT_ATTENTION, scsi.ASC_CMDS_CLEARED_BY_ANOTHER_INI)
	attentionMode     = sense(scsi.UNIT_ATTENTION, scsi.ASC_MODE_PARAMETERS_CHANGED)
	attentionLUNs     = sense(scsi.UNIT_ATTENTION, ascLUNsChanged)
)

// errConflict answers RESERVATION CONFLICT, which carries no sense data.
var errConflict = errors.New("reservation conflict")

// miscompare says at which byte of the data-out two buffers differ first.
func miscompare(at int) error {
	info := uint32(at)
	return &senseError{scsi.MISCOMPARE, scsi.ASC_MISCOMPARE_DURING_VERIFY_OPERATION, &info}
}

// deviceError is an error of the device and what the initiator is told of it.
type deviceError struct {
	sense *senseError
	cause error
}

func (e *deviceError) Error() string   { return e.cause.Error() }
func (e *deviceError) Unwrap() []error { return []error{e.sense, e.cause} }

// readFailed and writeFailed turn an error of the device into sense. Linux does
// not retry 3/11/00 and hardware errors; it retries 2/04/01 for as long as the
// command is allowed to.
func readFailed(err error) error  { return deviceFailed(err, errUnreadable) }
func writeFailed(err error) error { return deviceFailed(err, errHardware) }

func deviceFailed(err error, damage *senseError) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*senseError](err); ok {
		return err
	}
	switch {
	case errors.Is(err, ErrMedium):
		return &deviceError{damage, err}
	case errors.Is(err, ErrGone):
		return &deviceError{errHardware, err}
	}
	return &deviceError{errUnavailable, err}
}

// senseLen is the length of fixed format sense data (SPC-4).
const senseLen = 18

// testUnitReady is the CDB that sense data are built for: gotgt cuts them to
// what it takes for an allocation length in some CDBs.
var testUnitReady = make([]byte, 6)

// bytes builds the sense data with gotgt.
func (e *senseError) bytes() []byte {
	scratch := api.SCSICommand{SCB: testUnitReady}
	scsi.BuildSenseData(&scratch, e.key, e.code)
	b := make([]byte, senseLen)
	copy(b, scratch.SenseBuffer.Buffer)
	if e.info != nil {
		b[0] |= 0x80 // VALID
		binary.BigEndian.PutUint32(b[3:], *e.info)
	}
	return b
}

// conclude sets the outcome of a command whose operation returned err.
func (c *Command) conclude(err error) {
	if err == nil {
		c.Status = Good
		return
	}
	c.In = nil
	if errors.Is(err, errConflict) {
		c.Status = ReservationConflict
		return
	}
	e, ok := errors.AsType[*senseError](err)
	switch {
	case ok:
	case errors.Is(err, ErrTransfer):
		e = errDataPhase
	default: // the context's end while waiting for something
		e = errUnavailable
	}
	c.Status, c.Sense = CheckCondition, e.bytes()
	if d, ok := errors.AsType[*deviceError](err); ok {
		c.Err = fmt.Errorf("%s: %w", c.name(), d.cause)
	}
}
