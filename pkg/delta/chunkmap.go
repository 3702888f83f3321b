package delta

import (
	"math/bits"
	"slices"
	"sort"
)

const (
	blocksPerChunk = ChunkSize / Block
	allMask        = 1<<sectorsPerBlock - 1

	// Memory in bytes, that of maps estimated.
	chunkSize = 128 // a chunkMap and its entry in the blockMap
	runSize   = 8
	tableSize = 288 // a table, without the places
	placeSize = 4
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

// table has a place for each block that is known: less memory than runs when
// these are many and short.
type table struct {
	known  [blocksPerChunk / 64]uint64 // a bit for each block
	places []place                     // of those, in their order
}

// rank counts the known blocks before b.
func (t *table) rank(b int) int {
	n := 0
	for _, word := range t.known[:b/64] {
		n += bits.OnesCount64(word)
	}
	if b%64 > 0 {
		n += bits.OnesCount64(t.known[b/64] << (64 - b%64))
	}
	return n
}

func (t *table) find(b int) place {
	if t.known[b/64]>>(b%64)&1 == 0 {
		return hole
	}
	return t.places[t.rank(b)]
}

// set maps n blocks from b to the places from at on, and returns how many more of
// them hold data than before.
func (t *table) set(b, n int, at place) (more int) {
	lo, hi := t.rank(b), t.rank(b+n)
	for _, old := range t.places[lo:hi] {
		if old.isData() {
			more--
		}
	}
	if at.isData() {
		more += n
	}
	news := n - (hi - lo)
	t.places = slices.Insert(t.grown(news), hi, make([]place, news)...)
	for i := range n {
		t.known[(b+i)/64] |= 1 << ((b + i) % 64)
		t.places[lo+i] = at.plus(i)
	}
	return more
}

// grown returns the places with room for n more; append would make too much.
func (t *table) grown(n int) []place {
	need := len(t.places) + n
	if need <= cap(t.places) {
		return t.places
	}
	return append(make([]place, 0, need+need/8), t.places...)
}

// chunkMap is what one layer knows of one chunk. Whole blocks are in runs, or
// in a table once that is smaller; parts lie above them.
type chunkMap struct {
	runs  []run
	table *table
	parts map[uint16][]part
	data  int // blocks that hold data, partly at least
	above int // parts in all
}

// base returns where block b as a whole is.
func (c *chunkMap) base(b int) place {
	if c.table != nil {
		return c.table.find(b)
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
	if c.table != nil {
		c.data += c.table.set(b, n, at)
		return
	}
	c.setRun(run{uint16(b), uint16(n), at})
	if len(c.runs)*runSize > tableSize { // else it cannot be worth it
		c.toTable()
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

// toTable makes the runs a table if that is smaller.
func (c *chunkMap) toTable() {
	known := 0
	for _, r := range c.runs {
		known += int(r.n)
	}
	if tableSize+known*placeSize > len(c.runs)*runSize {
		return
	}
	c.table = &table{places: make([]place, 0, known)}
	for _, r := range c.runs {
		c.table.set(int(r.block), int(r.n), r.at)
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
	if c.table != nil {
		n += tableSize + cap(c.table.places)*placeSize
	}
	return int64(n)
}
