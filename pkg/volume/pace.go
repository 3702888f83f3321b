package volume

import (
	"sync"
	"time"
)

// pace is how often a volume is sealed by age, and looked at for a fence.
type pace struct {
	mu           sync.Mutex
	rpo          time.Duration
	snapshotOnly bool
	changed      chan struct{} // closed when another pace is set
}

func newPace(rpo time.Duration, snapshotOnly bool) *pace {
	return &pace{rpo: rpo, snapshotOnly: snapshotOnly, changed: make(chan struct{})}
}

// get returns the pace, and what is closed when it is no longer this one.
func (p *pace) get() (rpo time.Duration, snapshotOnly bool, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rpo, p.snapshotOnly, p.changed
}

func (p *pace) set(rpo time.Duration, snapshotOnly bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if rpo == p.rpo && snapshotOnly == p.snapshotOnly {
		return
	}
	p.rpo, p.snapshotOnly = rpo, snapshotOnly
	close(p.changed)
	p.changed = make(chan struct{})
}

// SetPace changes Config.RPO and Config.SnapshotOnly of a volume that is open.
func (v *Volume) SetPace(rpo time.Duration, snapshotOnly bool) {
	if rpo <= 0 {
		rpo = defaultRPO
	}
	v.publisher.pace.set(rpo, snapshotOnly)
}
