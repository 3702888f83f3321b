package image

import (
	"context"
	"iter"
	"slices"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/delta"
)

// Salvage is what a journal that nobody will upload makes of the version that it
// continued: the volume as its node saw it last.
type Salvage struct {
	journal *delta.Remains
	base    *Version
	chunks  []uint64 // that the journal holds something of, ascending
}

// NewSalvage lays what remains of a journal over a version; over a blank one it is what the
// journal holds, and zeros.
func NewSalvage(journal *delta.Remains, base *Version) *Salvage {
	return &Salvage{journal: journal, base: base, chunks: slices.Collect(journal.Chunks())}
}

// Size implements [Content].
func (s *Salvage) Size() int64 { return max(s.base.Size(), s.journal.State().Size) }

// Chunks implements [Content].
func (s *Salvage) Chunks(ctx context.Context) iter.Seq2[uint64, error] {
	return func(yield func(uint64, error) bool) {
		own := s.chunks
		for chunk, err := range s.base.Chunks(ctx) {
			for ; err == nil && len(own) > 0 && own[0] < chunk; own = own[1:] {
				if !yield(own[0], nil) {
					return
				}
			}
			if err == nil && len(own) > 0 && own[0] == chunk {
				own = own[1:]
			}
			if !yield(chunk, err) {
				return
			}
		}
		for _, chunk := range own {
			if !yield(chunk, nil) {
				return
			}
		}
	}
}

// ReadChunk implements [Content].
func (s *Salvage) ReadChunk(ctx context.Context, chunk uint64, buf []byte) error {
	if err := s.base.ReadChunk(ctx, chunk, buf); err != nil {
		return err
	}
	_, err := s.journal.Read(ctx, buf, int64(chunk)*chunks.Size)
	return err
}

// Held yields, ascending, the ranges of the volume that the journal holds.
func (s *Salvage) Held(ctx context.Context) iter.Seq2[Span, error] {
	return func(yield func(Span, error) bool) {
		buf := make([]byte, chunks.Size)
		for _, chunk := range s.chunks {
			from := int64(chunk) * chunks.Size
			end := from + chunks.Size
			holes, err := s.journal.Read(ctx, buf, from)
			if err != nil {
				yield(Span{}, err)
				return
			}
			for _, hole := range append(holes, delta.Span{Off: end}) {
				if hole.Off > from && !yield(Span{from, hole.Off - from}, nil) {
					return
				}
				from = hole.Off + hole.Len
			}
		}
	}
}
