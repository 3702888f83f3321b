package authority

import "sync"

// gather lets callers that want the same thing done share it: each of them gets
// one that began after they asked, and those that ask while one is under way share
// the next.
type gather struct {
	mu      sync.Mutex
	running *round // the last that has begun, while it may be under way
	next    *round // that has not begun; nil: nobody waits for one
}

// round is one time that it is done.
type round struct {
	done chan struct{}
	err  error // once it is done
}

// do does it, or waits for another caller that does.
func (g *gather) do(it func() error) error {
	g.mu.Lock()
	if r := g.next; r != nil {
		g.mu.Unlock()
		<-r.done
		return r.err
	}
	r := &round{done: make(chan struct{})}
	if before := g.running; before != nil {
		g.next = r
		g.mu.Unlock()
		<-before.done
		g.mu.Lock()
		g.next = nil // who asks from now on may have changed something since
	}
	g.running = r
	g.mu.Unlock()

	defer func() {
		g.mu.Lock()
		if g.running == r {
			g.running = nil
		}
		g.mu.Unlock()
		close(r.done)
	}()
	r.err = it()
	return r.err
}
