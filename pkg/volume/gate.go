package volume

import (
	"context"
	"sync"
)

// gate counts the operations under way. It can be shut, which holds newcomers
// until it is opened again, and ended, which refuses them for good. No lock is
// held while an operation runs.
type gate struct {
	mu     sync.Mutex
	inside int
	end    error         // not nil: ended
	hold   chan struct{} // not nil: shut; closed when that ends
	idle   chan struct{} // not nil: somebody waits until inside is 0; closed then
}

// enter admits one operation, which must leave.
func (g *gate) enter(ctx context.Context) error {
	for {
		g.mu.Lock()
		end, hold := g.end, g.hold
		if end == nil && hold == nil {
			g.inside++
		}
		g.mu.Unlock()
		switch {
		case end != nil:
			return end
		case hold == nil:
			return nil
		}
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// leave ends an operation.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	if g.inside == 0 && g.idle != nil {
		close(g.idle)
		g.idle = nil
	}
}

// shut holds newcomers and waits until nobody is inside; if ctx ends first, the
// gate is open again.
func (g *gate) shut(ctx context.Context) error {
	g.mu.Lock()
	if g.end == nil && g.hold == nil {
		g.hold = make(chan struct{})
	}
	g.mu.Unlock()
	if err := g.wait(ctx); err != nil {
		g.open()
		return err
	}
	return nil
}

// open ends a shut.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.release()
}

// finish refuses newcomers and those held with err; the first err stays.
func (g *gate) finish(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.end == nil {
		g.end = err
	}
	g.release()
}

// wait returns when nobody is inside.
func (g *gate) wait(ctx context.Context) error {
	g.mu.Lock()
	if g.inside == 0 {
		g.mu.Unlock()
		return nil
	}
	if g.idle == nil {
		g.idle = make(chan struct{})
	}
	idle := g.idle
	g.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *gate) release() {
	if g.hold != nil {
		close(g.hold)
		g.hold = nil
	}
}
