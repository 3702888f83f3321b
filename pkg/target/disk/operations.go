package disk

import (
	"context"

	"github.com/gostor/gotgt/pkg/scsi"
)

// class is what an operation does to the medium: it decides over unit
// attentions, write protection and reservations (SPC-4, SBC-3).
type class byte

const (
	informs   class = iota // INQUIRY, REPORT LUNS, REQUEST SENSE: always answered
	free                   // not affected by reservations
	legacy                 // refused by RESERVE(6) of another nexus only
	reads                  // reads the medium
	writes                 // changes medium or settings
	reserving              // RESERVE, RELEASE, PERSISTENT RESERVE: judge for themselves
)

// operation is a command of the unit.
type operation struct {
	name string
	// usage is the CDB usage data (SPC-4): the bits of a CDB that are
	// looked at. Byte 0 is the operation code; any other bit that is set is an
	// invalid field. Its length is the length of the CDB.
	usage []byte
	// action is the service action in byte 1, for codes that have them.
	action *byte
	class  class
	run    func(context.Context, *Unit, *Command) error
}

// modelOperations are the codes that gotgt carries out; see inquiry.go,
// capacity.go and mode.go for what is done to their answers.
var modelOperations = []byte{0x00, 0x12, 0x1a, 0x25, 0x5a, 0xa0}

// Bits that several operations share in byte 1: disable page out, force unit
// access, and the byte check field.
const (
	dpo    = 0x10
	fua    = 0x08
	bytchk = 0x06
	group5 = 0x3f // GROUP NUMBER
)

func sa(action byte) *byte { return &action }

// Usage data of an extent by CDB length; flags is what byte 1 has.
func usage6(code byte) []byte { return []byte{code, 0x1f, 0xff, 0xff, 0xff, control} }

func usage10(code, flags byte) []byte {
	return []byte{code, flags, 0xff, 0xff, 0xff, 0xff, group5, 0xff, 0xff, control}
}

func usage12(code, flags byte) []byte {
	return []byte{code, flags, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, group5, control}
}

func usage16(code, flags byte) []byte {
	return []byte{code, flags, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, group5, control}
}

// persistUsage is that of PERSISTENT RESERVE IN and OUT; kind is byte 2.
func persistUsage(code, kind byte) []byte {
	return []byte{code, 0x1f, kind, 0, 0, kind, kind, 0xff, 0xff, control}
}

// control is the CONTROL byte: NACA would ask for auto contingent allegiance,
// which is not supported; the rest is vendor specific or reserved.
const control = 0x00

// operations of a unit. Initialized in init, since some of them list it.
var operations []operation

