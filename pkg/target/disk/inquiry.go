package disk

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

// Vital product data pages.
const (
	pageSupported    = 0x00
	pageSerial       = 0x80
	pageIdentity     = 0x83
	pageLimits       = 0xb0
	pageMedium       = 0xb1
	pageProvisioning = 0xb2
)

// Limits in page B0h, in blocks.
const (
	maxCompareAndWrite  = 255
	maxWriteSame        = 65528 // what WRITE SAME(10) can say, in whole physical blocks
	optimalGranularity  = physicalSize / BlockSize
	optimalTransfer     = 1 << 20 / BlockSize
	maxUnmapDescriptors = 256
)

const (
	physicalExponent = 3 // blocks per physical block, as a power of two
	physicalSize     = BlockSize << physicalExponent
)

// naa is the 60-bit value of the locally assigned NAA designator (SPC-4) of
// a volume: its first 15 hexadecimal digits, or those of its hash if it is no hexadecimal number.
func naa(volume string) uint64 {
	b, err := hex.DecodeString(volume)
	if err != nil || len(b) < 8 {
		sum := sha256.Sum256([]byte(volume))
		b = sum[:]
	}
	return binary.BigEndian.Uint64(b) >> 4
}

// inquiry is INQUIRY (SPC-4).
func inquiry(_ context.Context, u *Unit, c *Command) error {
	allocation := int(binary.BigEndian.Uint16(c.CDB[3:]))
	page := c.CDB[2]
	if c.CDB[1]&1 == 0 {
		data, err := u.control(c)
		if err != nil {
			return err
		}
		return c.reply(data[:5+int(data[4])], allocation)
	}
	var body []byte
	switch page {
	case pageSupported:
		body = []byte{pageSupported, pageSerial, pageIdentity, pageLimits, pageMedium, pageProvisioning}
	case pageSerial:
		body = []byte(u.volume)
	case pageIdentity:
		data, err := u.control(c)
		if err != nil {
			return err
		}
		body = append(data[4:4+int(binary.BigEndian.Uint16(data[2:]))], u.t10Designator()...)
	case pageLimits:
		body = limits()
	case pageMedium:
		body = make([]byte, 0x3c)
		binary.BigEndian.PutUint16(body, 1) // non-rotating
	case pageProvisioning:
		// LBPU, LBPWS, LBPWS10: all three ways to unmap; LBPRZ: then zeros are
		// read; provisioning type 2: thin.
		body = []byte{0, 0xe4, 2, 0}
	default:
		return errField
	}
	data := append([]byte{0, page, byte(len(body) >> 8), byte(len(body))}, body...)
	return c.reply(data, allocation)
}

// t10Designator is the vendor identification designator (SPC-4), which holds
// the volume's whole identity.
func (u *Unit) t10Designator() []byte {
	id := Vendor + u.volume
	return append([]byte{0x02, 0x01, 0, byte(len(id))}, id...)
}

// limits is page B0h without its header (SBC-3).
func limits() []byte {
	b := make([]byte, 0x3c)
	b[1] = maxCompareAndWrite
	binary.BigEndian.PutUint16(b[2:], optimalGranularity)
	binary.BigEndian.PutUint32(b[4:], MaxTransfer/BlockSize)
	binary.BigEndian.PutUint32(b[8:], optimalTransfer)
	binary.BigEndian.PutUint32(b[16:], 0xffffffff) // UNMAP: blocks
	binary.BigEndian.PutUint32(b[20:], maxUnmapDescriptors)
	binary.BigEndian.PutUint32(b[24:], optimalGranularity) // of UNMAP
	binary.BigEndian.PutUint32(b[28:], 1<<31)              // UGAVALID, alignment 0
	binary.BigEndian.PutUint64(b[32:], maxWriteSame)
	return b
}

// reportLUNs is REPORT LUNS (SPC-4). Who has the answer need not be told any more
// that it has changed.
func reportLUNs(_ context.Context, u *Unit, c *Command) error {
	allocation := binary.BigEndian.Uint32(c.CDB[6:])
	if allocation < 16 {
		return errField
	}
	u.units.All(func(u *Unit) { u.forget(c.Nexus, attentionLUNs) })
	data, err := u.control(c)
	if err != nil {
		return err
	}
	return c.reply(data[:8+binary.BigEndian.Uint32(data)], int(allocation))
}
