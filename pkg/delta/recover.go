package delta

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// recovery walks the log from the anchor on, past the page cache, and builds
// the maps (R3). It changes nothing.
type recovery struct {
	j       *Journal
	window  window
	next    tail       // where the next record belongs: its segment, seq and prev
	off     int64      // in that segment
	gen     uint64     // of the next record; 0 before the first one
	open    ident.Open // of the last record
	pad     *pad       // of that opening
	retired uint64     // generations that are published: their data is not read here any more
}

// run returns where the log ends. It stops at the first broken record, and
// returns ErrDamaged if a later one claims that this was durable.
func (r *recovery) run(a anchor) error {
	ring, stack := r.j.ring, &r.j.stack
	r.window.size = ring.size
	defer r.window.close()
	r.next, r.retired = a.tail, a.retired
	ring.release(a.tail)
	if err := ring.enter(a.tail); err != nil {
		return err
	}
	for {
		h, sum, err := r.record()
		if err == errNoRecord {
			break
		}
		if err != nil {
			return err
		}
		if r.gen == 0 || h.open != r.open {
			r.pad = r.j.pad(h.open)
		}
		if h.gen > a.retired {
			if len(stack.layers) == 0 {
				stack.push(r.j, h.gen)
			}
			stack.apply(ring, &h, r.next.segment, r.off, r.pad)
		}
		stack.state = h.state
		r.open = h.open
		r.gen = h.gen
		if h.kind == kindSeal {
			r.gen++
		}
		r.next.seq++
		r.next.prev = sum
		r.off += headerSize + int64(h.dataBlocks())*Block
		ring.advance(r.off)
	}
	if r.gen == 0 {
		return fmt.Errorf("no record at the beginning of the log: %w", ErrDamaged)
	}
	if r.gen <= a.retired {
		return fmt.Errorf("the log ends in generation %d, but %d is published: %w", r.gen, a.retired, ErrDamaged)
	}
	if len(stack.layers) == 0 {
		stack.push(r.j, r.gen)
	}
	return r.claims()
}

// record finds the next record where the last one ends, or at the beginning of
// the next segment; errNoRecord if it is at neither place.
func (r *recovery) record() (header, uint32, error) {
	h, sum, err := r.recordAt(r.next.segment, r.off)
	if err != errNoRecord || r.gen == 0 {
		return h, sum, err
	}
	h, sum, err = r.recordAt(r.next.segment+1, 0)
	if err == nil {
		if uint64(len(r.j.ring.slots)) <= r.next.segment+1-r.j.ring.tail.segment {
			return h, sum, fmt.Errorf("segment %d lies over the beginning of the log: %w", r.next.segment+1, ErrDamaged)
		}
		r.next.segment++
		r.off = 0
		err = r.j.ring.enter(r.next)
	}
	return h, sum, err
}

// recordAt returns the record at off of a segment if it is the next one.
func (r *recovery) recordAt(segment uint64, off int64) (h header, sum uint32, err error) {
	size := r.j.ring.size
	if off > size-headerSize {
		return h, 0, errNoRecord
	}
	slot := r.j.ring.slot(segment)
	p, err := r.window.at(slot, off, headerSize)
	if err != nil {
		return h, 0, err
	}
	h, sum, err = decodeHeader(p)
	length := int64(h.dataBlocks()) * Block
	switch {
	case err != nil:
		return h, 0, err
	case h.id != r.j.id, h.encrypted != (r.j.cfg.Key != nil), h.segment != segment, h.seq != r.next.seq, h.prev != r.next.prev:
		return h, 0, errNoRecord
	case h.kind != kindOpen && h.open != r.open && r.gen != 0:
		return h, 0, errNoRecord
	case h.gen != r.gen && r.gen != 0, off+headerSize+length > size:
		return h, 0, errNoRecord
	}
	if h.gen <= r.retired { // their SEAL was durable: none of them is torn
		return h, sum, nil
	}
	data, err := r.window.at(slot, off, headerSize+length)
	if err != nil {
		return h, 0, err
	}
	data = data[headerSize:]
	for _, e := range h.extents {
		for _, c := range e.crcs {
			if checksum(data[:Block]) != c {
				return h, 0, errNoRecord
			}
			data = data[Block:]
		}
	}
	return h, sum, nil
}

// claims looks for a record after the end of the log that says that more was
// durable than was found. Such a record is in the rest of the segment that the
// broken one belongs to, in the one after it, or, if both are lost, at the beginning
// of a later one.
func (r *recovery) claims() error {
	ring := r.j.ring
	claim := func(p []byte) error {
		h, _, err := decodeHeader(p)
		if err == nil && h.id == r.j.id && h.durable >= r.next.seq {
			return fmt.Errorf("record %d is broken, but record %d says that %d was durable: %w", r.next.seq, h.seq, h.durable, ErrDamaged)
		}
		return nil
	}
	look := func(s *slot, from int64) error {
		for off := from; off < ring.size; off += Block {
			p, err := r.window.at(s, off, headerSize)
			if err == nil {
				err = claim(p)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	segment, off := r.next.segment, r.off
	if off > ring.size-2*Block { // what is broken is the first record of the next one
		segment, off = segment+1, 0
	}
	last, following := ring.slot(segment), ring.slot(segment+1)
	if err := look(last, off); err != nil {
		return err
	}
	if err := look(following, 0); err != nil {
		return err
	}
	first := alignedBuffer(headerSize)
	for _, s := range ring.slots {
		if s == last || s == following {
			continue
		}
		_, err := s.file.ReadDirectAt(first, 0)
		if errors.Is(err, syscall.EIO) {
			continue // a bad sector, in a segment that is not of the log as far as we know
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", slotName("", s.index), err)
		}
		if err := claim(first); err != nil {
			return err
		}
	}
	return nil
}
