package delta

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// committer writes the log: it turns requests into records in the order of the
// queue, writes each with one call, makes it visible and only then acknowledges
// it. Whoever has the turn does so for all who wait: a writer that finds nobody
// at it, which then needs no other goroutine to wake up, or else run.
type committer struct {
	j       *Journal
	open    ident.Open
	pad     *pad          // of this opening
	kick    chan struct{} // a request found the turn taken
	done    chan struct{} // run has returned
	records atomic.Uint64

	turn    sync.Mutex // to write the log; guards what follows
	segment uint64     // being written
	off     int64      // where the next record goes
	seq     uint64     // of the last record
	prev    uint32     // its checksum
	ended   uint64     // last sequence of the segment before this one
	buf     []byte     // one record
}

// run commits what no writer commits itself, until the journal halts.
func (c *committer) run() {
	defer close(c.done)
	for c.j.halt.err() == nil {
		select {
		case <-c.kick:
			c.turn.Lock()
			c.round()
			c.turn.Unlock()
		case <-c.j.halt.done:
		}
	}
	c.turn.Lock()
	defer c.turn.Unlock()
	err := c.j.halt.err()
	for _, r := range c.j.queue.close(err) {
		r.done <- err
	}
}

// serve sees to it that what was queued before the call is committed. A writer
// serves one round; who came too late for it is left to run.
func (c *committer) serve() {
	if c.turn.TryLock() {
		c.round()
		c.turn.Unlock()
		if c.j.queue.len() == 0 {
			return
		}
	}
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// round commits what is pending; run refuses what a halt leaves.
func (c *committer) round() {
	if c.j.halt.err() == nil {
		c.gather()
		c.commit(c.j.queue.take())
	}
}

// gather lets those who are about to write join the record, as long as some do.
func (c *committer) gather() {
	for n := c.j.queue.len(); n < maxBlocks; {
		runtime.Gosched()
		before := n
		if n = c.j.queue.len(); n == before {
			return
		}
	}
}

// commit writes the records of a batch.
func (c *committer) commit(batch []*request) {
	for len(batch) > 0 {
		n, err := c.record(batch)
		if err != nil {
			err = c.j.stop(err)
			for _, r := range batch {
				r.done <- err
			}
			return
		}
		for _, r := range batch[:n] {
			r.done <- nil
		}
		batch = batch[n:]
	}
}

// record writes one record with as much of the batch as it takes, and returns
// how many of the requests are done.
func (c *committer) record(batch []*request) (int, error) {
	if c.off > c.j.ring.size-2*Block {
		if err := c.nextSegment(); err != nil {
			return 0, err
		}
	}
	j := c.j
	h := &header{id: j.id, encrypted: c.pad != nil, open: c.open, segment: c.segment, seq: c.seq + 1, prev: c.prev}
	_, h.durable = j.syncer.positions()
	j.stack.mu.RLock() // only who has the turn changes them
	h.gen, h.state = j.stack.active().gen, j.stack.state
	layer := j.stack.active()
	j.stack.mu.RUnlock()

	length, done := c.fill(h, batch)
	if c.pad != nil {
		c.pad.encrypt(h, c.buf[headerSize:length], c.segment, c.off+headerSize)
	}
	c.prev = h.encode(c.buf)
	s := j.ring.slot(c.segment)
	j.prewriter.claim(int64(c.segment)*j.ring.size+c.off+int64(length), h.durable)
	if _, err := s.file.WriteAt(c.buf[:length], c.off); err != nil {
		return 0, fmt.Errorf("write %s at %d: %w", slotName("", s.index), c.off, err)
	}
	j.stack.apply(j.ring, h, c.segment, c.off, c.pad)
	if h.kind == kindSeal {
		batch[0].layer = layer
	}
	c.seq++
	c.records.Add(1)
	c.off += int64(length)
	j.ring.advance(c.off)
	j.gate.measure()
	j.syncer.wrote(c.seq, s)
	j.writeback.wrote(s, c.off-int64(length), int64(length))
	j.witness.acknowledge(c.seq)
	if h.kind == kindMark {
		j.syncer.want(c.seq)
	}
	for _, r := range batch[:done] {
		r.seq = c.seq
	}
	return done, nil
}

// fill puts requests into the record and its header, and returns the record's
// length and how many requests are wholly in it.
func (c *committer) fill(h *header, batch []*request) (length, done int) {
	if r := batch[0]; r.kind != kindData {
		h.kind, h.snapshot, h.clean = r.kind, r.snapshot, r.clean
		switch r.kind {
		case kindState:
			h.state = r.state
		case kindSeal:
			h.sealed = time.Now().UnixNano()
		}
		return headerSize, 1
	}
	h.kind = kindData
	room := int(min(maxBlocks, (c.j.ring.size-c.off-headerSize)/Block))
	descriptors := descriptorCap
	body := c.buf[headerSize:]
	for _, r := range batch {
		descriptors -= extentSize
		if r.kind != kindData || descriptors < 0 {
			break
		}
		if r.data == nil {
			h.extents = append(h.extents, extent{off: r.off, n: r.n, zero: true})
			done++
			continue
		}
		k := min(len(r.sums)-r.blocks, room, descriptors/4)
		if k <= 0 {
			break
		}
		e := r.cut(k)
		copyPadded(body[:k*Block], r.data[r.put:r.put+e.n], e.off%Block)
		h.extents = append(h.extents, e)
		body = body[k*Block:]
		room -= k
		descriptors -= 4 * k
		r.put += e.n
		r.blocks += k
		if r.put < r.n {
			break // the rest must follow at once, so that nothing comes between
		}
		done++
	}
	return headerSize + h.dataBlocks()*Block, done
}

// cut describes the next k blocks of the request.
func (r *request) cut(k int) extent {
	off := r.off + r.put
	end := min((off/Block+int64(k))*Block, r.off+r.n)
	return extent{off: off, n: end - off, crcs: r.sums[r.blocks : r.blocks+k]}
}

// copyPadded puts data at offset in of dst and zeros around it.
func copyPadded(dst, data []byte, in int64) {
	clear(dst[:in])
	clear(dst[int(in)+copy(dst[in:], data):])
}

// blockSums computes the checksums of the log blocks that p at off becomes.
func blockSums(p []byte, off int64) []uint32 {
	sums := make([]uint32, 0, blocks(off, int64(len(p))))
	for len(p) > 0 {
		in := off % Block
		n := min(int64(len(p)), Block-in)
		block := p[:n]
		if n < Block {
			block = make([]byte, Block)
			copyPadded(block, p[:n], in)
		}
		sums = append(sums, checksum(block))
		p = p[n:]
		off += n
	}
	return sums
}

// nextSegment goes on in the next slot. No more than two segments are ever
// unsynced, so recovery finds within two segments what a later record claims.
func (c *committer) nextSegment() error {
	j := c.j
	if err := j.syncer.wait(context.Background(), c.ended); err != nil {
		return err
	}
	c.ended = c.seq
	j.syncer.want(c.seq)
	if err := j.ring.enter(tail{segment: c.segment + 1, seq: c.seq + 1, prev: c.prev}); err != nil {
		return err
	}
	c.segment++
	c.off = 0
	return nil
}
