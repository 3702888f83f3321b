package delta

import (
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The map against an array with an entry per sector.
func TestBlockMapFindsTheLastWrite(t *testing.T) {
	const size = 4 * ChunkSize
	type content struct {
		at   place
		mask uint8 // the bit of the sector in the log block; 0 for zeros
	}
	rapid.Check(t, func(t *rapid.T) {
		m := newBlockMap()
		want := make([]content, size/Sector)
		next := firstData
		set := func(off, n int64, zero bool) {
			if zero {
				m.setZero(off, n)
			} else {
				m.setData(off, n, next)
			}
			for s := off / Sector; s < (off+n)/Sector; s++ {
				want[s] = content{zeros, 0}
				if !zero {
					want[s] = content{next + place(s/sectorsPerBlock-off/Block), 1 << (s % sectorsPerBlock)}
				}
			}
			if !zero {
				next += place(blocks(off, n)) + 1
			}
		}
		for range rapid.IntRange(1, 40).Draw(t, "writes") {
			off := rapid.Int64Range(0, size/Sector-1).Draw(t, "sector") * Sector
			if rapid.Bool().Draw(t, "near a chunk boundary") {
				off = ChunkSize + off%(64<<10) - 32<<10
			}
			most := min(size-off, 256<<10)
			zero := rapid.IntRange(0, 3).Draw(t, "zero") == 0
			if zero {
				most = size - off
			}
			n := rapid.Int64Range(1, most/Sector).Draw(t, "sectors") * Sector
			if rapid.Bool().Draw(t, "aligned") {
				off, n = off/Block*Block, (n+Block-1)/Block*Block
			}
			set(off, min(n, size-off), zero)
			if rapid.IntRange(0, 9).Draw(t, "fragment") == 0 { // enough runs to become a table
				for b := int64(0); b < blocksPerChunk; b += 2 {
					set(2*ChunkSize+b*Block, Block, false)
				}
			}
		}
		data := 0
		for s := 0; s < len(want); s += sectorsPerBlock {
			var got [sectorsPerBlock]content
			off := int64(s) * Sector
			m.find(uint32(off/ChunkSize), int(off%ChunkSize/Block), allMask, func(mask uint8, at place) {
				for i := range got {
					if bit := uint8(1) << i; mask&bit != 0 {
						if got[i].at != hole {
							t.Fatalf("sector %d found twice", s+i)
						}
						got[i] = content{at, bit}
						if !at.isData() {
							got[i].mask = 0
						}
					}
				}
			})
			if !slices.Equal(got[:], want[s:s+sectorsPerBlock]) {
				t.Fatalf("block at %d: %v, want %v", off, got, want[s:s+sectorsPerBlock])
			}
			if slices.ContainsFunc(got[:], func(c content) bool { return c.at.isData() }) {
				data++
			}
		}
		// A block whose data was zeroed piece by piece may still count.
		if m.data < data || m.data > size/Block {
			t.Fatalf("%d data blocks counted, %d are there", m.data, data)
		}
		for chunk := range m.numbers() {
			for _, e := range m.extents(chunk) {
				for s := e.Off / Sector; s < (e.Off+e.Len)/Sector; s++ {
					if want[s].at == hole || e.Zero != (want[s].at == zeros) {
						t.Fatalf("extent %+v covers sector %d, which is %+v", e, s, want[s])
					}
					want[s] = content{}
				}
			}
		}
		if i := slices.IndexFunc(want, func(c content) bool { return c.at != hole }); i >= 0 {
			t.Fatalf("sector %d is in no extent", i)
		}
	})
}

// A map of scattered whole blocks costs at most 8 bytes per block, checksums
// not included (the log keeps those), however it came about.
func TestMapOfFragmentedChunksIsSmall(t *testing.T) {
	for every := 1; every <= 16; every++ { // of so many blocks one is written
		m := newBlockMap()
		for _, i := range rand.New(rand.NewPCG(1, 2)).Perm(4 * blocksPerChunk / every) {
			m.setData(int64(i*every)*Block, Block, firstData+place(3*i))
		}
		if per := float64(m.mem) / float64(m.data); per > 8 {
			t.Errorf("%.1f bytes per block when one of %d is written", per, every)
		}
	}
}

func TestZeroingAHugeVolumeIsCheap(t *testing.T) {
	m := newBlockMap()
	m.setData(5*ChunkSize, Block, firstData)
	m.setZero(512, MaxVolume-512)
	if m.mem > 1<<10 || m.data != 0 {
		t.Errorf("%d bytes of map, %d blocks of data", m.mem, m.data)
	}
	n := 0
	for range m.numbers() {
		n++
	}
	if n != MaxVolume/ChunkSize {
		t.Errorf("%d chunks", n)
	}
}

func TestContent(t *testing.T) {
	m := newBlockMap()
	is := func(when string, want Content) {
		t.Helper()
		if got := m.content(1); got != want {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
	}
	is("new", Unknown)
	m.setZero(ChunkSize, Block)
	is("zeros in part", Unknown) // what lies below may be data
	m.setData(ChunkSize+Block, Sector, firstData)
	is("a sector of data", Data)
	m.setZero(ChunkSize, ChunkSize)
	is("zeroed as a whole", Zeros)
	m.setZero(ChunkSize+Block, Sector)
	is("and again in part", Zeros)
	m.setData(ChunkSize, Block, firstData)
	is("written after that", Data)
}
