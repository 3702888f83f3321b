package snapshots

import (
	"iter"
	"slices"
)

// entries are the entries of some chunks in little memory: 16 bytes for a
// chunk and 8 for a patch. They are immutable. The zero value has none.
type entries struct {
	origins []Origin
	chunks  []uint32 // sorted
	bases   []ref    // of each chunk
	first   []uint32 // of each chunk, its first patch, and one more at the end
	patches []ref
}

// ref is a [ChunkRef] or [PackRef] in one word: index of the origin plus one,
// number of the pack, generation, in 16, 16 and 32 bits. Zero is no object.
type ref uint64

const maxOrigins = 1<<16 - 1

func packRef(origin int, n, gen uint64) ref { return ref(uint64(origin+1)<<48 | n<<32 | gen) }

func (r ref) origin() int { return int(r>>48) - 1 }
func (r ref) n() uint64   { return uint64(r>>32) & maxPack }
func (r ref) gen() uint64 { return uint64(r) & maxGen }

// count returns the number of entries.
func (s *entries) count() int { return len(s.chunks) }

// find returns the entry of chunk.
func (s *entries) find(chunk uint32) (Entry, bool) {
	i, found := slices.BinarySearch(s.chunks, chunk)
	if !found {
		return Entry{}, false
	}
	return s.at(i), true
}

// at returns the i-th entry.
func (s *entries) at(i int) (e Entry) {
	if b := s.bases[i]; b != 0 {
		e.Base = ChunkRef{Origin: s.origins[b.origin()], Gen: b.gen()}
	}
	list := s.patches[s.first[i]:s.first[i+1]]
	if len(list) == 0 {
		return e
	}
	e.Patches = make([]PackRef, len(list))
	for k, p := range list {
		e.Patches[k] = PackRef{Origin: s.origins[p.origin()], Gen: p.gen(), N: p.n()}
	}
	return e
}

// all iterates over the entries by chunk, whose numbers are counted from first.
func (s *entries) all(first uint64) iter.Seq[ChunkEntry] {
	return func(yield func(ChunkEntry) bool) {
		for i, chunk := range s.chunks {
			if !yield(ChunkEntry{Chunk: first + uint64(chunk), Entry: s.at(i)}) {
				return
			}
		}
	}
}

// zero reports whether the i-th entry is for a chunk of zeros.
func (s *entries) zero(i int) bool { return s.bases[i] == 0 && s.first[i] == s.first[i+1] }

// builder makes entries, which are added sorted by chunk and have been checked.
type builder struct {
	entries
	index map[Origin]int
}

// newBuilder makes a builder with room for as many entries and patches.
func newBuilder(count, patches int) *builder {
	return &builder{
		entries: entries{
			chunks:  make([]uint32, 0, count),
			bases:   make([]ref, 0, count),
			first:   append(make([]uint32, 0, count+1), 0),
			patches: make([]ref, 0, patches),
		},
		index: make(map[Origin]int),
	}
}

func (b *builder) add(chunk uint32, e Entry) {
	base := ref(0)
	if !e.Base.IsZero() {
		base = packRef(b.origin(e.Base.Origin), 0, e.Base.Gen)
	}
	for _, p := range e.Patches {
		b.patches = append(b.patches, packRef(b.origin(p.Origin), p.N, p.Gen))
	}
	b.finish(chunk, base)
}

// finish adds an entry whose patches have been added.
func (b *builder) finish(chunk uint32, base ref) {
	b.chunks = append(b.chunks, chunk)
	b.bases = append(b.bases, base)
	b.first = append(b.first, uint32(len(b.patches)))
}

func (b *builder) origin(o Origin) int {
	i, known := b.index[o]
	if !known {
		i = len(b.origins)
		b.origins, b.index[o] = append(b.origins, o), i
	}
	return i
}

// copier adds entries of others to a builder.
type copier struct {
	to      *builder
	from    *entries
	origins []int // in to, of those in from; -1: not needed yet
}

func (b *builder) copier(from *entries) copier {
	return copier{to: b, from: from, origins: slices.Repeat([]int{-1}, len(from.origins))}
}

// add adds the i-th entry as that of chunk.
func (c copier) add(chunk uint32, i int) {
	base := c.ref(c.from.bases[i])
	for _, p := range c.from.patches[c.from.first[i]:c.from.first[i+1]] {
		c.to.patches = append(c.to.patches, c.ref(p))
	}
	c.to.finish(chunk, base)
}

// ref translates a reference.
func (c copier) ref(r ref) ref {
	if r == 0 {
		return 0
	}
	o := r.origin()
	if c.origins[o] < 0 {
		c.origins[o] = c.to.origin(c.from.origins[o])
	}
	return packRef(c.origins[o], r.n(), r.gen())
}

// merge returns old with the entries of changes in place of its own, and of all
// these the ones that keep wants.
func merge(old, changes *entries, keep func(chunk uint32, zero bool) bool) *entries {
	b := newBuilder(old.count()+changes.count(), len(old.patches)+len(changes.patches))
	add := func(c copier, i int) {
		if chunk := c.from.chunks[i]; keep(chunk, c.from.zero(i)) {
			c.add(chunk, i)
		}
	}
	olds, news := b.copier(old), b.copier(changes)
	i := 0
	for k, chunk := range changes.chunks {
		for ; i < old.count() && old.chunks[i] < chunk; i++ {
			add(olds, i)
		}
		if i < old.count() && old.chunks[i] == chunk {
			i++
		}
		add(news, k)
	}
	for ; i < old.count(); i++ {
		add(olds, i)
	}
	return &b.entries
}

// notZero keeps what a page holds.
func notZero(_ uint32, zero bool) bool { return !zero }
