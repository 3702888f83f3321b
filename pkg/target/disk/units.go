package disk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"sync/atomic"
)

// Units are the logical units of one target. There is always one at least.
type Units struct {
	model *Model
	tid   int
	byLUN atomic.Pointer[map[uint8]*Unit] // never modified
}

// Errors of Add and Remove.
var (
	// ErrLUNExists is returned for a number that a unit has.
	ErrLUNExists = errors.New("LUN exists")
	// ErrNoLUN is returned for a number that no unit has.
	ErrNoLUN = errors.New("no such LUN")
	// ErrLastLUN is returned for the only unit: it goes with its target.
	ErrLastLUN = errors.New("a target has one LUN at least")
)

// NewUnits enters units as those of the target called name.
func NewUnits(m *Model, name string, byLUN map[uint8]*Unit) *Units {
	us := &Units{model: m, tid: m.add(name)}
	for lun, u := range byLUN {
		u.units, u.number = us, lun
	}
	us.set(maps.Clone(byLUN))
	return us
}

// set replaces the units.
func (us *Units) set(byLUN map[uint8]*Unit) {
	us.byLUN.Store(&byLUN)
	us.model.setUnits(us.tid, byLUN)
}

// Add enters one more unit; initiators learn that there are others (SPC-4). It is not
// called at the same time as Add or Remove.
func (us *Units) Add(lun uint8, u *Unit) error {
	byLUN := maps.Clone(*us.byLUN.Load())
	if byLUN[lun] != nil {
		return ErrLUNExists
	}
	us.inventoryChanged()
	u.units, u.number = us, lun
	byLUN[lun] = u
	us.set(byLUN)
	return nil
}

// Remove takes a unit out and returns it; commands that came before may still run on
// it. It is not called at the same time as Add or Remove.
func (us *Units) Remove(lun uint8) (*Unit, error) {
	byLUN := maps.Clone(*us.byLUN.Load())
	u := byLUN[lun]
	switch {
	case u == nil:
		return nil, ErrNoLUN
	case len(byLUN) == 1:
		return nil, ErrLastLUN
	}
	delete(byLUN, lun)
	us.set(byLUN)
	us.inventoryChanged()
	return u, nil
}

// inventoryChanged tells every initiator that REPORT LUNS has a new answer.
func (us *Units) inventoryChanged() {
	us.All(func(u *Unit) { u.alert(attentionLUNs, nil) })
}

// Close takes the units out of the model. No command may run any more.
func (us *Units) Close() { us.model.remove(us.tid) }

// Unit returns a unit by number, nil if there is none.
func (us *Units) Unit(lun uint8) *Unit { return (*us.byLUN.Load())[lun] }

// All calls f for every unit.
func (us *Units) All(f func(*Unit)) {
	for _, u := range *us.byLUN.Load() {
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
	return us.Unit(uint8(number))
}

// Execute carries out a command on a unit that Find has returned, nil if it found
// none, and sets its outcome, unless ctx is done: then it is not carried out, and
// says so. A panic in it costs this command only.
func (us *Units) Execute(ctx context.Context, u *Unit, c *Command) {
	var err error
	defer func() {
		if r := recover(); r != nil {
			err = &deviceError{errHardware, fmt.Errorf("panic: %v\n%s", r, debug.Stack())}
		}
		c.conclude(err)
	}()
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case u != nil:
		err = u.perform(ctx, c)
	default:
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
	for _, u := range *us.byLUN.Load() { // any of them can tell
		return reportLUNs(context.Background(), u, c)
	}
	return errLUN
}
