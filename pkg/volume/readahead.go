package volume

import (
	"sync"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
)

const (
	streams  = 8       // sequential readers that are told apart
	slack    = 1 << 20 // how far out of order the reads of one may arrive, in bytes
	inFlight = 5       // pieces read ahead at one time
)

// readAhead recognises sequential readers of a volume and says what to read
// before they ask: pieces that double from a slot to a whole chunk.
type readAhead struct {
	limit int64 // bytes ahead of a reader at most

	mu      sync.Mutex
	clock   uint64
	streams [streams]stream
	flying  int // pieces given out and not yet done
}

// stream is one sequential reader.
type stream struct {
	next  int64  // where its next read should start
	ahead int64  // up to where was read ahead
	unit  int64  // size of the next piece; 0: not seen to be sequential yet
	used  uint64 // clock of its last read
}

// after takes notice of a read and returns the pieces to read ahead now, each
// within one chunk and not beyond size. Each must be reported as done.
func (a *readAhead) after(off, n, size int64) (pieces spans) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.clock++
	s := a.find(off)
	if s == nil {
		*a.oldest() = stream{next: off + n, used: a.clock}
		return nil
	}
	s.used = a.clock
	if off+n <= s.next {
		return nil
	}
	s.next = off + n
	s.ahead = max(s.ahead, s.next)
	if s.unit == 0 {
		s.unit = regionSize
	}
	for a.flying < inFlight && s.ahead < size {
		end := min(s.ahead/s.unit*s.unit+s.unit, size)
		if end > s.next+a.limit {
			break
		}
		pieces = append(pieces, span{s.ahead, end})
		s.ahead = end
		s.unit = min(2*s.unit, chunks.Size)
		a.flying++
	}
	return pieces
}

// done reports that a piece was read, or given up.
func (a *readAhead) done() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.flying--
}

// find returns the stream that a read at off belongs to, or nil.
func (a *readAhead) find(off int64) *stream {
	for i := range a.streams {
		if s := &a.streams[i]; s.used > 0 && off >= s.next-slack && off <= s.next+slack {
			return s
		}
	}
	return nil
}

// oldest returns the stream that was not read for the longest time.
func (a *readAhead) oldest() *stream {
	found := &a.streams[0]
	for i := range a.streams {
		if s := &a.streams[i]; s.used < found.used {
			found = s
		}
	}
	return found
}
