package disk

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/gostor/gotgt/pkg/scsi"
	"golang.org/x/sync/semaphore"
)

// reservation is who may use a unit: persistent reservations (SPC-4), or
// the legacy RESERVE(6) of SPC-2, which exclude each other.
type reservation struct {
	volume  string
	keeper  Keeper              // nil: they do not outlive the unit
	changes *semaphore.Weighted // held by the one command that changes any of it
	legacy  atomic.Pointer[Nexus]
	current atomic.Pointer[registrations]
}

// registrations are the persistent reservations of a unit. What reservation.current
// points to is never modified.
type registrations struct {
	generation uint32 // PRGENERATION
	keys       map[Nexus]uint64
	holder     *Nexus // of the reservation; nil: there is none
	kind       byte   // its type
	durable    bool   // APTPL: kept through a loss of power
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

// newReservation takes up what the keeper, if there is one, has kept for a volume.
func newReservation(volume string, keeper Keeper) (*reservation, error) {
	r := &reservation{volume: volume, keeper: keeper, changes: semaphore.NewWeighted(1)}
	kept := &registrations{}
	if keeper != nil {
		text, err := keeper.Kept()
		if err == nil && text != nil {
			kept, err = decodeRegistrations(volume, text)
		}
		if err != nil {
			return nil, err
		}
	}
	r.current.Store(kept)
	return r, nil
}

// conflicts reports whether an operation of n is to be refused.
func (r *reservation) conflicts(n Nexus, o *operation) bool {
	if o.class == informs || o.class == reserving {
		return false
	}
	if holder := r.legacy.Load(); holder != nil {
		return *holder != n
	}
	p := r.current.Load()
	if p.holder == nil || o.class != reads && o.class != writes || o.class == reads && !againstReads(p.kind) {
		return false
	}
	if toRegistrants(p.kind) {
		_, registered := p.keys[n]
		return !registered
	}
	return *p.holder != n
}

// nexusLost ends a legacy reservation of n.
func (r *reservation) nexusLost(n Nexus) {
	if holder := r.legacy.Load(); holder != nil && *holder == n {
		r.legacy.CompareAndSwap(holder, nil)
	}
}

// reset ends any legacy reservation.
func (r *reservation) reset() { r.legacy.Store(nil) }

// change replaces the persistent reservations by a copy that act has changed, once
// the copy is kept if it has to be.
func (r *reservation) change(ctx context.Context, act func(*registrations) error) error {
	if err := r.changes.Acquire(ctx, 1); err != nil {
		return err
	}
	defer r.changes.Release(1)
	if r.legacy.Load() != nil {
		return errConflict
	}
	old := r.current.Load()
	next := *old
	next.keys = maps.Clone(old.keys)
	if err := act(&next); err != nil {
		return err
	}
	if old.durable || next.durable {
		if err := r.keeper.Keep(next.encode(r.volume)); err != nil {
			return &deviceError{errHardware, err}
		}
	}
	r.current.Store(&next)
	return nil
}

// holds reports whether n is a holder of the reservation.
func (p *registrations) holds(n Nexus) bool {
	if p.holder == nil {
		return false
	}
	if allRegistrants(p.kind) {
		_, registered := p.keys[n]
		return registered
	}
	return *p.holder == n
}

// registrants returns those registered, in a fixed order.
func (p *registrations) registrants() []Nexus {
	return slices.SortedFunc(maps.Keys(p.keys), func(a, b Nexus) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), bytes.Compare(a.ISID[:], b.ISID[:]))
	})
}

// reserve6 is RESERVE(6) (SPC-2).
func reserve6(ctx context.Context, u *Unit, c *Command) error {
	r := u.reservation
	if err := r.changes.Acquire(ctx, 1); err != nil {
		return err
	}
	defer r.changes.Release(1)
	holder := r.legacy.Load()
	if len(r.current.Load().keys) > 0 || holder != nil && *holder != c.Nexus {
		return errConflict
	}
	nexus := c.Nexus // not a pointer into the command, which would keep it
	r.legacy.Store(&nexus)
	return nil
}

// release6 is RELEASE(6) (SPC-2); it is no error to hold nothing.
func release6(_ context.Context, u *Unit, c *Command) error {
	u.reservation.nexusLost(c.Nexus)
	return nil
}
