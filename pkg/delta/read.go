package delta

import (
	"context"
	"fmt"
)

// step is one block, or some of its sectors, that a read takes from the log.
type step struct {
	slot  *slot
	block int    // in the slot
	sum   uint32 // of the block
	mask  uint8  // sectors wanted
	off   int64  // of the block in the volume
	under *passage
}

// plan is what a read found in the maps: blocks to fetch, ranges of zeros, and
// what no layer knows. The slots of its steps are pinned.
type plan struct {
	steps []step
	zeros []Span
	holes []Span
	pins  []*slot
}

func (r *plan) pin(s *slot) {
	for _, p := range r.pins {
		if p == s {
			return
		}
	}
	s.pins.Add(1)
	r.pins = append(r.pins, s)
}

// addSpans appends the sectors in mask of the block at off to spans.
func addSpans(spans []Span, off int64, mask uint8) []Span {
	for s := int64(0); mask>>s != 0; s++ {
		if mask>>s&1 == 0 {
			continue
		}
		n := int64(1)
		for mask>>(s+n)&1 != 0 {
			n++
		}
		at := Span{off + s*Sector, n * Sector}
		if k := len(spans) - 1; k >= 0 && spans[k].Off+spans[k].Len == at.Off {
			spans[k].Len += at.Len
		} else {
			spans = append(spans, at)
		}
		s += n - 1
	}
	return spans
}

// read plans under the stack's lock and fetches without it.
func (j *Journal) read(ctx context.Context, p []byte, off int64, layers func() ([]*Layer, error)) ([]Span, error) {
	if err := checkRange(off, int64(len(p)), MaxVolume); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	r, err := j.plan(off, int64(len(p)), layers)
	if err != nil {
		return nil, err
	}
	defer j.unpin(r)
	for _, z := range r.zeros {
		clear(p[z.Off-off:][:z.Len])
	}
	return r.holes, fetch(r.steps, p, off)
}

func (j *Journal) unpin(r *plan) {
	for _, s := range r.pins {
		j.ring.unpin(s)
	}
}

func (j *Journal) plan(off, n int64, layers func() ([]*Layer, error)) (*plan, error) {
	j.stack.mu.RLock()
	defer j.stack.mu.RUnlock()
	if j.closed.Load() {
		return nil, ErrClosed
	}
	from, err := layers()
	if err != nil {
		return nil, err
	}
	r := new(plan)
	for at := off / Block * Block; at < off+n; at += Block {
		in := max(off-at, 0)
		need := sectorMask(in, min(off+n-at, Block)-in)
		for i := len(from) - 1; i >= 0 && need != 0; i-- {
			need &^= from[i].blocks.find(uint32(at/ChunkSize), int(at%ChunkSize/Block), need, func(mask uint8, p place) {
				if !p.isData() {
					r.zeros = addSpans(r.zeros, at, mask)
					return
				}
				s, b := j.ring.locate(p)
				r.pin(s)
				r.steps = append(r.steps, step{s, b, s.sums[b], mask, at, s.under(b)})
			})
		}
		r.holes = addSpans(r.holes, at, need)
	}
	return r, nil
}

// fetch reads the steps into p, which is the volume from off on. Whole blocks
// that lie together in the log and in the volume are read by one call.
func fetch(steps []step, p []byte, off int64) error {
	var bounce []byte
	for len(steps) > 0 {
		n := 1
		for n < len(steps) && continues(steps[n-1], steps[n]) {
			n++
		}
		s := steps[0]
		if s.mask == allMask {
			dst := p[s.off-off:][:n*Block]
			if err := readBlocks(steps[:n], dst); err != nil {
				return err
			}
		} else {
			if bounce == nil {
				bounce = make([]byte, Block)
			}
			if err := readBlocks(steps[:1], bounce); err != nil {
				return err
			}
			for _, part := range addSpans(nil, s.off, s.mask) {
				copy(p[part.Off-off:][:part.Len], bounce[part.Off-s.off:])
			}
		}
		steps = steps[n:]
	}
	return nil
}

func continues(a, b step) bool {
	return a.mask == allMask && b.mask == allMask && a.slot == b.slot && a.under == b.under && a.block+1 == b.block && a.off+Block == b.off
}

// readBlocks reads the consecutive blocks of steps, verifies each and decrypts them.
func readBlocks(steps []step, dst []byte) error {
	s := steps[0]
	if _, err := s.slot.file.ReadAt(dst, int64(s.block)*Block); err != nil {
		return fmt.Errorf("%s at %d: %w", slotName("", s.slot.index), int64(s.block)*Block, err)
	}
	for i := range steps {
		if checksum(dst[i*Block:][:Block]) != steps[i].sum {
			return fmt.Errorf("%s at %d: wrong checksum: %w", slotName("", s.slot.index), int64(s.block+i)*Block, ErrDamaged)
		}
	}
	if s.under != nil {
		s.under.pad.xor(dst, s.under.segment, int64(s.block)*Block)
	}
	return nil
}

// checkRange refuses what is not a sequence of whole sectors within size.
func checkRange(off, n, size int64) error {
	if off < 0 || n < 0 || off%Sector != 0 || n%Sector != 0 || n > size || off > size-n {
		return fmt.Errorf("%d bytes at %d of %d: %w", n, off, size, ErrInvalid)
	}
	return nil
}
