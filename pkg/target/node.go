package target

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/target/disk"
	"github.com/swiftblock/csi-swiftblock/pkg/target/login"
)

// node is a registered target.
type node struct {
	iqn        string
	chap       CHAP
	initiators []string
	shared     bool
	model      *disk.Model
	units      atomic.Pointer[disk.Units] // nil until ready

	mu       sync.Mutex
	removed  bool
	leaving  map[uint8]*disk.Unit    // taken out, commands may still run
	sessions map[disk.Nexus]*session // also those that are ending
	vacant   time.Time               // when it became ready, or the last session left
}

// Limits of names, in bytes: RFC 7143 §4.2.7.1, and what fits into designators.
const (
	maxName   = 223
	maxVolume = 128
)

func newNode(t Target, m *disk.Model) (*node, error) {
	switch {
	case t.IQN == "" || len(t.IQN) > maxName:
		return nil, fmt.Errorf("target %.32q: a name has 1 to %d bytes", t.IQN, maxName)
	case (t.CHAP.User == "") != (t.CHAP.Secret == ""), (t.CHAP.MutualUser == "") != (t.CHAP.MutualSecret == ""):
		return nil, fmt.Errorf("target %s: CHAP needs a user and a secret", t.IQN)
	}
	n := &node{
		iqn:        t.IQN,
		chap:       t.CHAP,
		initiators: slices.Clone(t.Initiators),
		shared:     t.Shared,
		model:      m,
		leaving:    map[uint8]*disk.Unit{},
		sessions:   map[disk.Nexus]*session{},
	}
	if !t.NotReady {
		if err := n.open(t.LUNs); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// open gives the node its units.
func (n *node) open(luns []LUN) error {
	if len(luns) == 0 {
		return fmt.Errorf("target %s: no LUNs", n.iqn)
	}
	byLUN := map[uint8]*disk.Unit{}
	for _, l := range luns {
		if byLUN[l.Number] != nil {
			return fmt.Errorf("target %s: LUN %d is there twice", n.iqn, l.Number)
		}
		u, err := n.unit(l)
		if err != nil {
			return err
		}
		byLUN[l.Number] = u
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.units.Load() != nil || n.removed {
		return fmt.Errorf("target %s: %w", n.iqn, ErrExists)
	}
	n.units.Store(disk.NewUnits(n.model, n.iqn, byLUN))
	n.vacant = time.Now()
	return nil
}

// unit makes the unit of a LUN.
func (n *node) unit(l LUN) (*disk.Unit, error) {
	if l.Device == nil || l.Volume == "" || len(l.Volume) > maxVolume {
		return nil, fmt.Errorf("target %s: LUN %d needs a device, and a volume of 1 to %d bytes", n.iqn, l.Number, maxVolume)
	}
	u, err := disk.NewUnit(l.Volume, l.Device, l.ReadOnly, l.Keeper)
	if err != nil {
		return nil, fmt.Errorf("target %s: LUN %d: %w", n.iqn, l.Number, err)
	}
	return u, nil
}

// addLUN gives the node, which is ready, one more unit.
func (n *node) addLUN(l LUN) error {
	u, err := n.unit(l)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	units := n.units.Load()
	switch {
	case units == nil || n.removed:
		return fmt.Errorf("target %s is not ready: %w", n.iqn, ErrNoTarget)
	case n.leaving[l.Number] != nil:
		return fmt.Errorf("target %s: LUN %d is being removed: %w", n.iqn, l.Number, ErrLUNExists)
	}
	if err := units.Add(l.Number, u); err != nil {
		return fmt.Errorf("target %s: LUN %d: %w", n.iqn, l.Number, err)
	}
	for nexus := range n.sessions {
		u.Attach(nexus)
	}
	return nil
}

// removeLUN takes a unit out, cancels the commands on it and waits for their end.
func (n *node) removeLUN(ctx context.Context, lun uint8) error {
	u, err := n.takeOut(lun)
	if err != nil {
		return fmt.Errorf("target %s: LUN %d: %w", n.iqn, lun, err)
	}
	for _, s := range n.members() {
		for _, done := range s.cancel(u) {
			select {
			case <-done:
			case <-ctx.Done():
				return fmt.Errorf("target %s: commands still run on LUN %d: %w", n.iqn, lun, ctx.Err())
			}
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.leaving, lun)
	return nil
}

// takeOut takes a unit out, or returns the one that was not left alone yet.
func (n *node) takeOut(lun uint8) (*disk.Unit, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if u := n.leaving[lun]; u != nil {
		return u, nil
	}
	units := n.units.Load()
	if units == nil {
		return nil, ErrNoTarget
	}
	u, err := units.Remove(lun)
	if err == nil {
		n.leaving[lun] = u
	}
	return u, err
}

// admits reports whether an initiator may log in by its name.
func (n *node) admits(initiator string) bool {
	return len(n.initiators) == 0 || slices.Contains(n.initiators, initiator)
}

// access implements the answer of [login.Directory].
func (n *node) access(initiator string) (CHAP, login.Status) {
	if !n.admits(initiator) {
		return CHAP{}, login.Forbidden
	}
	if n.units.Load() == nil {
		return CHAP{}, login.Unavailable
	}
	return n.chap, login.Success
}

// join enters a session that has been authenticated. An older one of the same
// initiator port is reinstated: it is ended first, and join waits until none of
// its commands can be applied any more (R9).
func (n *node) join(ctx context.Context, s *session) login.Status {
	for {
		n.mu.Lock()
		old := n.sessions[s.nexus]
		switch {
		case n.removed:
			n.mu.Unlock()
			return login.NotFound
		case !n.shared && n.heldByOther(s.nexus.Name):
			n.mu.Unlock()
			return login.Forbidden
		case old == nil:
			n.sessions[s.nexus] = s
			n.units.Load().All(func(u *disk.Unit) { u.Attach(s.nexus) })
			n.mu.Unlock()
			return login.Success
		}
		n.mu.Unlock()
		old.conn.Close()
		select {
		case <-old.ended:
		case <-ctx.Done():
			return login.Unavailable
		}
	}
}

// heldByOther reports whether an initiator of another name has a session. The
// node is locked.
func (n *node) heldByOther(name string) bool {
	for nexus := range n.sessions {
		if nexus.Name != name {
			return true
		}
	}
	return false
}

// find returns the session with a TSIH.
func (n *node) find(tsih uint16) *session {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.sessions {
		if s.tsih == tsih {
			return s
		}
	}
	return nil
}

// leave takes out a session whose commands have ended.
func (n *node) leave(s *session) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.units.Load().All(func(u *disk.Unit) { u.Detach(s.nexus) })
	delete(n.sessions, s.nexus)
	n.vacant = time.Now()
}

// alone is how long nobody has been logged in who might be.
func (n *node) alone() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.units.Load() == nil || n.removed || len(n.sessions) > 0 {
		return 0
	}
	return time.Since(n.vacant)
}

// members returns the sessions there are.
func (n *node) members() []*session {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := make([]*session, 0, len(n.sessions))
	for _, s := range n.sessions {
		all = append(all, s)
	}
	return all
}

// abort aborts tasks in all sessions; see session.abort.
func (n *node) abort(which func(*task) bool) []<-chan struct{} {
	var affected []<-chan struct{}
	for _, s := range n.members() {
		affected = append(affected, s.abort(which)...)
	}
	return affected
}

// remove lets nobody in any more, ends the sessions and waits for them. It can
// be repeated when ctx was done first.
func (n *node) remove(ctx context.Context) error {
	n.mu.Lock()
	n.removed = true
	n.mu.Unlock()
	for _, s := range n.members() {
		s.dismiss()
	}
	for _, s := range n.members() {
		select {
		case <-s.ended:
		case <-ctx.Done():
			return fmt.Errorf("target %s: commands still run: %w", n.iqn, ctx.Err())
		}
	}
	if us := n.units.Load(); us != nil {
		us.Close()
	}
	return nil
}
