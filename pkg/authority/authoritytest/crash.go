package authoritytest

import (
	"errors"
	"sync"
)

// ErrCrashed is what every step after a crash returns.
var ErrCrashed = errors.New("the process died here")

// Crash lets a process die between two of its steps: the calls that change an
// authority, and whatever else a test passes to [Crash.Step]. From then on
// nothing it calls has an effect or an answer.
type Crash struct {
	mu    sync.Mutex
	steps int // still to be done
	after bool
	dead  bool
}

// NewCrash returns a crash in step n, counted from 0: before it has an effect,
// or after it had one, but before its answer arrives.
func NewCrash(n int, after bool) *Crash { return &Crash{steps: n, after: after} }

// Happened reports whether there were enough steps for the crash.
func (c *Crash) Happened() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead
}

// Step does a step that has an effect, or dies.
func (c *Crash) Step(do func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return ErrCrashed
	}
	if c.steps > 0 {
		c.steps--
		return do()
	}
	c.dead = true
	if c.after {
		_ = do() // nobody learns how it ended
	}
	return ErrCrashed
}

// Look does a step without an effect, unless the process is dead.
func (c *Crash) Look(do func() error) error {
	if c.Happened() {
		return ErrCrashed
	}
	return do()
}

// Between lets something else happen between two steps or looks of a process.
type Between struct {
	mu    sync.Mutex
	steps int // still to be done
	what  func()
	done  bool
}

// NewBetween returns one that calls what once, before step or look n, counted
// from 0.
func NewBetween(n int, what func()) *Between { return &Between{steps: n, what: what} }

// Happened reports whether there were enough steps for it.
func (b *Between) Happened() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.done
}

// Step implements [Gate].
func (b *Between) Step(do func() error) error {
	b.mu.Lock()
	now := b.steps == 0
	b.done = b.done || now
	b.steps--
	b.mu.Unlock()
	if now {
		b.what()
	}
	return do()
}

// Look implements [Gate].
func (b *Between) Look(do func() error) error { return b.Step(do) }
