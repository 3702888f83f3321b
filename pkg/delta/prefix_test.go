package delta_test

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/swiftblock/csi-swiftblock/pkg/delta"
)

// windows are the parts of the volume that the test writes and looks at: the
// ends, and the surroundings of the chunk boundaries.
var windows = []delta.Span{{Off: 0, Len: 48 << 10}, {Off: 8<<20 - 32<<10, Len: 64 << 10}, {Off: 16<<20 - 16<<10, Len: 32 << 10}, {Off: volumeSize - 48<<10, Len: 48 << 10}}

// What a sector holds: the number of the write that made it, or one of these.
const (
	hole  int64 = -1
	zeros int64 = 0
)

// view is the content of the windows, a value per sector.
type view []int64

// each calls f for the sectors of [off, off+n) in the windows: their index in a
// view and their offset in the volume.
func each(off, n int64, f func(i int, at int64)) {
	base := 0
	for _, w := range windows {
		for at := max(off, w.Off); at < min(off+n, w.Off+w.Len); at += sectorSize {
			f(base+int((at-w.Off)/sectorSize), at)
		}
		base += int(w.Len / sectorSize)
	}
}

func blank() view {
	n := int64(0)
	for _, w := range windows {
		n += w.Len / sectorSize
	}
	v := make(view, n)
	for i := range v {
		v[i] = hole
	}
	return v
}

func (v view) clone() view { return append(view(nil), v...) }

// change is one acknowledged change of the volume.
type change struct {
	off, n int64
	value  int64
	state  *delta.State
}

func (v view) apply(c change) { each(c.off, c.n, func(i int, _ int64) { v[i] = c.value }) }

// stamp fills p, sectors of the volume from off on, with value.
func stamp(p []byte, off, value int64) {
	for len(p) > 0 {
		binary.LittleEndian.PutUint64(p, uint64(value))
		binary.LittleEndian.PutUint64(p[8:], uint64(off))
		for done := 16; done < sectorSize; done *= 2 {
			copy(p[done:sectorSize], p[:done])
		}
		p, off = p[sectorSize:], off+sectorSize
	}
}

// unstamp tells what the sector at off holds.
func unstamp(p []byte, off int64) (int64, error) {
	value, at := int64(binary.LittleEndian.Uint64(p)), int64(binary.LittleEndian.Uint64(p[8:]))
	if !bytes.Equal(p[16:], p[:len(p)-16]) || value == zeros && at != 0 || value != zeros && at != off {
		return 0, fmt.Errorf("sector at %d holds no whole sector of any write: %x...", off, p[:16])
	}
	return value, nil
}

// isPrefix tells whether got is base and at least the first least changes; of
// the next one, which may have needed several records, sectors may be there.
func isPrefix(base view, state delta.State, changes []change, least int, got view, gotState delta.State) bool {
	v := base.clone()
	for k := 0; ; k++ {
		if k >= least && state == gotState {
			next := v
			if k < len(changes) {
				next = v.clone()
				next.apply(changes[k])
			}
			same := true
			for i := range v {
				same = same && (got[i] == v[i] || got[i] == next[i])
			}
			if same {
				return true
			}
		}
		if k == len(changes) {
			return false
		}
		v.apply(changes[k])
		if changes[k].state != nil {
			state = *changes[k].state
		}
	}
}
