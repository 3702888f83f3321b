package target

import (
	"errors"
	"sync/atomic"
	"time"
)

// lead is the right to read from a session's connection; the one goroutine that has it
// is the reader. For an initiator that has one command in flight, the reader carries
// that out itself: no other goroutine needs to be woken, nor a processor for it. It
// never waits for a command all the same: one that takes longer than patience costs it
// the lead, and another goroutine reads on.
type lead struct {
	// turn is odd while the reader carries out a command. Whoever makes the next even
	// number of it is the reader.
	turn    atomic.Uint64
	watched atomic.Uint64 // the turn that watchdog has seen begin
	armed   atomic.Bool   // watchdog will run
	// watchdog relieves the reader. It is armed for the first turn of many and then
	// runs once in patience.
	watchdog *time.Timer
	handOver int // commands that go to workers before the next is carried out; the reader's
}

const (
	// patience is how long a command may keep the reader from reading.
	patience = time.Millisecond
	// quick is how long one is expected to take; after a slower one, the next
	// slowBatch commands are left to workers, which work in parallel.
	quick     = 50 * time.Microsecond
	slowBatch = 256
)

// errRelieved says that another goroutine is the reader now.
var errRelieved = errors.New("relieved of reading")

// ownHands reports whether the reader should carry out a task itself: it is the only
// one, its data are here, and no other request has begun to arrive. The session is
// locked.
func (s *session) ownHands(t *task) bool {
	if len(s.tasks) > 1 || s.in.Buffered() || t.write && t.data.got < int(t.Expected) {
		return false
	}
	if s.lead.handOver > 0 {
		s.lead.handOver--
		return false
	}
	return true
}

// carryOut is start for the reader's own hands. After errRelieved the goroutine has
// nothing more to do.
func (s *session) carryOut(t *task) error {
	l := &s.lead
	t.turn = l.turn.Add(1)
	if l.armed.CompareAndSwap(false, true) {
		l.watch(t.turn)
	}
	began := time.Now()
	if !t.run() {
		return errRelieved
	}
	if time.Since(began) > quick {
		l.handOver = slowBatch
	}
	return nil
}

func (l *lead) watch(turn uint64) {
	l.watched.Store(turn)
	l.watchdog.Reset(patience)
}

// relieve is the watchdog: it takes the lead from a reader that has been carrying out
// the same command since it looked last, and reads on.
func (s *session) relieve() {
	l := &s.lead
	turn := l.turn.Load()
	if turn%2 == 1 && turn != l.watched.Load() {
		l.watch(turn)
		return
	}
	l.armed.Store(false)
	switch {
	case turn%2 == 1 && l.turn.CompareAndSwap(turn, turn+1):
		l.handOver = slowBatch
		s.read()
	case l.turn.Load()%2 == 1 && l.armed.CompareAndSwap(false, true):
		l.watch(l.turn.Load()) // one that began when armed still seemed to be set
	}
}
