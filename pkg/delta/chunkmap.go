package delta

import (
	"slices"
	"sort"
)

const (
	blocksPerChunk = ChunkSize / Block
	// denseAt is the number of runs at which a table with one entry per block
	// is no larger than the runs.
	denseAt = blocksPerChunk * 4 / runSize
	allMask = 1<<sectorsPerBlock - 1

	// Memory in bytes, that of maps estimated.
	chunkSize = 128 // a chunkMap and its entry in the blockMap
	runSize   = 8
	partsSize = 48 // the parts of one block, without the parts
	partSize  = 8
)

// place is where a block's content is: nowhere in this layer, all zeros, or a
// block of the log (its number across all slots, plus 2).
type place uint32

const (
	hole      place = 0
	zeros     place = 1
	firstData place = 2
)

func (p place) isData() bool { return p >= firstData }

// plus is the place k blocks further on; zeros and holes have no position.
func (p place) plus(k int) place {
	if p.isData() {
		return p + place(k)
	}
	return p
}

// run maps n whole blocks from block to consecutive places.
type run struct {
	block, n uint16
	at       place
}

func (r run) end() int { return int(r.block) + int(r.n) }

// part is the still visible sectors of a write that covered a block partly.
type part struct {
	at   place
	mask uint8 // bit i: sector i of the block; parts of one block are disjoint
}

// chunkMap is what one layer knows of one chunk. Whole blocks are in runs, or
// in dense once there are many; parts lie above them.
type chunkMap struct {
	runs  []run
	dense *[blocksPerChunk]place
	parts map[uint16][]part
	data  int // blocks that hold data, partly at least
	above int // parts in all
}

// base returns where block b as a whole is.
func (c *chunkMap) base(b int) place {
	if c.dense != nil {
		return c.dense[b]
	}
	i := sort.Search(len(c.runs), func(i int) bool { return c.runs[i].end() > b })
	if i == len(c.runs) || int(c.runs[i].block) > b {
		return hole
	}
	return c.runs[i].at.plus(b - int(c.runs[i].block))
}

// setBlocks maps n whole blocks from b to the places from at on.
func (c *chunkMap) setBlocks(b, n int, at place) {
	c.dropParts(b, n)
	if c.dense == nil {
		c.setRun(run{uint16(b), uint16(n), at})
		if len(c.runs) >= denseAt {
			c.toDense()
		}
		return
	}
	for i := range n {
		cell := &c.dense[b+i]
		if cell.isData() {
			c.data--
		}
		if *cell = at.plus(i); cell.isData() {
			c.data++
		}
	}
}

func (c *chunkMap) setRun(r run) {
	lo := sort.Search(len(c.runs), func(i int) bool { return c.runs[i].end() > int(r.block) })
	hi := lo + sort.Search(len(c.runs)-lo, func(i int) bool { return int(c.runs[lo+i].block) >= r.end() })
	var buf [3]run
	repl := buf[:0]
	if lo < hi && c.runs[lo].block < r.block {
		left := c.runs[lo]
		left.n = r.block - left.block
		repl = append(repl, left)
	}
	repl = append(repl, r)
	if lo < hi && c.runs[hi-1].end() > r.end() {
		right := c.runs[hi-1]
		skip := r.end() - int(right.block)
		repl = append(repl, run{uint16(r.end()), right.n - uint16(skip), right.at.plus(skip)})
	}
	c.data += dataBlocks(repl) - dataBlocks(c.runs[lo:hi])
	if lo > 0 && len(repl) > 0 && joins(c.runs[lo-1], repl[0]) {
		lo--
		repl[0] = run{c.runs[lo].block, c.runs[lo].n + repl[0].n, c.runs[lo].at}
	}
	c.runs = slices.Replace(c.runs, lo, hi, repl...)
}

// joins reports whether b continues a.
func joins(a, b run) bool { return a.end() == int(b.block) && a.at.plus(int(a.n)) == b.at }

func dataBlocks(runs []run) int {
	n := 0
	for _, r := range runs {
		if r.at.isData() {
			n += int(r.n)
		}
	}
	return n
}

func (c *chunkMap) toDense() {
	c.dense = new([blocksPerChunk]place)
	for _, r := range c.runs {
		for i := range int(r.n) {
			c.dense[int(r.block)+i] = r.at.plus(i)
		}
	}
	c.runs = nil
}

// setPart maps the sectors in mask of block b to those of the block at.
func (c *chunkMap) setPart(b int, mask uint8, at place) {
	if c.parts == nil {
		c.parts = make(map[uint16][]part)
	}
	old := c.parts[uint16(b)]
	c.data -= c.holdsData(b)
	kept := old[:0]
	for _, p := range old {
		if p.mask &^= mask; p.mask != 0 {
			kept = append(kept, p)
		}
	}
	c.parts[uint16(b)] = append(kept, part{at, mask})
	c.above += len(kept) + 1 - len(old)
	c.data += c.holdsData(b)
}

// holdsData is 1 for a block with data in its base or its parts, else 0.
func (c *chunkMap) holdsData(b int) int {
	if c.base(b).isData() || slices.ContainsFunc(c.parts[uint16(b)], func(p part) bool { return p.at.isData() }) {
		return 1
	}
	return 0
}

// dropParts removes the parts of n blocks from b, which whole blocks replace.
func (c *chunkMap) dropParts(b, n int) {
	drop := func(i int) {
		if parts := c.parts[uint16(i)]; parts != nil {
			c.data -= c.holdsData(i)
			c.above -= len(parts)
			delete(c.parts, uint16(i))
			c.data += c.holdsData(i)
		}
	}
	if n < len(c.parts) {
		for i := b; i < b+n; i++ {
			drop(i)
		}
		return
	}
	for k := range c.parts {
		if i := int(k); i >= b && i < b+n {
			drop(i)
		}
	}
}

// find calls emit for the places of those sectors of block b that are in need
// and known here, and returns their mask.
func (c *chunkMap) find(b int, need uint8, emit func(mask uint8, at place)) uint8 {
	var found uint8
	for _, p := range c.parts[uint16(b)] {
		if m := p.mask & need; m != 0 {
			emit(m, p.at)
			found |= m
		}
	}
	if rest := need &^ found; rest != 0 {
		if at := c.base(b); at != hole {
			emit(rest, at)
			found = need
		}
	}
	return found
}

// bytes estimates the memory of c.
func (c *chunkMap) bytes() int64 {
	n := chunkSize + cap(c.runs)*runSize + len(c.parts)*partsSize + c.above*partSize
	if c.dense != nil {
		n += blocksPerChunk * 4
	}
	return int64(n)
}
