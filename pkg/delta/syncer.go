package delta

import (
	"context"
	"fmt"
	"sync"
)

// syncer brings the log to stable storage. Whoever waits while a sync runs
// shares the next one.
type syncer struct {
	halt *halt
	fail func(error)   // a sync failed
	idle func()        // everything written is durable
	kick chan struct{} // there is something to do
	done chan struct{} // run has returned

	mu      sync.Mutex
	broken  error   // a sync failed: none may succeed after it
	written uint64  // last record that left the process
	durable uint64  // last record known to be on stable storage
	wanted  uint64  // last record that someone waits for
	dirty   []*slot // written to since their last sync began
	waiters []syncWaiter
	syncs   uint64
}

type syncWaiter struct {
	seq  uint64
	done chan struct{}
}

// wrote takes note of a record that left the process.
func (s *syncer) wrote(seq uint64, in *slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.written = seq
	for _, d := range s.dirty {
		if d == in {
			return
		}
	}
	s.dirty = append(s.dirty, in)
}

// wait returns once record seq is durable.
func (s *syncer) wait(ctx context.Context, seq uint64) error {
	w := s.want(seq)
	if w == nil {
		return nil
	}
	select {
	case <-w:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.halt.done:
		return s.halt.err()
	}
}

// want starts a sync for seq and returns what is closed after it, nil if seq is
// durable already.
func (s *syncer) want(seq uint64) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.durable >= seq {
		return nil
	}
	w := syncWaiter{seq, make(chan struct{})}
	s.waiters = append(s.waiters, w)
	s.wanted = max(s.wanted, seq)
	select {
	case s.kick <- struct{}{}:
	default:
	}
	return w.done
}

// positions returns the last written and the last durable record.
func (s *syncer) positions() (written, durable uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written, s.durable
}

func (s *syncer) count() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.syncs
}

// run syncs for those who want it until the journal halts.
func (s *syncer) run() {
	defer close(s.done)
	for {
		select {
		case <-s.kick:
		case <-s.halt.done:
			return
		}
		if err := s.sync(); err != nil {
			s.fail(err)
			return
		}
	}
}

// exclusively does something that syncs f's file. Whoever is told of a failure
// is the only one: the file system takes the lost pages for clean afterwards.
// So nobody else may sync the file before all know.
func (s *syncer) exclusively(f *slot, do func() error) error {
	f.syncing.Lock()
	defer f.syncing.Unlock()
	s.mu.Lock()
	err := s.broken
	s.mu.Unlock()
	if err == nil {
		if err = do(); err != nil {
			s.mu.Lock()
			s.broken = err
			s.mu.Unlock()
		}
	}
	return err
}

// sync makes what was written before the call durable. Only one may run.
func (s *syncer) sync() error {
	s.mu.Lock()
	target, files := s.written, s.dirty
	s.dirty = nil
	s.mu.Unlock()
	for _, f := range files {
		if err := s.exclusively(f, f.file.Sync); err != nil {
			return fmt.Errorf("sync %s: %w", slotName("", f.index), err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.durable = target
	s.syncs++
	left := s.waiters[:0]
	for _, w := range s.waiters {
		if w.seq <= target {
			close(w.done)
		} else {
			left = append(left, w)
		}
	}
	clear(s.waiters[len(left):])
	s.waiters = left
	if s.wanted > target {
		select {
		case s.kick <- struct{}{}:
		default:
		}
	} else if s.written == target {
		s.idle()
	}
	return nil
}
