package authoritytest

import (
	"context"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
)

// Gate is what a process's calls pass through: Step those that have an effect,
// Look those that have none.
type Gate interface {
	Step(do func() error) error
	Look(do func() error) error
}

// Guard returns a as seen by a process whose calls pass through gate.
func Guard(a authority.Authority, gate Gate) authority.Authority { return &guarded{a, gate} }

type guarded struct {
	a    authority.Authority
	gate Gate
}

func (g *guarded) Volumes() authority.Table[authority.Volume] {
	return guardedTable[authority.Volume]{g.a.Volumes(), g.gate}
}

func (g *guarded) Snapshots() authority.Table[authority.Snapshot] {
	return guardedTable[authority.Snapshot]{g.a.Snapshots(), g.gate}
}

func (g *guarded) Claims() authority.Table[authority.Claim] {
	return guardedTable[authority.Claim]{g.a.Claims(), g.gate}
}

func (g *guarded) Pins() authority.Table[authority.Pin] {
	return guardedTable[authority.Pin]{g.a.Pins(), g.gate}
}

type guardedTable[T any] struct {
	t    authority.Table[T]
	gate Gate
}

func (t guardedTable[T]) Create(ctx context.Context, key string, v T) (version authority.Version, err error) {
	err = t.gate.Step(func() error { version, err = t.t.Create(ctx, key, v); return err })
	return version, err
}

func (t guardedTable[T]) Get(ctx context.Context, key string) (v T, version authority.Version, err error) {
	err = t.gate.Look(func() error { v, version, err = t.t.Get(ctx, key); return err })
	return v, version, err
}

func (t guardedTable[T]) Update(ctx context.Context, key string, v T, old authority.Version) (version authority.Version, err error) {
	err = t.gate.Step(func() error { version, err = t.t.Update(ctx, key, v, old); return err })
	return version, err
}

func (t guardedTable[T]) Delete(ctx context.Context, key string, old authority.Version) error {
	return t.gate.Step(func() error { return t.t.Delete(ctx, key, old) })
}

func (t guardedTable[T]) List(ctx context.Context, from authority.Place, limit int) (rows []authority.Row[T], next authority.Place, err error) {
	err = t.gate.Look(func() error { rows, next, err = t.t.List(ctx, from, limit); return err })
	return rows, next, err
}
