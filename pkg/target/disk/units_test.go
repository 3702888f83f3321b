package disk

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"testing"
)

// luns are the numbers that REPORT LUNS answers, sorted.
func (b *bench) luns(n Nexus) []uint64 {
	b.Helper()
	data := b.good(n, []byte{0xa0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0}, nil).In[8:]
	var all []uint64
	for ; len(data) >= 8; data = data[8:] {
		all = append(all, binary.BigEndian.Uint64(data)>>48)
	}
	slices.Sort(all)
	return all
}

func newUnit(t *testing.T, k Keeper) *Unit {
	t.Helper()
	u, err := NewUnit(volume, &ram{data: make([]byte, ramSize)}, false, k)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// Initiators are told of LUNs that come and go, by each unit once, or not at all if
// they have looked.
func TestLUNsChange(t *testing.T) {
	b := newBench(t, false)
	if err := b.units.Add(7, newUnit(t, nil)); err != nil {
		t.Fatal(err)
	}
	if got := b.luns(alice); !slices.Equal(got, []uint64{0, 7}) {
		t.Errorf("LUNs %v", got)
	}
	b.good(alice, testReady, nil)
	b.sense(bob, testReady, nil, 6, 0x3f0e)
	b.good(bob, testReady, nil)
	c := &Command{Nexus: alice, CDB: [16]byte{0x25}, Transfer: &transfer{}}
	b.units.Execute(context.Background(), b.units.Find(7<<48), c)
	if c.Status != Good {
		t.Errorf("the new LUN: status %02x, sense % x", c.Status, c.Sense)
	}
	if err := b.units.Add(7, newUnit(t, nil)); !errors.Is(err, ErrLUNExists) {
		t.Errorf("a second LUN 7: %v", err)
	}
	if _, err := b.units.Remove(7); err != nil {
		t.Fatal(err)
	}
	if got := b.luns(alice); !slices.Equal(got, []uint64{0}) {
		t.Errorf("LUNs %v", got)
	}
	b.sense(bob, testReady, nil, 6, 0x3f0e)
	if _, err := b.units.Remove(7); !errors.Is(err, ErrNoLUN) {
		t.Errorf("removed twice: %v", err)
	}
	if _, err := b.units.Remove(0); !errors.Is(err, ErrLastLUN) {
		t.Errorf("the last one: %v", err)
	}
}

// A command that was cancelled before its turn says that it was not carried out.
func TestCancelledBeforeItsTurn(t *testing.T) {
	b := newBench(t, false)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	c := &Command{Nexus: alice, CDB: [16]byte(sixteen(0x8a, 0, 0, 1)), Expected: BlockSize, Transfer: &transfer{out: fill(BlockSize, 1)}}
	b.units.Execute(ctx, b.units.Find(0), c)
	if c.Status != CheckCondition || len(b.device.calls) != 0 {
		t.Errorf("status %02x, calls %v", c.Status, b.device.calls)
	}
}

// thin is a ram that knows which of its 64 KiB pieces are stored.
type thin struct {
	*ram
	stored []bool
}

const piece = 64 << 10

func (d thin) Mapped(_ context.Context, off, n int64) (bool, int64, error) {
	return d.stored[off/piece], min(n, piece-off%piece), d.err
}

func TestLBAStatus(t *testing.T) {
	type extent struct {
		lba    uint64
		blocks uint32
		status byte
	}
	const per = piece / BlockSize
	b := newBench(t, false)
	ask := func(lba uint64, allocation uint32) []extent {
		t.Helper()
		cdb := sixteen(0x9e, 0x12, lba, allocation)
		data := b.good(alice, cdb, nil).In
		if n := int(binary.BigEndian.Uint32(data)); n != len(data)-4 {
			t.Errorf("length %d of %d bytes", n, len(data))
		}
		var all []extent
		for d := data[8:]; len(d) >= 16; d = d[16:] {
			all = append(all, extent{binary.BigEndian.Uint64(d), binary.BigEndian.Uint32(d[8:]), d[12]})
		}
		return all
	}
	same := func(what string, got, want []extent) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	same("a device that does not know", ask(9, 1024), []extent{{9, ramSize/BlockSize - 9, 0}})
	stored := make([]bool, ramSize/piece)
	stored[2], stored[3] = true, true
	b.units.Unit(0).device = thin{b.device, stored}
	all := []extent{{0, 2 * per, 1}, {2 * per, 2 * per, 0}, {4 * per, ramSize/BlockSize - 4*per, 1}}
	same("from the start", ask(0, 1024), all)
	same("as many as there is room for", ask(0, 8+32), all[:2])
	same("in the middle", ask(2*per+5, 8+16), []extent{{2*per + 5, 2*per - 5, 0}})
	b.sense(alice, sixteen(0x9e, 0x12, ramSize/BlockSize, 1024), nil, 5, 0x2100)
	b.device.err = ErrMedium
	b.sense(alice, sixteen(0x9e, 0x12, 0, 1024), nil, 3, 0x1100)
}
