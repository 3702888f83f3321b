package disk

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/gostor/gotgt/pkg/scsi"
)

// Unit attentions of persistent reservations.
var (
	attentionPreempted = sense(scsi.UNIT_ATTENTION, scsi.ASC_RESERVATIONS_PREEMPTED)
	attentionReleased  = sense(scsi.UNIT_ATTENTION, scsi.ASC_RESERVATIONS_RELEASED)
	attentionRemoved   = sense(scsi.UNIT_ATTENTION, ascRegistrationsPreempted)
)

// Bits of byte 20 of the parameter list of PERSISTENT RESERVE OUT.
const bitAPTPL = 0x01

// persistOut is PERSISTENT RESERVE OUT (SPC-4). Its parameter list:
//
//	0 reservation key   8 service action reservation key   20 SPEC_I_PT, ALL_TG_PT, APTPL
func persistOut(ctx context.Context, u *Unit, c *Command) error {
	const length = 24
	if binary.BigEndian.Uint32(c.CDB[5:]) != length {
		return errListLength
	}
	list, err := c.parameters(ctx, length)
	if err != nil {
		return err
	}
	o := persistAction{
		nexus:  c.Nexus,
		scope:  c.CDB[2] >> 4,
		asked:  c.CDB[2] & 0x0f,
		key:    binary.BigEndian.Uint64(list),
		newKey: binary.BigEndian.Uint64(list[8:]),
		aptpl:  list[20]&bitAPTPL != 0,
	}
	if list[20]&^bitAPTPL != 0 || o.aptpl && u.reservation.keeper == nil {
		return errListField
	}
	action := c.CDB[1] & 0x1f
	err = u.reservation.change(ctx, func(p *registrations) error {
		o.registrations = p
		return o.run(action)
	})
	if err != nil {
		return err
	}
	for _, due := range o.due {
		u.alert(due.sense, func(n Nexus) bool { return due.to[n] })
	}
	if action == scsi.PR_OUT_PREEMPT_AND_ABORT {
		return c.Transfer.Abort(ctx, u, o.preempted)
	}
	return nil
}

// persistAction is one PERSISTENT RESERVE OUT.
type persistAction struct {
	*registrations // to be changed
	nexus          Nexus
	scope, asked   byte // asked: the type of a reservation
	key, newKey    uint64
	aptpl          bool

	preempted []Nexus
	due       []attention
}

// attention is a unit attention for some nexuses.
type attention struct {
	sense *senseError
	to    map[Nexus]bool
}

// run carries out a service action.
func (o *persistAction) run(action byte) error {
	key, registered := o.keys[o.nexus]
	switch action {
	case scsi.PR_OUT_REGISTER:
		if key != o.key { // 0 where not registered
			return errConflict
		}
		return o.register(registered)
	case scsi.PR_OUT_REGISTER_AND_IGNORE_EXISTING_KEY:
		return o.register(registered)
	}
	if !registered || key != o.key {
		return errConflict
	}
	switch action {
	case scsi.PR_OUT_RESERVE:
		return o.reserve()
	case scsi.PR_OUT_RELEASE:
		return o.release()
	case scsi.PR_OUT_CLEAR:
		o.clear()
		return nil
	}
	return o.preempt()
}

// register is REGISTER and REGISTER AND IGNORE EXISTING KEY (SPC-4).
func (o *persistAction) register(registered bool) error {
	switch {
	case o.newKey == 0 && !registered:
		return nil
	case o.newKey == 0:
		last := len(o.keys) == 1
		held := o.holds(o.nexus)
		delete(o.keys, o.nexus)
		if held && (last || !allRegistrants(o.kind)) {
			o.end()
		}
	case !registered && len(o.keys) == maxRegistrations:
		return sense(scsi.ILLEGAL_REQUEST, scsi.ASC_INSUFFICIENT_REGISTRATION_RESOURCES)
	default:
		if o.keys == nil {
			o.keys = map[Nexus]uint64{}
		}
		o.keys[o.nexus] = o.newKey
	}
	o.durable = o.aptpl
	o.generation++
	return nil
}

// reserve is RESERVE (SPC-4).
func (o *persistAction) reserve() error {
	if o.scope != scsi.PR_LU_SCOPE || !validKind(o.asked) {
		return errField
	}
	if o.holder == nil {
		o.take()
		return nil
	}
	if !o.holds(o.nexus) || o.kind != o.asked {
		return errConflict
	}
	return nil
}

// release is RELEASE (SPC-4).
func (o *persistAction) release() error {
	if !o.holds(o.nexus) {
		return nil
	}
	if o.scope != scsi.PR_LU_SCOPE || o.asked != o.kind {
		return sense(scsi.ILLEGAL_REQUEST, scsi.ASC_INVALID_RELEASE_OF_PERSISTENT_RESERVATION)
	}
	o.end()
	return nil
}

