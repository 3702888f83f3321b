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
func budgetedBuffer(ctx context.Context, budget *semaphore.Weighted, n int) (*buffer, error) {
	if !budget.TryAcquire(int64(n)) { // which is cheaper: it needs no ctx.Done
		if err := budget.Acquire(ctx, int64(n)); err != nil {
			return nil, err
		}
	}
	b := newBuffer(n)
	b.budget = budget
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
