package snapshots

import (
	"encoding/binary"
	"slices"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/internal/strict"
)

// dictionary numbers the containers of a root.
type dictionary struct {
	list  []Container
	index map[string]int
	own   Container // where the generation's objects go; in the list once it is used
}

func newDictionary(list []Container, own Container) *dictionary {
	d := &dictionary{list: slices.Clip(list), index: make(map[string]int, len(list)), own: own}
	for i, c := range list {
		d.index[c.Name] = i
	}
	return d
}

// number returns the index of a container, adding it if it is new.
func (d *dictionary) number(container string) uint64 {
	i, known := d.index[container]
	if !known {
		c := Container{Name: container}
		if container == d.own.Name {
			c = d.own
		}
		i = len(d.list)
		d.list, d.index[container] = append(d.list, c), i
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
		b = append(b, byte(s.first[i+1]-s.first[i]))
	}
	return appendPlanes(appendPlanes(b, s.bases), s.patches)
}

// appendPlanes writes the highest bytes of all refs, then the next ones, and so
// on: neighbours are alike in most of their bytes, which compresses well.
func appendPlanes(b []byte, refs []ref) []byte {
	for shift := 56; shift >= 0; shift -= 8 {
		for _, r := range refs {
			b = append(b, byte(r>>shift))
		}
	}
	return b
}

// readEntries reads at most most entries of chunks below limit.
func readEntries(r *strict.Reader, containers []Container, most int, limit uint64, zeros bool) *entries {
	s := &entries{origins: readOrigins(r, containers)}
	count := r.Count(most, 10)
	s.chunks, s.first = make([]uint32, count), make([]uint32, count+1)
	next := uint64(0)
	for i := range s.chunks {
		chunk := next + r.Uvarint(limit)
		if chunk >= limit {
			r.Fail("chunk %d of %d", chunk, limit)
			break
		}
		s.chunks[i], next = uint32(chunk), chunk+1
	}
	for i, n := range r.Bytes(count) {
		if n > MaxPatches {
			r.Fail("%d patches", n)
			break
		}
		s.first[i+1] = s.first[i] + uint32(n)
	}
	s.bases = readPlanes(r, count)
	s.patches = readPlanes(r, int(s.first[count]))
	if r.Err() == nil {
		s.check(r, zeros)
	}
	return s
}

// readPlanes is the inverse of appendPlanes.
func readPlanes(r *strict.Reader, count int) []ref {
	planes := r.Bytes(8 * count)
	if planes == nil {
		return nil
	}
	refs := make([]ref, count)
	for ; len(planes) > 0; planes = planes[count:] {
		for i, b := range planes[:count] {
			refs[i] = refs[i]<<8 | ref(b)
		}
	}
	return refs
}

// check refuses references to nothing, and more than one form of the same
// entries: origins are all used, and in the order of their first use.
func (s *entries) check(r *strict.Reader, zeros bool) {
	used := 0
	see := func(p ref) {
		if p.origin() < 0 || p.origin() >= len(s.origins) {
			r.Fail("origin %d of %d", p.origin(), len(s.origins))
		}
		if p.origin() == used {
			used++
		}
	}
	for i, b := range s.bases {
		if b != 0 {
			see(b)
		}
		if b.n() != 0 || s.zero(i) && !zeros {
			r.Fail("an impossible base %#x", b)
		}
		for _, p := range s.patches[s.first[i]:s.first[i+1]] {
			see(p)
		}
	}
	if used != len(s.origins) {
		r.Fail("%d origins, of which %d are used in order", len(s.origins), used)
	}
}
