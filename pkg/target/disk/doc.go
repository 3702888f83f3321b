// Package disk is a SCSI direct-access block device (SPC-4, SBC-3): logical
// units in front of a [Device] each, as iSCSI and other transports address
// them.
//
// The walk of a command:
//
//	Units.Execute   which logical unit
//	Unit.perform    unit attention, reservation, write protection, CDB in order
//	operation.run   one function per command, table in operations.go
//	Device          or gotgt's SCSI model, for the commands that it does right
//
// From github.com/gostor/gotgt come the logical unit, target and command types,
// sense data and the commands INQUIRY (standard data, part of page 83h), REPORT
// LUNS, MODE SENSE, READ CAPACITY(10) and TEST UNIT READY; see model.go for how
// it is kept out of harm's way.
package disk

// Sizes in bytes.
const (
	// BlockSize is the logical block length. The physical block length reported
	// beside it is 4096 (512e).
	BlockSize = 512
	// MaxTransfer is the most data that one command moves (VPD B0h).
	MaxTransfer = 4 << 20
)