func init() {
	operations = []operation{
		{"TEST UNIT READY", []byte{0x00, 0, 0, 0, 0, control}, nil, legacy, testUnit},
		{"REQUEST SENSE", []byte{0x03, 0x01, 0, 0, 0xff, control}, nil, informs, requestSense},
		{"READ(6)", usage6(0x08), nil, reads, read},
		{"WRITE(6)", usage6(0x0a), nil, writes, write},
		{"INQUIRY", []byte{0x12, 0x01, 0xff, 0xff, 0xff, control}, nil, informs, inquiry},
		{"MODE SELECT(6)", []byte{0x15, 0x11, 0, 0, 0xff, control}, nil, writes, modeSelect},
		{"RESERVE(6)", []byte{0x16, 0, 0, 0, 0, control}, nil, reserving, reserve6},
		{"RELEASE(6)", []byte{0x17, 0, 0, 0, 0, control}, nil, reserving, release6},
		{"MODE SENSE(6)", []byte{0x1a, 0x08, 0xff, 0xff, 0xff, control}, nil, legacy, modeSense},
		{"START STOP UNIT", []byte{0x1b, 0x01, 0, 0x0f, 0xf7, control}, nil, free, startStop},
		{"SEND DIAGNOSTIC", []byte{0x1d, 0x04, 0, 0, 0, control}, nil, free, sendDiagnostic},
		{"PREVENT ALLOW MEDIUM REMOVAL", []byte{0x1e, 0, 0, 0, 0x03, control}, nil, free, preventAllow},
		{"READ CAPACITY(10)", []byte{0x25, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0x01, control}, nil, free, readCapacity10},
		{"READ(10)", usage10(0x28, dpo|fua), nil, reads, read},
		{"WRITE(10)", usage10(0x2a, dpo|fua), nil, writes, write},
		{"WRITE AND VERIFY(10)", usage10(0x2e, dpo|bytchk), nil, writes, writeAndVerify},
		{"VERIFY(10)", usage10(0x2f, dpo|bytchk), nil, reads, verify},
		{"PRE-FETCH(10)", usage10(0x34, 0x02), nil, reads, prefetch},
		{"SYNCHRONIZE CACHE(10)", usage10(0x35, 0x02), nil, writes, synchronize},
		{"WRITE SAME(10)", usage10(0x41, bitUnmap), nil, writes, writeSame},
		{"UNMAP", []byte{0x42, 0, 0, 0, 0, 0, group5, 0xff, 0xff, control}, nil, writes, unmap},
		{"MODE SELECT(10)", []byte{0x55, 0x11, 0, 0, 0, 0, 0, 0xff, 0xff, control}, nil, writes, modeSelect},
		{"MODE SENSE(10)", []byte{0x5a, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, control}, nil, legacy, modeSense},
		{"PERSISTENT RESERVE IN: READ KEYS", persistUsage(0x5e, 0), sa(scsi.PR_IN_READ_KEYS), reserving, persistIn},
		{"PERSISTENT RESERVE IN: READ RESERVATION", persistUsage(0x5e, 0), sa(scsi.PR_IN_READ_RESERVATION), reserving, persistIn},
		{"PERSISTENT RESERVE IN: REPORT CAPABILITIES", persistUsage(0x5e, 0), sa(scsi.PR_IN_REPORT_CAPABILITIES), reserving, persistIn},
		{"PERSISTENT RESERVE IN: READ FULL STATUS", persistUsage(0x5e, 0), sa(scsi.PR_IN_READ_FULL_STATUS), reserving, persistIn},
		{"PERSISTENT RESERVE OUT: REGISTER", persistUsage(0x5f, 0xff), sa(scsi.PR_OUT_REGISTER), reserving, persistOut},
		{"PERSISTENT RESERVE OUT: RESERVE", persistUsage(0x5f, 0xff), sa(scsi.PR_OUT_RESERVE), reserving, persistOut},
		{"PERSISTENT RESERVE OUT: RELEASE", persistUsage(0x5f, 0xff), sa(scsi.PR_OUT_RELEASE), reserving, persistOut},
		{"PERSISTENT RESERVE OUT: CLEAR", persistUsage(0x5f, 0xff), sa(scsi.PR_OUT_CLEAR), reserving, persistOut},
		{"PERSISTENT RESERVE OUT: PREEMPT", persistUsage(0x5f, 0xff), sa(scsi.PR_OUT_PREEMPT), reserving, persistOut},
		{"PERSISTENT RESERVE OUT: PREEMPT AND ABORT", persistUsage(0x5f, 0xff), sa(scsi.PR_OUT_PREEMPT_AND_ABORT), reserving, persistOut},
		{"PERSISTENT RESERVE OUT: REGISTER AND IGNORE EXISTING KEY", persistUsage(0x5f, 0xff), sa(scsi.PR_OUT_REGISTER_AND_IGNORE_EXISTING_KEY), reserving, persistOut},
		{"READ(16)", usage16(0x88, dpo|fua), nil, reads, read},
		{"COMPARE AND WRITE", []byte{0x89, dpo | fua, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0xff, group5, control}, nil, writes, compareAndWrite},
		{"WRITE(16)", usage16(0x8a, dpo|fua), nil, writes, write},
		{"ORWRITE(16)", usage16(0x8b, dpo|fua), nil, writes, orWrite},
		{"WRITE AND VERIFY(16)", usage16(0x8e, dpo|bytchk), nil, writes, writeAndVerify},
		{"VERIFY(16)", usage16(0x8f, dpo|bytchk), nil, reads, verify},
		{"PRE-FETCH(16)", usage16(0x90, 0x02), nil, reads, prefetch},
		{"SYNCHRONIZE CACHE(16)", usage16(0x91, 0x02), nil, writes, synchronize},
		{"WRITE SAME(16)", usage16(0x93, bitUnmap|bitNDOB), nil, writes, writeSame},
		{"READ CAPACITY(16)", []byte{0x9e, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, control}, sa(0x10), free, readCapacity16},
		{"GET LBA STATUS", []byte{0x9e, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, control}, sa(0x12), reads, lbaStatus},
		{"REPORT LUNS", []byte{0xa0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, control}, nil, informs, reportLUNs},
		{"REPORT SUPPORTED OPERATION CODES", []byte{0xa3, 0x1f, 0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, control}, sa(0x0c), free, reportOperations},
		{"REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", []byte{0xa3, 0x1f, 0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, control}, sa(0x0d), free, reportFunctions},
		{"READ(12)", usage12(0xa8, dpo|fua), nil, reads, read},
		{"WRITE(12)", usage12(0xaa, dpo|fua), nil, writes, write},
		{"WRITE AND VERIFY(12)", usage12(0xae, dpo|bytchk), nil, writes, writeAndVerify},
		{"VERIFY(12)", usage12(0xaf, dpo|bytchk), nil, reads, verify},
	}
	for i := range operations {
		o := &operations[i]
		byCode[o.usage[0]] = append(byCode[o.usage[0]], o)
	}
}

var byCode [256][]*operation

// find looks a CDB's operation up.
func find(cdb *[16]byte) (*operation, error) {
	list := byCode[cdb[0]]
	if len(list) == 0 {
		return nil, errOpcode
	}
	if list[0].action == nil {
		return list[0], nil
	}
	for _, o := range list {
		if *o.action == cdb[1]&0x1f {
			return o, nil
		}
	}
	return nil, errField
}

// allows reports whether no bit is set in a CDB that the operation ignores.
func (o *operation) allows(cdb *[16]byte) bool {
	for i, mask := range o.usage[1:] {
		if cdb[i+1]&^mask != 0 {
			return false
		}
	}
	return true
}
