package disk

import (
	"context"
	"encoding/binary"
)

// testUnit is TEST UNIT READY (SPC-4).
func testUnit(_ context.Context, u *Unit, c *Command) error {
	_, err := u.control(c)
	return err
}

// readCapacity10 is READ CAPACITY(10) (SBC-3).
func readCapacity10(_ context.Context, u *Unit, c *Command) error {
	data, err := u.control(c)
	if err != nil {
		return err
	}
	return c.reply(data[:8], 8)
}

// readCapacity16 is READ CAPACITY(16) (SBC-3).
func readCapacity16(_ context.Context, u *Unit, c *Command) error {
	if c.CDB[14]&1 == 0 && binary.BigEndian.Uint64(c.CDB[2:]) != 0 {
		return errField // an address without PMI
	}
	data := make([]byte, 32)
	binary.BigEndian.PutUint64(data, uint64(u.blocks.Load()-1))
	binary.BigEndian.PutUint32(data[8:], BlockSize)
	data[13] = physicalExponent
	data[14] = 0xc0 // LBPME: thin; LBPRZ: unmapped blocks read as zeros
	return c.reply(data, int(binary.BigEndian.Uint32(c.CDB[10:])))
}

// startStop is START STOP UNIT (SBC-3): there is nothing to stop, and
// nothing to eject.
func startStop(context.Context, *Unit, *Command) error { return nil }

// sendDiagnostic is SEND DIAGNOSTIC (SPC-4): the default self-test.
func sendDiagnostic(_ context.Context, _ *Unit, c *Command) error {
	if c.CDB[1]&0x04 == 0 {
		return errField
	}
	return nil
}

// preventAllow is PREVENT ALLOW MEDIUM REMOVAL (SBC-3): the medium cannot
// be removed anyway.
func preventAllow(context.Context, *Unit, *Command) error { return nil }

// requestSense is REQUEST SENSE (SPC-4): sense data come with the status,
// so all that is left to ask for is a unit attention.
func requestSense(_ context.Context, u *Unit, c *Command) error {
	if c.CDB[1]&1 != 0 {
		return errField // descriptor format
	}
	e := u.takeAttention(c.Nexus)
	if e == nil {
		e = sense(0, 0)
	}
	return c.reply(e.bytes(), int(c.CDB[4]))
}

// withAllocation replaces the allocation length in the CDB of a command for
// gotgt by one that fits its whole answer.
func withAllocation(cdb [16]byte) [16]byte {
	switch cdb[0] {
	case 0x12: // INQUIRY
		binary.BigEndian.PutUint16(cdb[3:], modelBuffer)
	case 0x1a: // MODE SENSE(6)
		cdb[4] = 255
	case 0x5a: // MODE SENSE(10)
		binary.BigEndian.PutUint16(cdb[7:], modelBuffer)
	case 0xa0: // REPORT LUNS
		binary.BigEndian.PutUint32(cdb[6:], modelBuffer)
	}
	return cdb
}
