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
	if list[20] != 0 {
		return errListField
	}
	o := persistAction{
		unit:   u,
		r:      &u.reservation,
		nexus:  c.Nexus,
		scope:  c.CDB[2] >> 4,
		kind:   c.CDB[2] & 0x0f,
		key:    binary.BigEndian.Uint64(list),
		newKey: binary.BigEndian.Uint64(list[8:]),
	}
	action := c.CDB[1] & 0x1f
	preempted, err := o.run(action)
	if err == nil && action == scsi.PR_OUT_PREEMPT_AND_ABORT {
		err = c.Transfer.Abort(ctx, u, preempted)
	}
	return err
}

// persistAction is one PERSISTENT RESERVE OUT.
type persistAction struct {
	unit        *Unit
	r           *reservation
	nexus       Nexus
	scope, kind byte
	key, newKey uint64
}

// run carries out a service action and returns the nexuses that it preempted.
func (o *persistAction) run(action byte) ([]Nexus, error) {
	r := o.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.legacy != nil {
		return nil, errConflict
	}
	key, registered := r.keys[o.nexus]
	switch action {
	case scsi.PR_OUT_REGISTER:
		if key != o.key { // 0 where not registered
			return nil, errConflict
		}
		return nil, o.register(registered)
	case scsi.PR_OUT_REGISTER_AND_IGNORE_EXISTING_KEY:
		return nil, o.register(registered)
	}
	if !registered || key != o.key {
		return nil, errConflict
	}
	switch action {
	case scsi.PR_OUT_RESERVE:
		return nil, o.reserve()
	case scsi.PR_OUT_RELEASE:
		return nil, o.release()
	case scsi.PR_OUT_CLEAR:
		o.clear()
		return nil, nil
	}
	return o.preempt()
}

// register is REGISTER and REGISTER AND IGNORE EXISTING KEY (SPC-4).
func (o *persistAction) register(registered bool) error {
	r := o.r
	switch {
	case o.newKey == 0 && !registered:
		return nil
	case o.newKey == 0:
		last := len(r.keys) == 1
		held := r.holds(o.nexus)
		delete(r.keys, o.nexus)
		if held && (last || !allRegistrants(r.kind)) {
			if toRegistrants(r.kind) {
				o.alert(attentionReleased, r.registrants())
			}
			r.reserve(nil, 0)
		}
	case !registered && len(r.keys) == maxRegistrations:
		return sense(scsi.ILLEGAL_REQUEST, scsi.ASC_INSUFFICIENT_REGISTRATION_RESOURCES)
	default:
		if r.keys == nil {
			r.keys = map[Nexus]uint64{}
		}
		r.keys[o.nexus] = o.newKey
	}
	r.generation++
	return nil
}

// reserve is RESERVE (SPC-4).
func (o *persistAction) reserve() error {
	if o.scope != scsi.PR_LU_SCOPE || !validKind(o.kind) {
		return errField
	}
	r := o.r
	if r.holder == nil {
		r.reserve(&o.nexus, o.kind)
		return nil
	}
	if !r.holds(o.nexus) || r.kind != o.kind {
		return errConflict
	}
	return nil
}

// release is RELEASE (SPC-4).
func (o *persistAction) release() error {
	r := o.r
	if !r.holds(o.nexus) {
		return nil
	}
	if o.scope != scsi.PR_LU_SCOPE || o.kind != r.kind {
		return sense(scsi.ILLEGAL_REQUEST, scsi.ASC_INVALID_RELEASE_OF_PERSISTENT_RESERVATION)
	}
	if toRegistrants(r.kind) {
		o.alert(attentionReleased, r.registrants())
	}
	r.reserve(nil, 0)
	return nil
}

// clear is CLEAR (SPC-4).
func (o *persistAction) clear() {
	o.alert(attentionPreempted, o.r.registrants())
	o.r.keys = nil
	o.r.reserve(nil, 0)
	o.r.generation++
}

// preempt is PREEMPT and PREEMPT AND ABORT (SPC-4).
func (o *persistAction) preempt() ([]Nexus, error) {
	r := o.r
	all := r.holder != nil && allRegistrants(r.kind) && o.newKey == 0
	takesOver := all || r.holder != nil && !allRegistrants(r.kind) && r.keys[*r.holder] == o.newKey
	if takesOver && (o.scope != scsi.PR_LU_SCOPE || !validKind(o.kind)) {
		return nil, errField
	}
	if o.newKey == 0 && !all {
		return nil, errListField
	}
	var removed []Nexus
	found := false
	for _, n := range r.registrants() {
		if !all && r.keys[n] != o.newKey {
			continue
		}
		found = true
		if n != o.nexus || !takesOver && !all {
			removed = append(removed, n)
			delete(r.keys, n)
		}
	}
	if !found && !all {
		return nil, errConflict
	}
	r.generation++
	o.alert(attentionRemoved, removed)
	if takesOver {
		if toRegistrants(r.kind) && r.kind != o.kind {
			o.alert(attentionReleased, r.registrants())
		}
		r.reserve(&o.nexus, o.kind)
	}
	return removed, nil
}

// alert establishes a unit attention for others of a list.
func (o *persistAction) alert(e *senseError, list []Nexus) {
	chosen := map[Nexus]bool{}
	for _, n := range list {
		chosen[n] = n != o.nexus
	}
	o.unit.alert(e, func(n Nexus) bool { return chosen[n] })
}

// persistIn is PERSISTENT RESERVE IN (SPC-4).
func persistIn(_ context.Context, u *Unit, c *Command) error {
	allocation := int(binary.BigEndian.Uint16(c.CDB[7:]))
	r := &u.reservation
	r.mu.Lock()
	defer r.mu.Unlock()
	var data []byte
	switch c.CDB[1] & 0x1f {
	case scsi.PR_IN_READ_KEYS:
		for _, n := range r.registrants() {
			data = binary.BigEndian.AppendUint64(data, r.keys[n])
		}
	case scsi.PR_IN_READ_RESERVATION:
		if r.holder != nil {
			data = make([]byte, 16)
			if !allRegistrants(r.kind) {
				binary.BigEndian.PutUint64(data, r.keys[*r.holder])
			}
			data[13] = r.kind
		}
	case scsi.PR_IN_REPORT_CAPABILITIES:
		// Type mask valid, and all six types.
		return c.reply([]byte{0, 8, 0, 0x80, 0xea, 0x01, 0, 0}, allocation)
	case scsi.PR_IN_READ_FULL_STATUS:
		for _, n := range r.registrants() {
			data = append(data, r.status(n)...)
		}
	}
	head := binary.BigEndian.AppendUint32(nil, r.generation)
	head = binary.BigEndian.AppendUint32(head, uint32(len(data)))
	return c.reply(append(head, data...), allocation)
}

// status is a full status descriptor with the iSCSI TransportID of a nexus
// (SPC-4). r is locked.
func (r *reservation) status(n Nexus) []byte {
	name := fmt.Appendf(nil, "%s,i,0x%012x\x00", n.Name, n.ISID)
	name = append(name, make([]byte, -len(name)&3)...)
	d := make([]byte, 24, 28+len(name))
	binary.BigEndian.PutUint64(d, r.keys[n])
	if r.holds(n) {
		d[12], d[13] = 1, r.kind
	}
	d[19] = portID
	binary.BigEndian.PutUint32(d[20:], uint32(4+len(name)))
	d = append(d, 0x45, 0, byte(len(name)>>8), byte(len(name)))
	return append(d, name...)
}
