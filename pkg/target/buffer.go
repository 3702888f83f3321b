package target

import (
	"context"
	"math/bits"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/swiftblock/csi-swiftblock/pkg/target/disk"
)

// Buffers come in powers of two from 4 KiB to the most that one command moves.
const (
	smallestBuffer = 12
	largestBuffer  = 22
)

var _ = [1]struct{}{}[1<<largestBuffer-disk.MaxTransfer] // the two agree

var pools [largestBuffer - smallestBuffer + 1]sync.Pool

// reserve is what each session may have for itself of data-in, and of data-out longer
// than a first burst: enough for any one command, so that none waits for another session.
const reserve = disk.MaxTransfer

// defaultBuffers is what all sessions may have together besides, of both.
const defaultBuffers = 64 << 20

// budget bounds the buffers of one session in one direction: a share of what all have
// together while there is any, else the session's own reserve.
type budget struct{ shared, own *semaphore.Weighted }

func (s *Server) newBudget() budget {
	return budget{s.buffers, semaphore.NewWeighted(reserve)}
}

// acquire waits until there is room for n bytes and returns where it is given back.
func (b budget) acquire(ctx context.Context, n int) (*semaphore.Weighted, error) {
	if b.shared.TryAcquire(int64(n)) {
		return b.shared, nil
	}
	if b.own.TryAcquire(int64(n)) { // which is cheaper: it needs no ctx.Done
		return b.own, nil
	}
	return b.own, b.own.Acquire(ctx, int64(n))
}

// buffer is pooled memory. Its owner releases it exactly once.
type buffer struct {
	bytes  []byte
	class  int
	budget *semaphore.Weighted // what it counts against, or nil
}

// newBuffer returns a buffer of n bytes, contents undefined.
func newBuffer(n int) *buffer {
	class := max(bits.Len(uint(max(n, 1)-1)), smallestBuffer) - smallestBuffer
	b, ok := pools[class].Get().(*buffer)
	if !ok {
		b = &buffer{bytes: make([]byte, 1<<(class+smallestBuffer)), class: class}
	}
	b.bytes = b.bytes[:n]
	return b
}

// budgetedBuffer waits until budget allows for n bytes.
func budgetedBuffer(ctx context.Context, budget budget, n int) (*buffer, error) {
	from, err := budget.acquire(ctx, n)
	if err != nil {
		return nil, err
	}
	b := newBuffer(n)
	b.budget = from
	return b, nil
}

func (b *buffer) release() {
	if b == nil {
		return
	}
	if b.budget != nil {
		b.budget.Release(int64(len(b.bytes)))
		b.budget = nil
	}
	b.bytes = b.bytes[:cap(b.bytes)]
	pools[b.class].Put(b)
}
