package disk

import (
	"context"
	"encoding/binary"
	"fmt"
)

// Status of a command (SAM-5).
type Status byte

// Statuses that a unit answers with.
const (
	Good                Status = 0x00
	CheckCondition      Status = 0x02
	ReservationConflict Status = 0x18
)

// Transfer moves the data of one command between initiator and unit.
type Transfer interface {
	// Out returns the first n bytes of data-out, or all that the initiator has
	// announced if that is less. It is called once at most.
	Out(ctx context.Context, n int) ([]byte, error)
	// In returns room for n bytes of data-in, contents undefined. It is called
	// once at most.
	In(ctx context.Context, n int) ([]byte, error)
	// Abort aborts all commands of some nexuses on a unit but this one, and
	// returns when they have ended (R9).
	Abort(ctx context.Context, u *Unit, nexuses []Nexus) error
}

// Nexus names an initiator port: who reservations and unit attentions belong to.
type Nexus struct {
	Name string
	ISID [6]byte
}

// Command is one SCSI command. The first fields come from the transport, the
// rest is the outcome.
type Command struct {
	CDB      [16]byte
	Nexus    Nexus
	Expected uint32 // bytes that the initiator means to move
	Transfer Transfer

	Status Status
	Sense  []byte // with CheckCondition
	In     []byte // data-in
	// Err is the device's error, or a panic, that made the command fail: for a log.
	Err error
	// Moves is how much data the CDB stands for, which need not be Expected.
	Moves int
}

// name is the operation's name, for errors.
func (c *Command) name() string {
	if o, err := find(&c.CDB); err == nil {
		return o.name
	}
	return fmt.Sprintf("operation %#02x", c.CDB[0])
}

// group is the length code of an operation code (SPC-4).
func group(code byte) byte { return code >> 5 }

// cdbLen is the length of the CDB of an operation code.
func cdbLen(code byte) int {
	switch group(code) {
	case 0:
		return 6
	case 1, 2:
		return 10
	case 5:
		return 12
	}
	return 16
}

// extent is the first block and the number of blocks in a CDB that has both at
// the usual places.
func (c *Command) extent() (lba uint64, blocks uint32) {
	b := &c.CDB
	switch cdbLen(b[0]) {
	case 6:
		lba = uint64(b[1]&0x1f)<<16 | uint64(b[2])<<8 | uint64(b[3])
		if blocks = uint32(b[4]); blocks == 0 {
			blocks = 256
		}
	case 10:
		lba, blocks = uint64(binary.BigEndian.Uint32(b[2:])), uint32(binary.BigEndian.Uint16(b[7:]))
	case 12:
		lba, blocks = uint64(binary.BigEndian.Uint32(b[2:])), binary.BigEndian.Uint32(b[6:])
	default:
		lba, blocks = binary.BigEndian.Uint64(b[2:]), binary.BigEndian.Uint32(b[10:])
	}
	return lba, blocks
}

// Bits in byte 1 of a CDB with an extent; the 6-byte ones have none of them.
const (
	bitFUA   = 0x08
	bitUnmap = 0x08 // WRITE SAME
	bitNDOB  = 0x01 // WRITE SAME(16): no data-out buffer
)

func (c *Command) fua() bool { return cdbLen(c.CDB[0]) > 6 && c.CDB[1]&bitFUA != 0 }

// byteCheck is the BYTCHK field of VERIFY and WRITE AND VERIFY.
func (c *Command) byteCheck() byte { return c.CDB[1] >> 1 & 3 }

// reply answers with parameter data, cut to the allocation length of the CDB.
func (c *Command) reply(data []byte, allocation int) error {
	c.In = data[:min(len(data), allocation)]
	c.Moves = len(c.In)
	return nil
}

// parameters fetches a parameter list of the length that the CDB announces.
func (c *Command) parameters(ctx context.Context, n int) ([]byte, error) {
	if n > maxParameters {
		return nil, errListLength
	}
	c.Moves = n
	p, err := c.Transfer.Out(ctx, n)
	if err != nil {
		return nil, err
	}
	if len(p) < n {
		return nil, errListLength
	}
	return p, nil
}

// maxParameters bounds parameter lists, in bytes: the longest is UNMAP's.
const maxParameters = 8 + 16*maxUnmapDescriptors
