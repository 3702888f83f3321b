package delta

import (
	"iter"
	"maps"
	"slices"
	"sort"
)

// blockMap is what one layer knows: a chunkMap per touched chunk, and the
// ranges of chunks that were zeroed as a whole before anything was written to
// them again (a chunkMap goes before such a range). It is not safe for
// concurrent use.
type blockMap struct {
	chunks map[uint32]*chunkMap
	zeroed []chunkRange // ascending, disjoint, not adjacent
	data   int          // blocks that hold data
	mem    int64        // estimate, in bytes
}

// chunkRange is the chunks lo <= c < hi.
type chunkRange struct{ lo, hi uint32 }

func newBlockMap() *blockMap { return &blockMap{chunks: make(map[uint32]*chunkMap)} }

// setData maps n bytes at off to the log blocks from at on: one for each block
// of the volume that the range touches.
func (m *blockMap) setData(off, n int64, at place) { m.set(off, n, at) }

// setZero maps n bytes at off to zeros.
func (m *blockMap) setZero(off, n int64) {
	if lo, hi := (off+ChunkSize-1)/ChunkSize, (off+n)/ChunkSize; lo < hi {
		m.set(off, lo*ChunkSize-off, zeros)
		m.zeroChunks(chunkRange{uint32(lo), uint32(hi)})
		n -= hi*ChunkSize - off
		off = hi * ChunkSize
	}
	m.set(off, n, zeros)
}

func (m *blockMap) set(off, n int64, at place) {
	for n > 0 {
		chunk := uint32(off / ChunkSize)
		b := int(off % ChunkSize / Block)
		c := m.chunk(chunk)
		data, mem := c.data, c.bytes()
		var done int64
		if in := off % Block; in != 0 || n < Block {
			done = min(n, Block-in)
			c.setPart(b, sectorMask(in, done), at)
			at = at.plus(1)
		} else {
			k := int(min(n/Block, int64(blocksPerChunk-b)))
			done = int64(k) * Block
			c.setBlocks(b, k, at)
			at = at.plus(k)
		}
		m.data += c.data - data
		m.mem += c.bytes() - mem
		off += done
		n -= done
	}
}

// sectorMask has the bits of the sectors in n bytes at in, both in one block.
func sectorMask(in, n int64) uint8 {
	return uint8((1<<(n/Sector) - 1) << (in / Sector))
}

// chunk returns the map of a chunk, which it makes if there is none.
func (m *blockMap) chunk(i uint32) *chunkMap {
	c := m.chunks[i]
	if c == nil {
		c = new(chunkMap)
		if m.isZeroed(i) {
			c.setBlocks(0, blocksPerChunk, zeros)
		}
		m.chunks[i] = c
		m.mem += c.bytes()
	}
	return c
}

func (m *blockMap) zeroChunks(r chunkRange) {
	drop := func(i uint32) {
		if c := m.chunks[i]; c != nil {
			m.data -= c.data
			m.mem -= c.bytes()
			delete(m.chunks, i)
		}
	}
	if int(r.hi-r.lo) < len(m.chunks) {
		for i := r.lo; i < r.hi; i++ {
			drop(i)
		}
	} else {
		for i := range m.chunks {
			if i >= r.lo && i < r.hi {
				drop(i)
			}
		}
	}
	lo := sort.Search(len(m.zeroed), func(i int) bool { return m.zeroed[i].hi >= r.lo })
	hi := sort.Search(len(m.zeroed), func(i int) bool { return m.zeroed[i].lo > r.hi })
	if lo < hi {
		r.lo = min(r.lo, m.zeroed[lo].lo)
		r.hi = max(r.hi, m.zeroed[hi-1].hi)
	}
	m.mem += int64(1-(hi-lo)) * runSize
	m.zeroed = slices.Replace(m.zeroed, lo, hi, r)
}

func (m *blockMap) isZeroed(chunk uint32) bool {
	i := sort.Search(len(m.zeroed), func(i int) bool { return m.zeroed[i].hi > chunk })
	return i < len(m.zeroed) && m.zeroed[i].lo <= chunk
}

// content is what m knows of a chunk as a whole.
func (m *blockMap) content(chunk uint32) Content {
	switch c := m.chunks[chunk]; {
	case c != nil && c.data > 0:
		return Data
	case m.isZeroed(chunk): // and nothing but zeros was written to it since
		return Zeros
	}
	return Unknown
}

// find is chunkMap.find for a block of any chunk.
func (m *blockMap) find(chunk uint32, b int, need uint8, emit func(mask uint8, at place)) uint8 {
	if c := m.chunks[chunk]; c != nil {
		return c.find(b, need, emit)
	}
	if m.isZeroed(chunk) {
		emit(need, zeros)
		return need
	}
	return 0
}

// numbers yields the chunks that m knows, ascending. m must not change.
func (m *blockMap) numbers() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		written := slices.Sorted(maps.Keys(m.chunks))
		for _, r := range m.zeroed {
			for len(written) > 0 && written[0] < r.lo {
				if !yield(uint64(written[0])) {
					return
				}
				written = written[1:]
			}
			for i := r.lo; i < r.hi; i++ {
				if len(written) > 0 && written[0] == i {
					written = written[1:]
				}
				if !yield(uint64(i)) {
					return
				}
			}
		}
		for _, i := range written {
			if !yield(uint64(i)) {
				return
			}
		}
	}
}

// extents returns what m holds of a chunk. m must not change.
func (m *blockMap) extents(chunk uint64) []Extent {
	var out []Extent
	add := func(off, n int64, zero bool) {
		if k := len(out) - 1; k >= 0 && out[k].Zero == zero && out[k].Off+out[k].Len == off {
			out[k].Len += n
			return
		}
		out = append(out, Extent{off, n, zero})
	}
	start := int64(chunk) * ChunkSize
	if m.chunks[uint32(chunk)] == nil {
		if m.isZeroed(uint32(chunk)) {
			add(start, ChunkSize, true)
		}
		return out
	}
	for b := range blocksPerChunk {
		var data, zero uint8
		m.find(uint32(chunk), b, allMask, func(mask uint8, at place) {
			if at.isData() {
				data |= mask
			} else {
				zero |= mask
			}
		})
		off := start + int64(b)*Block
		switch {
		case data == allMask:
			add(off, Block, false)
		case zero == allMask:
			add(off, Block, true)
		case data|zero != 0:
			for s := range int64(sectorsPerBlock) {
				if bit := uint8(1) << s; (data|zero)&bit != 0 {
					add(off+s*Sector, Sector, zero&bit != 0)
				}
			}
		}
	}
	return out
}
