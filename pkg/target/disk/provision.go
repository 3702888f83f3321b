package disk

import (
	"bytes"
	"context"
	"encoding/binary"
)

// unmap is UNMAP (SBC-3). All descriptors are checked before the first is
// carried out.
//
//	0 length, not counting these two bytes    2 length of the descriptors    8 descriptors:
//	  0 first block (8)   8 number of blocks (4)   12 reserved
func unmap(ctx context.Context, u *Unit, c *Command) error {
	n := int(binary.BigEndian.Uint16(c.CDB[7:]))
	if n == 0 {
		return nil
	}
	if n < 8 {
		return errListLength
	}
	list, err := c.parameters(ctx, n)
	if err != nil {
		return err
	}
	descriptors := list[8:]
	if d := int(binary.BigEndian.Uint16(list[2:])) / 16 * 16; d < len(descriptors) {
		descriptors = descriptors[:d]
	}
	type span struct{ off, n int64 }
	var spans []span
	for ; len(descriptors) >= 16; descriptors = descriptors[16:] {
		off, n, err := u.span(binary.BigEndian.Uint64(descriptors), binary.BigEndian.Uint32(descriptors[8:]))
		if err != nil {
			return err
		}
		if n > 0 {
			spans = append(spans, span{off, n})
		}
	}
	for _, s := range spans {
		err := u.change(ctx, 1, func() error { return u.discard(ctx, s.off, s.n) })
		if err != nil {
			return err
		}
	}
	return nil
}

// discard gives up blocks. Without a write cache that they read as zeros is on stable
// storage, too, when it returns.
func (u *Unit) discard(ctx context.Context, off, n int64) error {
	err := u.device.Discard(ctx, off, n)
	if err == nil && !u.writeCache.Load() {
		err = u.device.Flush(ctx)
	}
	return err
}

// patternBuffer is how much of a repeated block is written at once, in bytes.
const patternBuffer = 256 << 10

// writeSame is WRITE SAME(10) and (16) (SBC-3).
func writeSame(ctx context.Context, u *Unit, c *Command) error {
	lba, blocks := c.extent()
	off, n, err := u.span(lba, blocks)
	if err != nil {
		return err
	}
	if blocks == 0 {
		n = u.blocks.Load()*BlockSize - off
	}
	if n > maxWriteSame*BlockSize {
		return errField
	}
	var block []byte
	if group(c.CDB[0]) != 4 || c.CDB[1]&bitNDOB == 0 {
		if c.Expected != BlockSize {
			return errField
		}
		c.Moves = BlockSize
		if block, err = c.Transfer.Out(ctx, BlockSize); err != nil {
			return err
		}
	}
	force := !u.writeCache.Load()
	return u.change(ctx, 1, func() error {
		switch {
		case !isZero(block):
			return u.repeat(ctx, block, off, n, force)
		case c.CDB[1]&bitUnmap != 0:
			return u.discard(ctx, off, n)
		}
		return u.device.WriteZeroes(ctx, off, n, force)
	})
}

// repeat fills n bytes with a block.
func (u *Unit) repeat(ctx context.Context, block []byte, off, n int64, fua bool) error {
	p := bytes.Repeat(block, int(min(n, patternBuffer))/BlockSize)
	for n > 0 {
		p = p[:min(n, int64(len(p)))]
		if err := u.device.WriteAt(ctx, p, off, fua); err != nil {
			return err
		}
		off, n = off+int64(len(p)), n-int64(len(p))
	}
	return nil
}

// Provisioning statuses of GET LBA STATUS (SBC-3).
const (
	statusMapped      = 0
	statusDeallocated = 1
)

// Bounds of one answer to GET LBA STATUS, which may tell less than it is asked for.
const (
	maxStatuses   = 64
	maxStatusSpan = 64 << 30 // bytes looked at
)

// lbaStatus is GET LBA STATUS (SBC-3).
//
//	0 length of what follows   8 descriptors:
//	  0 first block (8)   8 number of blocks (4)   12 provisioning status   13 reserved
func lbaStatus(ctx context.Context, u *Unit, c *Command) error {
	lba, allocation := c.extent() // the allocation length is where others have blocks
	off, _, err := u.span(lba, 1)
	if err != nil {
		return err
	}
	end := min(u.blocks.Load()*BlockSize, off+maxStatusSpan)
	data := make([]byte, 8)
	for n := 0; off < end && n < maxStatuses && (n == 0 || len(data)+16 <= int(allocation)); n++ {
		stored, length, err := u.mapped(ctx, off, end)
		if err != nil {
			return readFailed(err)
		}
		status := byte(statusDeallocated)
		if stored {
			status = statusMapped
		}
		data = binary.BigEndian.AppendUint64(data, uint64(off/BlockSize))
		data = binary.BigEndian.AppendUint32(data, uint32(length/BlockSize))
		data = append(data, status, 0, 0, 0)
		off += length
	}
	binary.BigEndian.PutUint32(data, uint32(len(data)-4))
	return c.reply(data, int(allocation))
}

// mapped is the device's Mapped for off to end, with neighbours that are alike
// joined.
func (u *Unit) mapped(ctx context.Context, off, end int64) (stored bool, length int64, err error) {
	m, ok := u.device.(Mapper)
	if !ok {
		return true, end - off, nil
	}
	for at := off; at < end; {
		next, n, err := m.Mapped(ctx, at, end-at)
		if err != nil {
			return false, 0, err
		}
		if at > off && next != stored {
			break
		}
		stored = next
		at += n
		length = at - off
	}
	return stored, length, nil
}
