package disk

import (
	"context"
	"encoding/binary"
	"slices"
)

// Reporting options of REPORT SUPPORTED OPERATION CODES (SPC-4).
const (
	reportAll    = 0
	reportCode   = 1 // by operation code, which has no service actions
	reportAction = 2 // by operation code and service action
	reportEither = 3 // by code, and by action if it has some
)

// reportOperations is REPORT SUPPORTED OPERATION CODES.
func reportOperations(_ context.Context, _ *Unit, c *Command) error {
	var (
		timeouts   = c.CDB[2]&0x80 != 0 // RCTD: add command time-outs, of which we state none
		code       = c.CDB[3]
		action     = binary.BigEndian.Uint16(c.CDB[4:])
		allocation = int(binary.BigEndian.Uint32(c.CDB[6:]))
		list       = byCode[code]
		hasActions = len(list) > 0 && list[0].action != nil
	)
	switch c.CDB[2] & 7 {
	case reportAll:
		return c.reply(allOperations(timeouts), allocation)
	case reportCode:
		if hasActions {
			return errField
		}
		action = 0
	case reportAction:
		if len(list) > 0 && !hasActions {
			return errField
		}
	case reportEither:
	default:
		return errField
	}
	i := slices.IndexFunc(list, func(o *operation) bool {
		return o.action == nil && action == 0 || o.action != nil && uint16(*o.action) == action
	})
	if i < 0 {
		return c.reply([]byte{0, 1, 0, 0}, allocation) // SUPPORT: not supported
	}
	return c.reply(list[i].describe(timeouts), allocation)
}

// noTimeouts is a command time-outs descriptor that states none.
var noTimeouts = []byte{0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

// describe is the one_command parameter data of a supported operation.
func (o *operation) describe(timeouts bool) []byte {
	support := byte(3) // as the standard says
	if timeouts {
		support |= 0x80
	}
	data := append([]byte{0, support, 0, byte(len(o.usage))}, o.usage...)
	if o.action != nil {
		data[5] = data[5]&^0x1f | *o.action
	}
	if timeouts {
		data = append(data, noTimeouts...)
	}
	return data
}

func allOperations(timeouts bool) []byte {
	data := make([]byte, 4)
	for i := range operations {
		o := &operations[i]
		d := [8]byte{0: o.usage[0], 7: byte(len(o.usage))}
		if o.action != nil {
			d[3], d[5] = *o.action, 1
		}
		if timeouts {
			d[5] |= 2
		}
		data = append(data, d[:]...)
		if timeouts {
			data = append(data, noTimeouts...)
		}
	}
	binary.BigEndian.PutUint32(data, uint32(len(data)-4))
	return data
}

// reportFunctions is REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS: abort task,
// abort task set, clear task set, logical unit reset and target reset.
func reportFunctions(_ context.Context, _ *Unit, c *Command) error {
	data := []byte{0x80 | 0x40 | 0x10 | 0x08 | 0x02, 0, 0, 0}
	if c.CDB[2]&0x80 != 0 { // REPD: extended format, no time-outs
		data = append(data, make([]byte, 12)...)
		data[3] = 12
	}
	return c.reply(data, int(binary.BigEndian.Uint32(c.CDB[6:])))
}
