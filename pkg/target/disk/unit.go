package disk

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gostor/gotgt/pkg/api"
	"golang.org/x/sync/semaphore"
)

// Unit is one logical unit: a Device and what SCSI remembers of it.
type Unit struct {
	device   Device
	volume   string
	readOnly bool

	// Set by Units.Add, then fixed.
	units  *Units
	number uint8
	lu     *api.SCSILu // gotgt's side; guarded by the model

	blocks      atomic.Int64 // capacity
	writeCache  atomic.Bool  // WCE: writes without FUA need not be on stable storage
	exclusive   *semaphore.Weighted
	attention   atomic.Int32 // unit attentions that wait in nexuses
	reservation *reservation

	mu      sync.Mutex
	nexuses map[Nexus][]*senseError // logged in, with the unit attentions due to each
}

// writers is the weight of an exclusive command (COMPARE AND WRITE, ORWRITE)
// among writes of weight 1: more than ever run at once.
const writers = 1 << 20

// NewUnit makes a unit. Its serial number and designators come from volume; keeper
// keeps its persistent reservations, nil: they end with the unit.
func NewUnit(volume string, device Device, readOnly bool, keeper Keeper) (*Unit, error) {
	r, err := newReservation(volume, keeper)
	if err != nil {
		return nil, err
	}
	u := &Unit{
		device:      device,
		volume:      volume,
		readOnly:    readOnly,
		lu:          newLU(volume, readOnly),
		exclusive:   semaphore.NewWeighted(writers),
		reservation: r,
		nexuses:     map[Nexus][]*senseError{},
	}
	u.writeCache.Store(true)
	u.setSize(device.Size())
	return u, nil
}

// setSize is called with the model's lock, or before the unit is in a model.
func (u *Unit) setSize(bytes int64) {
	u.blocks.Store(bytes / BlockSize)
	u.lu.Size = uint64(bytes)
	u.lu.ModeBlockDescriptor = blockDescriptor(bytes)
}

// Resize makes a new capacity known: every initiator gets the unit attention
// CAPACITY DATA HAS CHANGED.
func (u *Unit) Resize(bytes int64) {
	u.units.model.update(u, func(*api.SCSILu) { u.setSize(bytes) })
	u.alert(attentionCapacity, nil)
}

// Attach is called when an initiator port has logged in. To it the unit has just
// been powered on: which of power on, reset and nexus loss it was is not told apart
// (SAM-5), and Linux carries on after any of them.
func (u *Unit) Attach(n Nexus) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.drop(n)
	u.nexuses[n] = []*senseError{attentionPowerOn}
	u.attention.Add(1)
}

// Detach is called when its session has ended: I_T nexus loss.
func (u *Unit) Detach(n Nexus) {
	u.mu.Lock()
	u.drop(n)
	u.mu.Unlock()
	u.reservation.nexusLost(n)
}

func (u *Unit) drop(n Nexus) {
	u.attention.Add(-int32(len(u.nexuses[n])))
	delete(u.nexuses, n)
}

// Reset is a logical unit reset (SAM-5) on behalf of n.
func (u *Unit) Reset(n Nexus) {
	u.reservation.reset()
	u.writeCache.Store(true)
	u.units.model.update(u, setWriteCache(true))
	u.alert(attentionReset, func(other Nexus) bool { return other != n })
}

// TasksCleared tells the nexuses other than n that theirs were (SAM-5).
func (u *Unit) TasksCleared(n Nexus) {
	u.alert(attentionCleared,
		func(other Nexus) bool { return other != n })
}

// alert establishes a unit attention for the nexuses that which selects; nil:
// for all. The same one is due once only.
func (u *Unit) alert(e *senseError, which func(Nexus) bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for n, due := range u.nexuses {
		known := slices.ContainsFunc(due, func(d *senseError) bool { return d.code == e.code })
		if known || which != nil && !which(n) {
			continue
		}
		u.nexuses[n] = append(due, e)
		u.attention.Add(1)
	}
}

// forget removes a unit attention of a nexus.
func (u *Unit) forget(n Nexus, e *senseError) {
	if u.attention.Load() == 0 {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	due := len(u.nexuses[n])
	if due == 0 {
		return
	}
	u.nexuses[n] = slices.DeleteFunc(u.nexuses[n], func(d *senseError) bool { return d.code == e.code })
	u.attention.Add(int32(len(u.nexuses[n]) - due))
}

// takeAttention removes and returns the oldest unit attention of a nexus, nil
// if there is none.
func (u *Unit) takeAttention(n Nexus) *senseError {
	if u.attention.Load() == 0 {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	due := u.nexuses[n]
	if len(due) == 0 {
		return nil
	}
	u.nexuses[n] = due[1:]
	u.attention.Add(-1)
	return due[0]
}

// retryPause is how long a command that the device cannot serve now is kept
// before it is answered: Linux sends it again at once, without end.
const retryPause = 100 * time.Millisecond

func (u *Unit) perform(ctx context.Context, c *Command) error {
	o, err := find(&c.CDB)
	if err != nil {
		return err
	}
	if o.class != informs {
		if e := u.takeAttention(c.Nexus); e != nil {
			return e
		}
	}
	if !o.allows(&c.CDB) {
		return errField
	}
	if u.reservation.conflicts(c.Nexus, o) {
		return errConflict
	}
	if u.readOnly && o.class == writes {
		return errProtected
	}
	err = o.run(ctx, u, c)
	if d, ok := errors.AsType[*deviceError](err); ok && d.sense == errUnavailable {
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
		}
	}
	return err
}

// control has gotgt's model carry out c.
func (u *Unit) control(c *Command) ([]byte, error) {
	return u.units.model.perform(u, withAllocation(c.CDB))
}

// span checks an extent against the capacity and returns it in bytes. An empty
// one may lie at the end.
func (u *Unit) span(lba uint64, blocks uint32) (off, n int64, err error) {
	capacity := uint64(u.blocks.Load())
	if lba > capacity || uint64(blocks) > capacity-lba {
		return 0, 0, errRange
	}
	return int64(lba) * BlockSize, int64(blocks) * BlockSize, nil
}
