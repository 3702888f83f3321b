package disk

import (
	"context"
	"encoding/binary"

	"github.com/gostor/gotgt/pkg/api"
)

// Mode pages (SPC-4, SBC-3), without the two bytes of their header:
// the current values, followed by the mask of what MODE SELECT can change, as
// gotgt wants them.
const (
	pageCaching = 0x08
	bitWCE      = 0x04 // byte 2 of the caching page: writeback cache enable
	cachingLen  = 18
)

func modePages() []api.ModePage {
	caching := make([]byte, 2*cachingLen)
	caching[0] = bitWCE
	caching[cachingLen] = bitWCE
	control := make([]byte, 2*10)
	control[1] = 0x10 // queue algorithm modifier 1: commands are reordered freely
	return []api.ModePage{
		{PageCode: pageCaching, Size: cachingLen, Data: caching},
		{PageCode: 0x0a, Size: 10, Data: control},
		{PageCode: 0x1c, Size: 10, Data: make([]byte, 2*10)}, // informational exceptions: none
	}
}

// setWriteCache makes the caching page show the WCE bit.
func setWriteCache(on bool) func(*api.SCSILu) {
	return func(lu *api.SCSILu) {
		lu.ModePages = modePages()
		if !on {
			lu.ModePages[0].Data[0] &^= bitWCE
		}
	}
}

// blockDescriptor is the short LBA mode parameter block descriptor (SBC-3).
func blockDescriptor(bytes int64) []byte {
	b := make([]byte, 8)
	binary.BigEndian.PutUint32(b, uint32(min(bytes/BlockSize, 1<<32-1)))
	binary.BigEndian.PutUint32(b[4:], BlockSize)
	return b
}

// Values of the page control field of MODE SENSE.
const pageDefaults = 2

// modeSense is MODE SENSE(6) and (10) (SPC-4).
func modeSense(_ context.Context, u *Unit, c *Command) error {
	data, err := u.control(c)
	if err != nil {
		return err
	}
	six := cdbLen(c.CDB[0]) == 6
	n, allocation := 2+int(binary.BigEndian.Uint16(data)), int(binary.BigEndian.Uint16(c.CDB[7:]))
	if six {
		n, allocation = 1+int(data[0]), int(c.CDB[4])
	}
	if c.CDB[2]>>6 == pageDefaults {
		showDefaultCache(data[:n], six)
	}
	return c.reply(data[:n], allocation)
}

// showDefaultCache sets WCE, which gotgt shows as it is, in an answer that is
// to show defaults.
func showDefaultCache(data []byte, six bool) {
	at := 8 + int(binary.BigEndian.Uint16(data[6:]))
	if six {
		at = 4 + int(data[3])
	}
	for ; at+2 < len(data); at += 2 + int(data[at+1]) {
		if data[at] == pageCaching {
			data[at+2] |= bitWCE
		}
	}
}

// modeSelect is MODE SELECT(6) and (10) (SPC-4). Only WCE can be
// changed; a list that would change anything else is refused as a whole.
func modeSelect(ctx context.Context, u *Unit, c *Command) error {
	if c.CDB[1]&1 != 0 {
		return errField // SP: pages cannot be saved
	}
	header, n := 8, int(binary.BigEndian.Uint16(c.CDB[7:]))
	if cdbLen(c.CDB[0]) == 6 {
		header, n = 4, int(c.CDB[4])
	}
	if n == 0 {
		return nil
	}
	list, err := c.parameters(ctx, n)
	if err != nil {
		return err
	}
	if len(list) < header {
		return errListLength
	}
	descriptors := int(list[3])
	if header == 8 {
		descriptors = int(binary.BigEndian.Uint16(list[6:]))
	}
	if header+descriptors > len(list) {
		return errListLength
	}
	cache, err := selected(list[header+descriptors:], u.writeCache.Load())
	if err != nil {
		return err
	}
	if cache == u.writeCache.Load() {
		return nil
	}
	if !cache { // what the cache holds must reach the medium first
		if err := u.device.Flush(ctx); err != nil {
			return writeFailed(err)
		}
	}
	u.writeCache.Store(cache)
	u.units.model.update(u, setWriteCache(cache))
	u.alert(attentionMode, func(other Nexus) bool { return other != c.Nexus })
	return nil
}

// selected checks the pages of a MODE SELECT and returns the WCE they ask for.
func selected(pages []byte, cache bool) (bool, error) {
	for len(pages) > 0 {
		if len(pages) < 2 || len(pages) < 2+int(pages[1]) {
			return false, errListLength
		}
		code, values := pages[0]&0x3f, pages[2:2+pages[1]]
		pages = pages[2+len(values):]
		known := false
		for _, p := range modePages() {
			if p.PageCode != code || int(p.Size) != len(values) {
				continue
			}
			known = true
			for i, v := range values {
				if (v^p.Data[i])&^p.Data[int(p.Size)+i] != 0 {
					return false, errListField
				}
			}
		}
		if !known {
			return false, errListField
		}
		if code == pageCaching {
			cache = values[0]&bitWCE != 0
		}
	}
	return cache, nil
}
