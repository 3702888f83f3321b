package disk

import (
	"context"
	"sync"
	"sync/atomic"
)

// reservation is who may use a unit: the legacy RESERVE(6) of SPC-2.
type reservation struct {
	inUse atomic.Bool // any reservation at all

	mu     sync.Mutex
	holder *Nexus // of RESERVE(6)
}

// conflicts reports whether an operation of n is to be refused.
func (r *reservation) conflicts(n Nexus, o *operation) bool {
	if !r.inUse.Load() {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.holder != nil && *r.holder != n && o.class != informs && o.class != reserving
}

// nexusLost ends a legacy reservation of n.
func (r *reservation) nexusLost(n Nexus) { r.release(n) }

// reset ends any legacy reservation.
func (r *reservation) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.set(nil)
}

func (r *reservation) set(n *Nexus) {
	r.holder = n
	r.inUse.Store(n != nil)
}

func (r *reservation) release(n Nexus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.holder != nil && *r.holder == n {
		r.set(nil)
	}
}

// reserve6 is RESERVE(6) (SPC-2 §7.21).
func reserve6(_ context.Context, u *Unit, c *Command) error {
	r := &u.reservation
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.holder != nil && *r.holder != c.Nexus {
		return errConflict
	}
	holder := c.Nexus // not a pointer into the command, which would keep it
	r.set(&holder)
	return nil
}

// release6 is RELEASE(6) (SPC-2 §7.17); it is no error to hold nothing.
func release6(_ context.Context, u *Unit, c *Command) error {
	u.reservation.release(c.Nexus)
	return nil
}
