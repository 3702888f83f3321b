package delta

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// Layer is a sealed generation: what was written between two seals. It never
// changes and may be read until it is retired.
type Layer struct {
	journal  *Journal
	gen      uint64
	snapshot ident.Snapshot
	clean    bool
	state    State
	blocks   *blockMap

	cut     time.Time // of the SEAL record
	sealed  uint64    // its sequence; 0 while active
	begun   bool      // the layer has a record
	dirty   bool      // the volume differs from the generation before
	first   uint64    // segment of its first record
	retired bool      // guarded by stack.mu
}

// Gen is the layer's generation.
func (l *Layer) Gen() uint64 { return l.gen }

// Snapshot is the snapshot that the seal was made for, or "".
func (l *Layer) Snapshot() ident.Snapshot { return l.snapshot }

// Clean reports whether the seal closed the volume in good order.
func (l *Layer) Clean() bool { return l.clean }

// State is the volume's state at the seal.
func (l *Layer) State() State { return l.state }

// Sealed is when the seal was made; it is part of the SEAL record and never
// changes.
func (l *Layer) Sealed() time.Time { return l.cut }

// DirtyBytes counts the data in the layer in whole blocks, zeros not included.
func (l *Layer) DirtyBytes() int64 { return int64(l.blocks.data) * Block }

// Chunks yields the numbers of the chunks that the layer touches, ascending.
func (l *Layer) Chunks() iter.Seq[uint64] { return l.blocks.numbers() }

// Extents returns what the layer holds of one chunk, ascending, disjoint and
// with neighbours of a kind joined. A chunk zeroed as a whole is one extent.
func (l *Layer) Extents(chunk uint64) []Extent { return l.blocks.extents(chunk) }

// ReadAt fills p with the layer's bytes at off, verified; a range that is not
// wholly inside the layer's extents is ErrInvalid.
func (l *Layer) ReadAt(ctx context.Context, p []byte, off int64) error {
	j := l.journal
	holes, err := j.read(ctx, p, off, func() ([]*Layer, error) {
		if l.retired {
			return nil, ErrRetired
		}
		return []*Layer{l}, nil
	})
	if err == nil && len(holes) > 0 {
		err = fmt.Errorf("%d bytes at %d are not in the layer: %w", holes[0].Len, holes[0].Off, ErrInvalid)
	}
	if err != nil {
		return j.wrap(fmt.Sprintf("read generation %d", l.gen), err)
	}
	return nil
}

// stack is the volume as the log describes it: the layers, oldest first, the
// last one active, and the state. Lookups hold mu for reading, never over I/O.
type stack struct {
	mu     sync.RWMutex
	layers []*Layer
	state  State
	memory atomic.Int64 // of all maps, in bytes
}

func (s *stack) active() *Layer { return s.layers[len(s.layers)-1] }

// push starts a layer for generation gen.
func (s *stack) push(j *Journal, gen uint64) {
	s.layers = append(s.layers, &Layer{journal: j, gen: gen, blocks: newBlockMap()})
}

// apply makes a record visible that lies at off of a segment, encrypted with d.
func (s *stack) apply(r *ring, h *header, segment uint64, off int64, d *pad) {
	r.slot(segment).record(off+headerSize, r.size, h)
	s.mu.Lock()
	defer s.mu.Unlock()
	r.slot(segment).wrote(d, segment, off)
	l := s.active()
	if !l.begun {
		l.begun, l.first = true, segment
	}
	if h.kind == kindData || h.kind == kindState {
		l.dirty = true
	}
	s.state = h.state
	before := l.blocks.mem
	at := r.place(segment, off+headerSize)
	for _, e := range h.extents {
		if e.zero {
			l.blocks.setZero(e.off, e.n)
		} else {
			l.blocks.setData(e.off, e.n, at)
			at += place(len(e.crcs))
		}
	}
	s.memory.Add(l.blocks.mem - before)
	if h.kind == kindSeal {
		l.snapshot, l.clean, l.state = h.snapshot, h.clean, h.state
		l.cut, l.sealed = time.Unix(0, h.sealed).UTC(), h.seq
		s.push(l.journal, l.gen+1)
	}
}

// drop removes the layers up to gen.
func (s *stack) drop(gen uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for s.layers[n].gen <= gen {
		s.layers[n].retired = true
		s.memory.Add(-s.layers[n].blocks.mem)
		n++
	}
	s.layers = append([]*Layer(nil), s.layers[n:]...)
}

// tail returns the first segment that the layers after gen need, head if they
// have no record yet.
func (s *stack) tail(gen, head uint64) uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, l := range s.layers {
		if l.gen > gen && l.begun {
			return l.first
		}
	}
	return head
}

// sealed returns the layers whose SEAL record is no later than durable.
func (s *stack) sealed(durable uint64) []*Layer {
	s.mu.RLock()
	defer s.mu.RUnlock()
	n := 0
	for n < len(s.layers) && s.layers[n].sealed != 0 && s.layers[n].sealed <= durable {
		n++
	}
	return append([]*Layer(nil), s.layers[:n]...)
}

// cut returns the layer that is sealed for snapshot id, durably or not, or nil.
func (s *stack) cut(id ident.Snapshot) *Layer {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, l := range s.layers {
		if l.sealed != 0 && l.snapshot == id {
			return l
		}
	}
	return nil
}