// clear is CLEAR (SPC-4).
func (o *persistAction) clear() {
	o.alert(attentionPreempted, o.registrants())
	o.keys, o.holder = nil, nil
	o.generation++
}

// preempt is PREEMPT and PREEMPT AND ABORT (SPC-4).
func (o *persistAction) preempt() error {
	held := o.kind
	all := o.holder != nil && allRegistrants(held) && o.newKey == 0
	takesOver := all || o.holder != nil && !allRegistrants(held) && o.keys[*o.holder] == o.newKey
	if takesOver && (o.scope != scsi.PR_LU_SCOPE || !validKind(o.asked)) {
		return errField
	}
	if o.newKey == 0 && !all {
		return errListField
	}
	found := false
	for _, n := range o.registrants() {
		if !all && o.keys[n] != o.newKey {
			continue
		}
		found = true
		if n != o.nexus || !takesOver && !all {
			o.preempted = append(o.preempted, n)
			delete(o.keys, n)
		}
	}
	if !found && !all {
		return errConflict
	}
	o.generation++
	o.alert(attentionRemoved, o.preempted)
	if takesOver {
		if toRegistrants(held) && held != o.asked {
			o.alert(attentionReleased, o.registrants())
		}
		o.take()
	} else if len(o.keys) == 0 { // its own key was that of the last registrants
		o.end()
	}
	return nil
}

// take makes the nexus the holder of a reservation.
func (o *persistAction) take() { o.holder, o.kind = &o.nexus, o.asked }

// end ends the reservation, and tells those whom it let in.
func (o *persistAction) end() {
	if toRegistrants(o.kind) {
		o.alert(attentionReleased, o.registrants())
	}
	o.holder = nil
}

// alert makes a unit attention due to others of a list.
func (o *persistAction) alert(e *senseError, list []Nexus) {
	to := map[Nexus]bool{}
	for _, n := range list {
		to[n] = n != o.nexus
	}
	o.due = append(o.due, attention{e, to})
}

// persistIn is PERSISTENT RESERVE IN (SPC-4).
func persistIn(_ context.Context, u *Unit, c *Command) error {
	allocation := int(binary.BigEndian.Uint16(c.CDB[7:]))
	p := u.reservation.current.Load()
	var data []byte
	switch c.CDB[1] & 0x1f {
	case scsi.PR_IN_READ_KEYS:
		for _, n := range p.registrants() {
			data = binary.BigEndian.AppendUint64(data, p.keys[n])
		}
	case scsi.PR_IN_READ_RESERVATION:
		if p.holder != nil {
			data = make([]byte, 16)
			if !allRegistrants(p.kind) {
				binary.BigEndian.PutUint64(data, p.keys[*p.holder])
			}
			data[13] = p.kind
		}
	case scsi.PR_IN_REPORT_CAPABILITIES:
		return c.reply(u.reservation.capabilities(), allocation)
	case scsi.PR_IN_READ_FULL_STATUS:
		for _, n := range p.registrants() {
			data = append(data, p.status(n)...)
		}
	}
	head := binary.BigEndian.AppendUint32(nil, p.generation)
	head = binary.BigEndian.AppendUint32(head, uint32(len(data)))
	return c.reply(append(head, data...), allocation)
}

// status is a full status descriptor with the iSCSI TransportID of a nexus
// (SPC-4).
func (p *registrations) status(n Nexus) []byte {
	name := fmt.Appendf(nil, "%s,i,0x%012x\x00", n.Name, n.ISID)
	name = append(name, make([]byte, -len(name)&3)...)
	d := make([]byte, 24, 28+len(name))
	binary.BigEndian.PutUint64(d, p.keys[n])
	if p.holds(n) {
		d[12], d[13] = 1, p.kind
	}
	d[19] = portID
	binary.BigEndian.PutUint32(d[20:], uint32(4+len(name)))
	d = append(d, 0x45, 0, byte(len(name)>>8), byte(len(name)))
	return append(d, name...)
}

// capabilities is the answer to REPORT CAPABILITIES (SPC-4).
func (r *reservation) capabilities() []byte {
	const (
		typesValid = 0x80
		capable    = 0x01 // PTPL_C in byte 2, PTPL_A in byte 3
	)
	b := []byte{0, 8, 0, typesValid, 0xea, 0x01, 0, 0} // all six types
	if r.keeper != nil {
		b[2] |= capable
	}
	if r.current.Load().durable {
		b[3] |= capable
	}
	return b
}
