package delta

import (
	"fmt"
	"sync"
)

// prewriteChunk is what one step of the prewriter writes, in bytes.
const prewriteChunk = 1 << 20

// prewriter fills the log with zeros ahead of its first use, so that a flush
// need not wait for the file system to note that reserved blocks hold data now.
// Who writes more between two flushes than a step does gains nothing by it and
// keeps the disk to himself. Positions are bytes since the journal's creation; once every slot was in use
// there is nothing left to do.
type prewriter struct {
	ring   *ring
	syncer *syncer
	ahead  int64         // how far before the records, in bytes
	kick   chan struct{} // records came closer
	done   chan struct{} // run has returned

	mu      sync.Mutex
	idle    sync.Cond
	claimed int64  // the records' end: never written from here back
	flushed int64  // their end when the last flush was over
	durable uint64 // last record of that flush
	next    int64  // where the next step begins
	busy    bool   // a step is in progress, from next on
}

func newPrewriter(r *ring, s *syncer, ahead, from int64) *prewriter {
	w := &prewriter{ring: r, syncer: s, ahead: ahead, kick: make(chan struct{}, 1), done: make(chan struct{}), claimed: from, flushed: from, next: from}
	w.idle.L = &w.mu
	return w
}

// claim takes the log up to end for a record: when it returns, no step writes
// there, nor ever will. durable is the last record known to be flushed.
func (w *prewriter) claim(end int64, durable uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if durable != w.durable {
		w.durable, w.flushed = durable, w.claimed
	}
	w.claimed = end
	for w.busy && w.next < end {
		w.idle.Wait()
	}
	if w.wants() {
		select {
		case w.kick <- struct{}{}:
		default:
		}
	}
}

// wants tells whether a step is due.
func (w *prewriter) wants() bool {
	return w.ahead > 0 && w.claimed-w.flushed <= prewriteChunk && w.next < w.claimed+w.ahead && max(w.next, w.claimed) < w.ring.size*int64(len(w.ring.slots))
}

func (w *prewriter) run() {
	defer close(w.done)
	for {
		for w.syncer.halt.err() == nil && w.step() {
		}
		select {
		case <-w.kick:
		case <-w.syncer.halt.done:
			return
		}
	}
}

// step writes one chunk, if one is due. A failure stops the journal: it may
// concern records that share the file.
func (w *prewriter) step() bool {
	w.mu.Lock()
	if !w.wants() {
		w.mu.Unlock()
		return false
	}
	w.next = max(w.next, w.claimed)
	off := w.next % w.ring.size
	n := min(prewriteChunk, w.ring.size-off)
	s := w.ring.slot(uint64(w.next / w.ring.size))
	w.busy = true
	w.mu.Unlock()

	err := w.syncer.exclusively(s, func() error { return s.file.ZeroAt(off, n) })

	w.mu.Lock()
	w.busy = false
	w.next += n
	w.idle.Broadcast()
	w.mu.Unlock()
	if err != nil {
		w.syncer.fail(fmt.Errorf("prewrite %s: %w", slotName("", s.index), err))
	}
	return err == nil
}
