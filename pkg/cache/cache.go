// Package cache keeps slots of immutable objects in memory.
//
// Nothing is ever invalidated: what a key names never changes. Whoever needs a
// slot calls [Cache.Get]; however many wait for one slot, it is fetched once.
package cache

import (
	"context"
	"errors"
)

// Key names a slot: a part of an object that is fetched and kept as a whole.
type Key struct {
	Container string
	Object    string
	Slot      uint32 // numbered as the owner of the object's format likes
}

// Cache keeps values of type V within a bound of bytes. All methods are safe
// for concurrent use. Values are shared and must not be modified.
type Cache[V any] struct{}

// Stats counts since the cache was made.
type Stats struct {
	Hits, Misses, Evictions uint64
	Bytes, Limit            int64
}

// New makes a cache whose values cost at most limit bytes together; cost tells
// the bytes of one. A value above a quarter of limit is handed out and not kept.
func New[V any](limit int64, cost func(V) int64) *Cache[V] { return &Cache[V]{} }

// Get returns the value of key, calling fetch if it is not kept and nobody else
// is fetching it. fetch runs with a context that ends when the last of those
// who wait for it has gone, so a cancelled waiter fails nobody else. An error
// of fetch goes to all who wait and is not kept.
func (c *Cache[V]) Get(ctx context.Context, key Key, fetch func(context.Context) (V, error)) (V, error) {
	var none V
	return none, errors.ErrUnsupported
}

// Peek returns the value of key if it is kept.
func (c *Cache[V]) Peek(key Key) (V, bool) {
	var none V
	return none, false
}

// Add keeps a value that was fetched together with others, for instance by
// read-ahead. It changes nothing if key is kept already.
func (c *Cache[V]) Add(key Key, value V) {}

// Stats returns the counters.
func (c *Cache[V]) Stats() Stats { return Stats{} }
