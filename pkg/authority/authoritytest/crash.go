package authoritytest

import (
	"context"
	"errors"
	"sync"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
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

// Authority returns a as the dying process sees it.
func (c *Crash) Authority(a authority.Authority) authority.Authority { return &crashing{a, c} }

type crashing struct {
	a     authority.Authority
	crash *Crash
}

func (f *crashing) Volumes() authority.Table[authority.Volume] {
	return crashingTable[authority.Volume]{f.a.Volumes(), f.crash}
}

func (f *crashing) Snapshots() authority.Table[authority.Snapshot] {
	return crashingTable[authority.Snapshot]{f.a.Snapshots(), f.crash}
}

func (f *crashing) Claims() authority.Table[authority.Claim] {
	return crashingTable[authority.Claim]{f.a.Claims(), f.crash}
}

func (f *crashing) Pins() authority.Table[authority.Pin] {
	return crashingTable[authority.Pin]{f.a.Pins(), f.crash}
}

type crashingTable[T any] struct {
	t     authority.Table[T]
	crash *Crash
}

func (t crashingTable[T]) Create(ctx context.Context, key string, v T) (version authority.Version, err error) {
	err = t.crash.Step(func() error { version, err = t.t.Create(ctx, key, v); return err })
	return version, err
}

func (t crashingTable[T]) Get(ctx context.Context, key string) (v T, version authority.Version, err error) {
	err = t.crash.Look(func() error { v, version, err = t.t.Get(ctx, key); return err })
	return v, version, err
}

func (t crashingTable[T]) Update(ctx context.Context, key string, v T, old authority.Version) (version authority.Version, err error) {
	err = t.crash.Step(func() error { version, err = t.t.Update(ctx, key, v, old); return err })
	return version, err
}

func (t crashingTable[T]) Delete(ctx context.Context, key string, old authority.Version) error {
	return t.crash.Step(func() error { return t.t.Delete(ctx, key, old) })
}

func (t crashingTable[T]) List(ctx context.Context, after string, limit int) (rows []authority.Row[T], err error) {
	err = t.crash.Look(func() error { rows, err = t.t.List(ctx, after, limit); return err })
	return rows, err
}
