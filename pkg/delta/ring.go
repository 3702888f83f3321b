package delta

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
)

const (
	minSegment = 64 << 10
	maxSegment = 1 << 30
	minSlots   = 4
)

// ring is the log's files. Segment number n, counted from the journal's
// creation, lives in slot n modulo the number of slots; the segments from the
// tail to the head are the log.
type ring struct {
	size  int64 // of a segment, in bytes
	slots []*slot

	mu       sync.Mutex
	freed    sync.Cond // a slot may have become free
	tail     tail
	head     uint64 // segment being written
	headOff  int64  // bytes used of it
	starving atomic.Bool
	halted   bool
}

// slot is one file and the segment that it holds now.
type slot struct {
	index int
	file  File
	// sums has the checksum of each data block of the segment; an entry is
	// written before the map points to its block.
	sums  []uint32
	pins  atomic.Int32 // readers of the slot
	start tail         // of the segment; guarded by ring.mu
	// passages say who has encrypted which part of the segment; guarded by stack.mu.
	passages []*passage
	// syncing is held while the file is synced; see syncer.exclusively.
	syncing sync.Mutex
}

func checkGeometry(segment int64, slots int) error {
	if segment < minSegment || segment > maxSegment || segment%Block != 0 || slots < minSlots ||
		int64(slots) > (1<<32-1-int64(firstData))/(segment/Block) {
		return fmt.Errorf("%d segments of %d bytes: %w", slots, segment, ErrInvalid)
	}
	return nil
}

func slotName(dir string, i int) string { return filepath.Join(dir, fmt.Sprintf("segment.%05x", i)) }

// createRing makes and reserves the files.
func createRing(fs FS, dir string, size int64, slots int) (*ring, error) {
	r, err := newRing(size, slots, func(i int) (File, error) {
		f, err := fs.Create(slotName(dir, i))
		if err != nil {
			return nil, err
		}
		if err := f.Allocate(size); err != nil {
			f.Close()
			return nil, err
		}
		return f, nil
	})
	if err != nil {
		return nil, fmt.Errorf("reserve %d bytes (make room on that file system, or take a smaller journal): %w", size*int64(slots), err)
	}
	for _, s := range r.slots { // after all were made: one commit of the file system serves them all
		if err := s.file.Sync(); err != nil {
			r.close()
			return nil, err
		}
	}
	return r, nil
}

// openRing opens the files and brings what the page cache holds of them to the
// disk, so that recovery judges what will stay.
func openRing(fs FS, dir string, size int64, slots int) (*ring, error) {
	return newRing(size, slots, func(i int) (File, error) {
		f, err := fs.Open(slotName(dir, i))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", err, ErrDamaged)
		}
		if err := f.Sync(); err != nil {
			f.Close()
			return nil, fmt.Errorf("sync %s before recovery: %w: %w", slotName("", i), err, ErrDamaged)
		}
		return f, nil
	})
}

func newRing(size int64, slots int, open func(int) (File, error)) (*ring, error) {
	r := &ring{size: size}
	r.freed.L = &r.mu
	for i := range slots {
		f, err := open(i)
		if err != nil {
			r.close()
			return nil, err
		}
		r.slots = append(r.slots, &slot{index: i, file: f})
	}
	return r, nil
}

func (r *ring) close() error {
	var first error
	for _, s := range r.slots {
		if err := s.file.Close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

func (r *ring) slot(segment uint64) *slot { return r.slots[segment%uint64(len(r.slots))] }

// place names the log block at off of a segment.
func (r *ring) place(segment uint64, off int64) place {
	return firstData + place(int64(r.slot(segment).index)*(r.size/Block)+off/Block)
}

// locate is the inverse of place: a slot and a block in it.
func (r *ring) locate(p place) (*slot, int) {
	per := int(r.size / Block)
	return r.slots[int(p-firstData)/per], int(p-firstData) % per
}

// record notes the checksums of a record's data blocks, the first at off.
func (s *slot) record(off, size int64, h *header) {
	if s.sums == nil {
		s.sums = make([]uint32, size/Block)
	}
	at := s.sums[off/Block:]
	for _, e := range h.extents {
		at = at[copy(at, e.crcs):]
	}
}

// enter makes the segment that starts with t the head, once its slot is free.
func (r *ring) enter(t tail) error {
	s := r.slot(t.segment)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.starving.Store(true)
	for !r.halted && (t.segment-r.tail.segment >= uint64(len(r.slots)) || s.pins.Load() > 0) {
		r.freed.Wait()
	}
	r.starving.Store(false)
	if r.halted {
		return ErrClosed
	}
	s.start = t
	r.head, r.headOff = t.segment, 0
	return nil
}

// full tells whether no segment can follow the head.
func (r *ring) full() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.head+1-r.tail.segment >= uint64(len(r.slots))
}

// advance moves the head's end.
func (r *ring) advance(off int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.headOff = off
}

// release frees the segments before t.
func (r *ring) release(t tail) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tail = t
	r.freed.Broadcast()
}

// used returns the bytes of the log from tail to head.
func (r *ring) used() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return int64(r.head-r.tail.segment)*r.size + r.headOff
}

// start returns the beginning of a segment, or of the last one before it whose
// first record is durable: only such a one may become the tail, else a power
// loss would leave a log without a beginning.
func (r *ring) start(segment, durable uint64) tail {
	r.mu.Lock()
	defer r.mu.Unlock()
	for segment > r.tail.segment && r.slot(segment).start.seq > durable {
		segment--
	}
	return r.slot(segment).start
}

// halt ends a wait in enter.
func (r *ring) halt() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.halted = true
	r.freed.Broadcast()
}

// drain returns when no reader holds a slot. None may come.
func (r *ring) drain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.starving.Store(true)
	for _, s := range r.slots {
		for s.pins.Load() > 0 {
			r.freed.Wait()
		}
	}
}

func (r *ring) headSegment() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.head
}

// unpin ends a reader's hold on the slot.
func (r *ring) unpin(s *slot) {
	if s.pins.Add(-1) == 0 && r.starving.Load() {
		r.mu.Lock()
		r.freed.Broadcast()
		r.mu.Unlock()
	}
}
