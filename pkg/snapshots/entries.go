package snapshots

import (
	"encoding/binary"
	"iter"
	"slices"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/internal/strict"
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

// all iterates over the entries by chunk.
func (s *entries) all() iter.Seq2[uint32, Entry] {
	return func(yield func(uint32, Entry) bool) {
		for i, chunk := range s.chunks {
			if !yield(chunk, s.at(i)) {
				return
			}
		}
	}
}

// builder makes entries, which are added sorted by chunk and have been checked.
type builder struct {
	entries
	index map[Origin]int
}

func newBuilder(capacity int) *builder {
	return &builder{
		entries: entries{
			chunks: make([]uint32, 0, capacity),
			bases:  make([]ref, 0, capacity),
			first:  append(make([]uint32, 0, capacity+1), 0),
		},
		index: make(map[Origin]int),
	}
}

func (b *builder) add(chunk uint32, e Entry) {
	b.chunks = append(b.chunks, chunk)
	base := ref(0)
	if !e.Base.IsZero() {
		base = packRef(b.origin(e.Base.Origin), 0, e.Base.Gen)
	}
	b.bases = append(b.bases, base)
	for _, p := range e.Patches {
		b.patches = append(b.patches, packRef(b.origin(p.Origin), p.N, p.Gen))
	}
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

// merge returns old with the entries of changes in place of its own, and of all
// these the ones that keep wants.
func merge(old, changes *entries, keep func(chunk uint32, e Entry) bool) *entries {
	b := newBuilder(old.count() + changes.count())
	add := func(chunk uint32, e Entry) {
		if keep(chunk, e) {
			b.add(chunk, e)
		}
	}
	i := 0
	for chunk, e := range changes.all() {
		for ; i < old.count() && old.chunks[i] < chunk; i++ {
			add(old.chunks[i], old.at(i))
		}
		if i < old.count() && old.chunks[i] == chunk {
			i++
		}
		add(chunk, e)
	}
	for ; i < old.count(); i++ {
		add(old.chunks[i], old.at(i))
	}
	return &b.entries
}

// notZero keeps what a page holds.
func notZero(_ uint32, e Entry) bool { return !e.IsZero() }

// dictionary numbers the containers of a root.
type dictionary struct {
	list  []Container
	index map[string]int
}

func newDictionary(list []Container) *dictionary {
	d := &dictionary{list: slices.Clip(list), index: make(map[string]int, len(list))}
	for i, c := range list {
		d.index[c.Name] = i
	}
	return d
}

// number returns the index of a container, adding it if it is new.
func (d *dictionary) number(container string) uint64 {
	i, known := d.index[container]
	if !known {
		i = len(d.list)
		d.list, d.index[container] = append(d.list, Container{Name: container}), i
	}
	return uint64(i)
}

func appendOrigins(b []byte, d *dictionary, list []Origin) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, o := range list {
		b = binary.AppendUvarint(b, d.number(o.Container))
		b = binary.LittleEndian.AppendUint64(appendEpoch(b, o.Epoch), uint64(o.Open))
	}
	return b
}

func readOrigins(r *strict.Reader, containers []Container) []Origin {
	list := make([]Origin, 0, r.Count(maxOrigins, 18))
	seen := make(map[Origin]bool)
	for range cap(list) {
		container := r.Uvarint(uint64(len(containers)))
		o := Origin{Epoch: readEpoch(r), Open: ident.Open(r.Uint64())}
		if container >= uint64(len(containers)) {
			r.Fail("container %d of %d", container, len(containers))
			return nil
		}
		o.Container = containers[container].Name
		if seen[o] {
			r.Fail("origin %v twice", o)
			return nil
		}
		seen[o] = true
		list = append(list, o)
	}
	return list
}

// firstUse checks that n origins are all used, and in the order of their first
// use, while it is called with each index in turn.
type firstUse int

func (f *firstUse) see(origin int) {
	if origin == int(*f) {
		*f++
	}
}

// append writes s by column.
func (s *entries) append(b []byte, d *dictionary) []byte {
	b = appendOrigins(b, d, s.origins)
	b = binary.AppendUvarint(b, uint64(s.count()))
	next := uint32(0)
	for _, chunk := range s.chunks {
		b = binary.AppendUvarint(b, uint64(chunk-next))
		next = chunk + 1
	}
	for i := range s.chunks {
		head := uint64(s.first[i+1]-s.first[i]) * 2
		if s.bases[i] != 0 {
			head++
		}
		b = binary.AppendUvarint(b, head)
	}
	b = s.appendRefs(b, s.bases)
	b = s.appendRefs(b, s.patches)
	for _, p := range s.patches {
		b = binary.AppendUvarint(b, p.n())
	}
	return b
}

// appendRefs writes origins and generations of those refs that are not zero.
func (s *entries) appendRefs(b []byte, refs []ref) []byte {
	for _, r := range refs {
		if r != 0 {
			b = binary.AppendUvarint(b, uint64(r.origin()))
		}
	}
	last := make([]int64, len(s.origins))
	for _, r := range refs {
		if r != 0 {
			gen := int64(r.gen())
			b = binary.AppendVarint(b, gen-last[r.origin()])
			last[r.origin()] = gen
		}
	}
	return b
}

// readEntries reads at most most entries of chunks below limit.
func readEntries(r *strict.Reader, containers []Container, most int, limit uint64, zeros bool) *entries {
	s := &entries{origins: readOrigins(r, containers)}
	count := r.Count(most, 2)
	s.chunks, s.bases, s.first = make([]uint32, count), make([]ref, count), make([]uint32, count+1)
	next := uint64(0)
	for i := range s.chunks {
		chunk := next + r.Uvarint(limit)
		if chunk >= limit {
			r.Fail("chunk %d of %d", chunk, limit)
			return s
		}
		s.chunks[i], next = uint32(chunk), chunk+1
	}
	bases := 0
	for i := range s.bases {
		head := r.Uvarint(MaxPatches*2 + 1)
		if head == 0 && !zeros {
			r.Fail("an entry for zeros")
			return s
		}
		s.first[i+1] = s.first[i] + uint32(head/2)
		if head%2 == 1 {
			s.bases[i] = 1 // an object, which one is read below
			bases++
		}
	}
	patches := int(s.first[count])
	list := s.readRefs(r, bases)
	s.patches = s.readRefs(r, patches)
	for i := range s.patches {
		s.patches[i] |= ref(r.Uvarint(maxPack) << 32)
	}
	if r.Err() != nil {
		return s
	}
	var used firstUse
	for i := range s.bases {
		if s.bases[i] != 0 {
			s.bases[i], list = list[0], list[1:]
			used.see(s.bases[i].origin())
		}
		for _, p := range s.patches[s.first[i]:s.first[i+1]] {
			used.see(p.origin())
		}
	}
	if int(used) != len(s.origins) {
		r.Fail("%d origins, of which %d are used in order", len(s.origins), used)
	}
	return s
}

// readRefs is the inverse of appendRefs.
func (s *entries) readRefs(r *strict.Reader, count int) []ref {
	if count > r.Len()/2 {
		r.Fail("%d objects in %d bytes", count, r.Len())
		return nil
	}
	refs := make([]ref, count)
	for i := range refs {
		origin := int(r.Uvarint(maxOrigins))
		if origin >= len(s.origins) {
			r.Fail("origin %d of %d", origin, len(s.origins))
			return nil
		}
		refs[i] = packRef(origin, 0, 0)
	}
	last := make([]int64, len(s.origins))
	for i := range refs {
		origin := refs[i].origin()
		gen := last[origin] + r.Varint()
		if gen < 0 || gen > maxGen {
			r.Fail("generation %d", gen)
			return nil
		}
		refs[i] |= ref(gen)
		last[origin] = gen
	}
	return refs
}
