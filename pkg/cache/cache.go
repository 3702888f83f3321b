// Package cache keeps slots of immutable objects in memory.
//
// Nothing is ever invalidated: what a key names never changes. Whoever needs a
// slot calls [Cache.Get]; however many wait for one slot, it is fetched once.
//
// What to keep is decided by S3-FIFO (Yang et al., "FIFO queues are all you need
// for cache eviction", SOSP 2023): new values enter a small queue, and what was
// not asked for again by the time it reaches the end leaves; so one pass over a
// large volume does not push out what is used often.
package cache

import (
	"context"
	"sync"
)

// Key names a slot: a part of an object that is fetched and kept as a whole.
type Key struct {
	Container string
	Object    string
	Slot      uint32 // numbered as the owner of the object's format likes
}

// Stats counts since the cache was made.
type Stats struct {
	Hits      uint64 // calls of Get answered from memory
	Misses    uint64 // calls of Get that fetched
	Joined    uint64 // calls of Get that waited for another's fetch
	Evictions uint64
	Bytes     int64 // kept now
	Limit     int64
}

// Cache keeps values of type V within a bound of bytes. All methods are safe
// for concurrent use. Values are shared and must not be modified.
type Cache[V any] struct {
	cost func(V) int64

	mu      sync.Mutex
	kept    queues[V]
	flights map[Key]*flight[V]
	stats   Stats // Bytes and Limit are those of kept
}

// flight is a fetch under way.
type flight[V any] struct {
	cancel  context.CancelFunc
	waiting int // guarded by Cache.mu

	done  chan struct{} // closed when value and err are set
	value V
	err   error
}

// New makes a cache of at most limit bytes, its own books included; cost tells
// the bytes of a value. One above a tenth of limit is handed out and not kept.
func New[V any](limit int64, cost func(V) int64) *Cache[V] {
	return &Cache[V]{
		cost:    cost,
		kept:    newQueues[V](limit),
		flights: make(map[Key]*flight[V]),
	}
}

// Get returns the value of key, calling fetch if it is not kept and nobody else
// is fetching it. fetch runs with the values of ctx, and is cancelled only when
// the last of those who wait for it has gone: a cancelled waiter fails nobody
// else. An error of fetch goes to all who wait and is not kept.
func (c *Cache[V]) Get(ctx context.Context, key Key, fetch func(context.Context) (V, error)) (V, error) {
	c.mu.Lock()
	if value, ok := c.kept.get(key); ok {
		c.stats.Hits++
		c.mu.Unlock()
		return value, nil
	}
	f := c.flights[key]
	if f == nil {
		c.stats.Misses++
		f = &flight[V]{done: make(chan struct{})}
		c.flights[key] = f
		var fetchCtx context.Context
		fetchCtx, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
		go c.run(fetchCtx, key, f, fetch)
	} else {
		c.stats.Joined++
	}
	f.waiting++
	c.mu.Unlock()

	select {
	case <-f.done:
		return f.value, f.err
	case <-ctx.Done():
		c.leave(key, f)
		var none V
		return none, ctx.Err()
	}
}

// leave takes a waiter off f. The last one ends it, and takes it off the map so
// that nobody joins a fetch that is being cancelled.
func (c *Cache[V]) leave(key Key, f *flight[V]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.waiting--
	if f.waiting == 0 {
		f.cancel()
		c.forget(key, f)
	}
}

// forget takes f off the map, unless another one has its place by now.
func (c *Cache[V]) forget(key Key, f *flight[V]) {
	if c.flights[key] == f {
		delete(c.flights, key)
	}
}

func (c *Cache[V]) run(ctx context.Context, key Key, f *flight[V], fetch func(context.Context) (V, error)) {
	defer f.cancel()
	f.value, f.err = fetch(ctx)
	c.mu.Lock()
	c.forget(key, f)
	if f.err == nil {
		c.keep(key, f.value)
	}
	c.mu.Unlock()
	close(f.done)
}

// keep is called with c.mu held.
func (c *Cache[V]) keep(key Key, value V) {
	c.stats.Evictions += c.kept.add(key, value, c.cost(value))
}

// Peek returns the value of key if it is kept.
func (c *Cache[V]) Peek(key Key) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kept.get(key)
}

// Add keeps a value that was fetched together with others, for instance by
// read-ahead. It changes nothing if key is kept already.
func (c *Cache[V]) Add(key Key, value V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keep(key, value)
}

// Fresh returns how many bytes of new values stay at least, however much is kept
// that was used before.
func (c *Cache[V]) Fresh() int64 { return c.kept.limit / smallShare }

// Stats returns the counters.
func (c *Cache[V]) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Bytes, s.Limit = c.kept.bytes(), c.kept.limit
	return s
}
