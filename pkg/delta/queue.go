package delta

import (
	"slices"
	"sync"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// request is one caller's wish for the log.
type request struct {
	kind     kind
	off, n   int64
	data     []byte         // kindData: nil means zeros
	sums     []uint32       // one per block that data touches
	state    State          // kindState
	snapshot ident.Snapshot // kindSeal
	clean    bool           // kindSeal

	put    int64  // bytes already in records
	blocks int    // of log, for the same
	seq    uint64 // of its last record, once done
	layer  *Layer // kindSeal: what was sealed
	done   chan error
}

// queue holds the requests that no record contains yet, in log order.
type queue struct {
	mu      sync.Mutex
	pending []*request
	closed  error
}

// push appends r, whose done will receive the outcome.
func (q *queue) push(r *request) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed != nil {
		return q.closed
	}
	q.pending = append(q.pending, r)
	return nil
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.pending)
}

// cancel takes r back; false says that it is too late.
func (q *queue) cancel(r *request) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.pending, r)
	if i < 0 {
		return false
	}
	q.pending = slices.Delete(q.pending, i, i+1)
	return true
}

// take returns what is pending.
func (q *queue) take() []*request {
	q.mu.Lock()
	defer q.mu.Unlock()
	batch := q.pending
	q.pending = nil
	return batch
}

// close refuses all further requests with err and returns what is left.
func (q *queue) close(err error) []*request {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = err
	left := q.pending
	q.pending = nil
	return left
}
