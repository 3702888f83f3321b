package authoritytest

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
)

// Memory is an authority for tests of what stands on one: it forgets everything
// with the process, and spares the disk.
type Memory struct {
	volumes   memoryTable[authority.Volume]
	snapshots memoryTable[authority.Snapshot]
	claims    memoryTable[authority.Claim]
	pins      memoryTable[authority.Pin]
}

var _ authority.Authority = (*Memory)(nil)

// Volumes implements [authority.Authority].
func (m *Memory) Volumes() authority.Table[authority.Volume] { return &m.volumes }

// Snapshots implements [authority.Authority].
func (m *Memory) Snapshots() authority.Table[authority.Snapshot] { return &m.snapshots }

// Claims implements [authority.Authority].
func (m *Memory) Claims() authority.Table[authority.Claim] { return &m.claims }

// Pins implements [authority.Authority].
func (m *Memory) Pins() authority.Table[authority.Pin] { return &m.pins }

// Copy returns an authority with the records that there are now, as a backup has.
func (m *Memory) Copy() *Memory {
	c := &Memory{}
	m.volumes.copyTo(&c.volumes)
	m.snapshots.copyTo(&c.snapshots)
	m.claims.copyTo(&c.claims)
	m.pins.copyTo(&c.pins)
	return c
}

// memoryTable holds encoded records, so that no caller shares a value with it.
type memoryTable[T any] struct {
	mu       sync.Mutex
	versions int // given out so far
	rows     map[string]memoryRow
}

type memoryRow struct {
	version authority.Version
	record  []byte
}

func (t *memoryTable[T]) copyTo(to *memoryTable[T]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	to.versions, to.rows = t.versions, maps.Clone(t.rows)
}

// do checks the call's context and key and runs it alone.
func (t *memoryTable[T]) do(ctx context.Context, key string, call func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := authority.CheckKey(key); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return call()
}

func (t *memoryTable[T]) put(key string, v T) (authority.Version, error) {
	record, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	if t.rows == nil {
		t.rows = map[string]memoryRow{}
	}
	t.versions++
	version := authority.Version(strconv.Itoa(t.versions))
	t.rows[key] = memoryRow{version, record}
	return version, nil
}

func (t *memoryTable[T]) Create(ctx context.Context, key string, v T) (version authority.Version, err error) {
	err = t.do(ctx, key, func() error {
		if _, ok := t.rows[key]; ok {
			return authority.ErrExists
		}
		version, err = t.put(key, v)
		return err
	})
	return version, err
}

func (t *memoryTable[T]) Get(ctx context.Context, key string) (v T, version authority.Version, err error) {
	err = t.do(ctx, key, func() error {
		row, ok := t.rows[key]
		if !ok {
			return authority.ErrNotFound
		}
		version = row.version
		return json.Unmarshal(row.record, &v)
	})
	return v, version, err
}

func (t *memoryTable[T]) Update(ctx context.Context, key string, v T, old authority.Version) (version authority.Version, err error) {
	err = t.do(ctx, key, func() error {
		if t.rows[key].version != old {
			return authority.ErrConflict
		}
		version, err = t.put(key, v)
		return err
	})
	return version, err
}

func (t *memoryTable[T]) Delete(ctx context.Context, key string, old authority.Version) error {
	return t.do(ctx, key, func() error {
		if t.rows[key].version != old {
			return authority.ErrConflict
		}
		delete(t.rows, key)
		return nil
	})
}

func (t *memoryTable[T]) List(ctx context.Context, from authority.Place, limit int) (rows []authority.Row[T], next authority.Place, err error) {
	after, err := from.Key()
	if err = errors.Join(err, ctx.Err()); err != nil {
		return nil, "", err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(t.rows)) {
		if key <= after {
			continue
		}
		if len(rows) == limit {
			return rows, authority.After(rows[limit-1].Key), nil
		}
		row := authority.Row[T]{Key: key, Version: t.rows[key].version}
		if err := json.Unmarshal(t.rows[key].record, &row.Value); err != nil {
			return nil, "", err
		}
		rows = append(rows, row)
	}
	return rows, authority.Beginning, nil
}
