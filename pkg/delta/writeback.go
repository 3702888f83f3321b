package delta

// writebackStep is how much of the log the page cache takes before it is written, in
// bytes.
const writebackStep = 4 << 20

// writeback has the log written soon after it left the process, a step at a time. Else
// up to two segments of it, of which a flush may come late, would stay in memory that
// nothing can be done with until they are written: on a node that is short of it, or
// under a memory limit of this process, that is where its own memory comes from. What
// is written is not durable by that, and failures are told to the next sync.
type writeback struct {
	steps chan stretch
	done  chan struct{} // run has returned
	last  stretch       // that records belong to; the committer's
}

// stretch is a part of a slot.
type stretch struct {
	slot   *slot
	off, n int64
}

func newWriteback() *writeback {
	return &writeback{steps: make(chan stretch, 1), done: make(chan struct{})}
}

// wrote takes note of a record of n bytes at off. It never waits: as long as a step
// cannot be taken it grows. The rest of a segment is left to the sync that it ends with.
func (w *writeback) wrote(in *slot, off, n int64) {
	if w.last.slot != in || w.last.off+w.last.n != off {
		w.last = stretch{slot: in, off: off}
	}
	if w.last.n += n; w.last.n < writebackStep {
		return
	}
	select {
	case w.steps <- w.last:
		w.last = stretch{slot: in, off: off + n}
	default:
	}
}

func (w *writeback) run(halt *halt) {
	defer close(w.done)
	for {
		select {
		case s := <-w.steps:
			s.slot.file.Writeback(s.off, s.n)
		case <-halt.done:
			return
		}
	}
}
