package disk

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/gostor/gotgt/pkg/scsi"
)

// reservation is who may use a unit: persistent reservations (SPC-4), or
// the legacy RESERVE(6) of SPC-2, which exclude each other. It lives as long as
// the unit; persistence through power loss (APTPL) is not offered.
type reservation struct {
	inUse atomic.Bool // there is a reservation: commands must ask conflicts

	mu         sync.Mutex
	legacy     *Nexus // holder of RESERVE(6)
	generation uint32 // PRGENERATION
	keys       map[Nexus]uint64
	holder     *Nexus // of the persistent reservation
	kind       byte   // its type
}

// maxRegistrations bounds the nexuses that are registered.
const maxRegistrations = 256

// allRegistrants reports whether all who are registered hold a reservation of a
// kind.
func allRegistrants(kind byte) bool {
	return kind == scsi.PR_TYPE_WRITE_EXCLUSIVE_ALLREG || kind == scsi.PR_TYPE_EXCLUSIVE_ACCESS_ALLREG
}

// toRegistrants reports whether a kind of reservation lets all who are
// registered in.
func toRegistrants(kind byte) bool {
	return allRegistrants(kind) || kind == scsi.PR_TYPE_WRITE_EXCLUSIVE_REGONLY || kind == scsi.PR_TYPE_EXCLUSIVE_ACCESS_REGONLY
}

// againstReads reports whether a kind of reservation keeps others from reading.
func againstReads(kind byte) bool {
	return kind == scsi.PR_TYPE_EXCLUSIVE_ACCESS || kind == scsi.PR_TYPE_EXCLUSIVE_ACCESS_REGONLY ||
		kind == scsi.PR_TYPE_EXCLUSIVE_ACCESS_ALLREG
}

func validKind(kind byte) bool {
	return kind == scsi.PR_TYPE_WRITE_EXCLUSIVE || againstReads(kind) || toRegistrants(kind)
}

// conflicts reports whether an operation of n is to be refused.
func (r *reservation) conflicts(n Nexus, o *operation) bool {
	if !r.inUse.Load() || o.class == informs || o.class == reserving {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.legacy != nil {
		return *r.legacy != n
	}
	if r.holder == nil || o.class != reads && o.class != writes || o.class == reads && !againstReads(r.kind) {
		return false
	}
	if toRegistrants(r.kind) {
		_, registered := r.keys[n]
		return !registered
	}
	return *r.holder != n
}

// nexusLost ends a legacy reservation of n.
func (r *reservation) nexusLost(n Nexus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.legacy != nil && *r.legacy == n {
		r.legacy = nil
		r.note()
	}
}

// reset ends any legacy reservation.
func (r *reservation) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.legacy = nil
	r.note()
}

// note keeps inUse right. r is locked.
func (r *reservation) note() { r.inUse.Store(r.legacy != nil || r.holder != nil) }

// holds reports whether n is a holder of the reservation. r is locked.
func (r *reservation) holds(n Nexus) bool {
	if r.holder == nil {
		return false
	}
	if allRegistrants(r.kind) {
		_, registered := r.keys[n]
		return registered
	}
	return *r.holder == n
}

// reserve makes n the holder, or nobody. r is locked.
func (r *reservation) reserve(n *Nexus, kind byte) {
	r.holder, r.kind = n, kind
	r.note()
}

// registrants returns those registered, in a fixed order. r is locked.
func (r *reservation) registrants() []Nexus {
	all := make([]Nexus, 0, len(r.keys))
	for n := range r.keys {
		all = append(all, n)
	}
	slices.SortFunc(all, func(a, b Nexus) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), bytes.Compare(a.ISID[:], b.ISID[:]))
	})
	return all
}

// reserve6 is RESERVE(6) (SPC-2).
func reserve6(_ context.Context, u *Unit, c *Command) error {
	r := &u.reservation
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.keys) > 0 || r.legacy != nil && *r.legacy != c.Nexus {
		return errConflict
	}
	holder := c.Nexus // not a pointer into the command, which would keep it
	r.legacy = &holder
	r.note()
	return nil
}

// release6 is RELEASE(6) (SPC-2); it is no error to hold nothing.
func release6(_ context.Context, u *Unit, c *Command) error {
	u.reservation.nexusLost(c.Nexus)
	return nil
}
