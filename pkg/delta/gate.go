package delta

import (
	"context"
	"sync"
	"time"
)

// gate admits writes by fill: freely up to delayAt, delayed above it, and held,
// first come first served, at the hold limit until a generation is retired.
// What lies above the limit is kept for the records that make space: seals,
// states and marks pass by the gate.
type gate struct {
	limit     int64 // bytes of log at which writes are held
	quota     int64
	mapBudget int64
	maxDelay  time.Duration
	logBytes  func() int64 // in use now
	mapBytes  func() int64
	halt      *halt
	pressure  chan struct{}

	mu       sync.Mutex
	used     int64 // logBytes when last measured
	mapUsed  int64
	reserved int64 // bytes of log that admitted writes may still take
	held     []*admission
}

const (
	pressureAt = 0.50
	delayAt    = 0.75
)

// HoldAt is the fill of a journal from which on it holds writes, of 0 to 1.
const HoldAt = 0.95

type admission struct {
	need    int64
	granted chan struct{}
}

// admit returns when need bytes of log are kept for the caller, who gives them
// back with settle once they are used (and counted in use) or not needed.
func (g *gate) admit(ctx context.Context, need int64) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	g.mu.Lock()
	if d := g.delay(); d > 0 {
		g.mu.Unlock()
		if err := g.pause(ctx, d); err != nil {
			return err
		}
		g.mu.Lock()
	}
	if len(g.held) == 0 && g.fits(need) {
		g.reserved += need
		g.mu.Unlock()
		return nil
	}
	a := &admission{need, make(chan struct{})}
	g.held = append(g.held, a)
	g.mu.Unlock()

	var err error
	select {
	case <-a.granted:
		return nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-g.halt.done:
		err = g.halt.err()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, h := range g.held {
		if h == a {
			g.held = append(g.held[:i], g.held[i+1:]...)
			g.grant() // the next one may be smaller
			return err
		}
	}
	g.reserved -= need // granted meanwhile
	g.grant()
	return err
}

func (g *gate) pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-g.halt.done:
		return g.halt.err()
	}
}

// delay grows from nothing at delayAt to maxDelay at HoldAt.
func (g *gate) delay() time.Duration {
	over := min((g.fill()-delayAt)/(HoldAt-delayAt), 1)
	if over <= 0 {
		return 0
	}
	return time.Duration(over * float64(g.maxDelay))
}

// fill is HoldAt where writes are held, in a small journal too, of which a larger
// part is kept; it is full before that part is.
func (g *gate) fill() float64 {
	return min(1, max(HoldAt*(float64(g.used)/float64(g.limit)), float64(g.mapUsed)/float64(g.mapBudget)))
}

func (g *gate) fits(need int64) bool {
	return g.used+g.reserved+need <= g.limit && float64(g.mapUsed) < HoldAt*float64(g.mapBudget)
}

func (g *gate) grant() {
	for len(g.held) > 0 && g.fits(g.held[0].need) {
		g.reserved += g.held[0].need
		close(g.held[0].granted)
		g.held = g.held[1:]
	}
}

// settle gives back n admitted bytes.
func (g *gate) settle(n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reserved -= n
	g.grant()
}

// measure takes note of what log and map use now. It asks under its own lock,
// so that the last measure is the newest one.
func (g *gate) measure() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.used, g.mapUsed = g.logBytes(), g.mapBytes()
	if g.fill() > pressureAt {
		select {
		case g.pressure <- struct{}{}:
		default:
		}
	}
	g.grant()
}

func (g *gate) pressed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.fill() > pressureAt
}

func (g *gate) stats(s *Stats) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s.Quota, s.Fill, s.Held = g.quota, g.fill(), len(g.held)
}

// halt is the end of a journal: the first reason stays.
type halt struct {
	once   sync.Once
	done   chan struct{}
	reason error
}

func newHalt() *halt { return &halt{done: make(chan struct{})} }

// set ends it; it returns false if it had ended already.
func (h *halt) set(reason error) (first bool) {
	h.once.Do(func() {
		first = true
		h.reason = reason
		close(h.done)
	})
	return first
}

// err returns the reason, nil while the journal works.
func (h *halt) err() error {
	select {
	case <-h.done:
		return h.reason
	default:
		return nil
	}
}
