// Package pdu is the wire form of iSCSI PDUs (RFC 7143 §11).
//
//	+--------------------------------------+
//	| basic header segment, 48 bytes       |  Header
//	| additional header segments, n × 4    |  read and left out: no command of a disk needs one
//	| header digest, 4 bytes               |  if negotiated: CRC32C of all above
//	| data segment, padded to n × 4        |
//	| data digest, 4 bytes                 |  if negotiated and the segment is not empty
//	+--------------------------------------+
//
// A Header is the bytes as they are on the wire; fields are read and written
// in place. Names of fields are those of the RFC; several share a place:
//
//	 0 opcode, immediate    1 flags          2 response or function   3 status
//	 4 TotalAHSLength       5 DataSegmentLength
//	 8 LUN, or ISID and TSIH (login)        16 initiator task tag
//	20 target transfer tag | expected data transfer length | referenced task tag
//	24 CmdSN | StatSN      28 ExpStatSN | ExpCmdSN
//	32 CDB                 32 MaxCmdSN | RefCmdSN
//	36 DataSN | R2TSN | ExpDataSN | status class and detail (login)
//	40 buffer offset       44 residual count | desired data transfer length
package pdu

import "encoding/binary"

// HeaderLen is the length of a basic header segment in bytes.
const HeaderLen = 48

// NoTag is the reserved value of both task tags (RFC 7143 §11.2.1.8).
const NoTag = 0xffffffff

// Opcode is the kind of a PDU (RFC 7143 §11.2.1.2).
type Opcode byte

// Opcodes that an initiator sends.
const (
	NopOut      Opcode = 0x00
	SCSICommand Opcode = 0x01
	TaskRequest Opcode = 0x02
	LoginReq    Opcode = 0x03
	TextRequest Opcode = 0x04
	DataOut     Opcode = 0x05
	LogoutReq   Opcode = 0x06
	Snack       Opcode = 0x10
)

// Opcodes that a target sends.
const (
	NopIn        Opcode = 0x20
	SCSIResponse Opcode = 0x21
	TaskResponse Opcode = 0x22
	LoginResp    Opcode = 0x23
	TextResponse Opcode = 0x24
	DataIn       Opcode = 0x25
	LogoutResp   Opcode = 0x26
	R2T          Opcode = 0x31
	Async        Opcode = 0x32
	Reject       Opcode = 0x3f
)

// Flags in byte 1.
const (
	FlagFinal    = 0x80 // F: last PDU of a sequence; T (transit) of a login
	FlagContinue = 0x40 // C: a text or login goes on in the next PDU
	FlagRead     = 0x40 // SCSI command: data-in is expected
	FlagWrite    = 0x20 // SCSI command: data-out is expected
	// SCSI response and Data-In with status
	FlagOverflow  = 0x04 // O: the residual was missing in the expected length
	FlagUnderflow = 0x02 // U: the residual was left of the expected length
	FlagStatus    = 0x01 // S: Data-In carries the status
)

// Header is a basic header segment.
type Header [HeaderLen]byte

func (h *Header) word(at int) uint32       { return binary.BigEndian.Uint32(h[at:]) }
func (h *Header) setWord(at int, v uint32) { binary.BigEndian.PutUint32(h[at:], v) }

// Opcode is the kind of the PDU.
func (h *Header) Opcode() Opcode { return Opcode(h[0] & 0x3f) }

// SetOpcode sets the kind and clears the immediate bit.
func (h *Header) SetOpcode(o Opcode) { h[0] = byte(o) }

// Immediate reports whether the request is outside the CmdSN order.
func (h *Header) Immediate() bool { return h[0]&0x40 != 0 }

// Flags is byte 1.
func (h *Header) Flags() byte { return h[1] }

// SetFlags sets byte 1.
func (h *Header) SetFlags(f byte) { h[1] = f }

// Final is the F bit.
func (h *Header) Final() bool { return h[1]&FlagFinal != 0 }

// DataLen is DataSegmentLength in bytes, padding not counted.
func (h *Header) DataLen() int { return int(h.word(4) & 0xffffff) }

// SetDataLen sets DataSegmentLength and no additional header segments.
func (h *Header) SetDataLen(n int) { h.setWord(4, uint32(n)) }

// AHSLen is the length of the additional header segments in bytes.
func (h *Header) AHSLen() int { return int(h[4]) * 4 }

// LUN is the 8-byte logical unit number.
func (h *Header) LUN() uint64 { return binary.BigEndian.Uint64(h[8:]) }

// SetLUN sets the 8-byte logical unit number.
func (h *Header) SetLUN(v uint64) { binary.BigEndian.PutUint64(h[8:], v) }

// TaskTag is the initiator task tag.
func (h *Header) TaskTag() uint32 { return h.word(16) }

// SetTaskTag sets the initiator task tag.
func (h *Header) SetTaskTag(v uint32) { h.setWord(16, v) }

// TransferTag is the target transfer tag.
func (h *Header) TransferTag() uint32 { return h.word(20) }

// SetTransferTag sets the target transfer tag.
func (h *Header) SetTransferTag(v uint32) { h.setWord(20, v) }

// ExpectedLength is a SCSI command's expected data transfer length in bytes.
func (h *Header) ExpectedLength() uint32 { return h.word(20) }

// CmdSN is a request's command sequence number.
func (h *Header) CmdSN() uint32 { return h.word(24) }

// SetNumbers sets StatSN, ExpCmdSN and MaxCmdSN of a response.
func (h *Header) SetNumbers(statSN, expCmdSN, maxCmdSN uint32) {
	h.setWord(24, statSN)
	h.setWord(28, expCmdSN)
	h.setWord(32, maxCmdSN)
}

// StatSN is a response's status sequence number.
func (h *Header) StatSN() uint32 { return h.word(24) }

// ExpCmdSN is the next command sequence number that a target expects.
func (h *Header) ExpCmdSN() uint32 { return h.word(28) }

// MaxCmdSN is the highest command sequence number that a target takes.
func (h *Header) MaxCmdSN() uint32 { return h.word(32) }

// CDB is a SCSI command's command descriptor block.
func (h *Header) CDB() []byte { return h[32:48] }

// DataSN is the number of a Data-Out, Data-In or R2T within its command or
// sequence; ExpDataSN of a SCSI response.
func (h *Header) DataSN() uint32 { return h.word(36) }

// SetDataSN sets DataSN, R2TSN or ExpDataSN.
func (h *Header) SetDataSN(v uint32) { h.setWord(36, v) }

// BufferOffset is the place of a Data-Out, Data-In or R2T within the command's
// data.
func (h *Header) BufferOffset() uint32 { return h.word(40) }

// SetBufferOffset sets the buffer offset.
func (h *Header) SetBufferOffset(v uint32) { h.setWord(40, v) }

// Residual is the residual count.
func (h *Header) Residual() uint32 { return h.word(44) }

// SetResidual sets the residual count.
func (h *Header) SetResidual(v uint32) { h.setWord(44, v) }

// DesiredLength is the length in bytes that an R2T asks for.
func (h *Header) DesiredLength() uint32 { return h.word(44) }

// SetDesiredLength sets the length that an R2T asks for.
func (h *Header) SetDesiredLength(v uint32) { h.setWord(44, v) }

// Before reports whether serial number a comes before b (RFC 1982).
func Before(a, b uint32) bool { return int32(a-b) < 0 }

// Padding is how many bytes follow a segment of n bytes to fill a word.
func Padding(n int) int { return -n & 3 }
