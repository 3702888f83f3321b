package volume

import (
	"github.com/swiftblock/csi-swiftblock/pkg/cache"
	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
)

// Cache keeps in memory what was read of immutable objects. Volumes share it, and
// clones share each other's slots, because keys are names of objects.
type Cache struct {
	slots   *cache.Cache[slot]
	indexes *cache.Cache[*chunks.Index]
}

// CacheStats counts the use of a cache since it was made.
type CacheStats struct{ Slots, Indexes cache.Stats }

// NewCache makes a cache of at most limit bytes, an eighth of it for footers.
func NewCache(limit int64) *Cache {
	return &Cache{
		slots:   cache.New(limit-limit/8, slot.bytes),
		indexes: cache.New(limit/8, (*chunks.Index).Bytes),
	}
}

// Stats returns the counters.
func (c *Cache) Stats() CacheStats {
	return CacheStats{Slots: c.slots.Stats(), Indexes: c.indexes.Stats()}
}
