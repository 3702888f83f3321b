package disk

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime/debug"
)

// Units are the logical units of one target; they do not change.
type Units struct {
	model *Model
	tid   int
	byLUN map[uint8]*Unit
	// none answers for LUNs that do not exist: it can still tell about the
	// target's units.
	none *Unit
}

// NewUnits enters units as those of the target called name.
func NewUnits(m *Model, name string, byLUN map[uint8]*Unit) *Units {
	us := &Units{model: m, tid: m.add(name, byLUN), byLUN: byLUN}
	for lun, u := range byLUN {
		u.model, u.number, u.tid = m, lun, us.tid
		us.none = &Unit{model: m, number: lun, tid: us.tid}
	}
	return us
}

// Close takes the units out of the model. No command may run any more.
func (us *Units) Close() { us.model.remove(us.tid) }

// Unit returns a unit by number, nil if there is none.
func (us *Units) Unit(lun uint8) *Unit { return us.byLUN[lun] }

// All calls f for every unit.
func (us *Units) All(f func(*Unit)) {
	for _, u := range us.byLUN {
		f(u)
	}
}

// Find returns the unit that an 8-byte logical unit number stands for (SAM-5):
// peripheral device or flat space addressing of one level. It returns
// nil if there is none.
func (us *Units) Find(lun uint64) *Unit {
	method, number := lun>>62, lun>>48&0x3fff
	if lun&(1<<48-1) != 0 || number > 255 || method > 1 {
		return nil
	}
	return us.byLUN[uint8(number)]
}

// Execute carries out a command on the unit at lun and sets its outcome. A panic
// in it costs this command only.
func (us *Units) Execute(ctx context.Context, lun uint64, c *Command) {
	var err error
	defer func() {
		if r := recover(); r != nil {
			err = &deviceError{errHardware, fmt.Errorf("panic: %v\n%s", r, debug.Stack())}
		}
		c.conclude(err)
	}()
	if u := us.Find(lun); u != nil {
		err = u.perform(ctx, c)
	} else {
		err = us.absent(c)
	}
}

// absent answers for a logical unit that does not exist (SPC-4,
// SAM-5): what can be asked of it is that it does not exist, and what does.
func (us *Units) absent(c *Command) error {
	o, err := find(&c.CDB)
	if err != nil || o.class != informs || !o.allows(&c.CDB) {
		return errLUN
	}
	switch c.CDB[0] {
	case 0x12: // INQUIRY
		if c.CDB[1]&1 != 0 {
			return errLUN
		}
		data := make([]byte, 36)
		data[0], data[2], data[3], data[4] = 0x7f, 5, 0x12, 31 // no device can be here
		return c.reply(data, int(binary.BigEndian.Uint16(c.CDB[3:])))
	case 0x03: // REQUEST SENSE
		return c.reply(errLUN.bytes(), int(c.CDB[4]))
	}
	return reportLUNs(context.Background(), us.none, c)
}
