package disk

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"testing"

	"github.com/gostor/gotgt/pkg/scsi"
)

// shelf is a Keeper in memory.
type shelf struct {
	text []byte
	err  error
}

func (s *shelf) Kept() ([]byte, error) { return s.text, nil }

func (s *shelf) Keep(text []byte) error {
	if s.err == nil {
		s.text = text
	}
	return s.err
}

// onShelf is a bench whose unit has a Keeper.
func onShelf(t *testing.T, s *shelf) *bench {
	t.Helper()
	b := newBench(t, false)
	r, err := newReservation(volume, s)
	if err != nil {
		t.Fatal(err)
	}
	b.units.Unit(0).reservation = r
	return b
}

// registerDurably is REGISTER AND IGNORE EXISTING KEY, with APTPL.
func registerDurably(key uint64) (cdb, list []byte) {
	cdb, list = persistent(scsi.PR_OUT_REGISTER_AND_IGNORE_EXISTING_KEY, 0, 0, key)
	list[20] = bitAPTPL
	return cdb, list
}

// Reservations that are to survive a loss of power do, of every type, and those that
// are not do not.
func TestReservationsThroughPowerLoss(t *testing.T) {
	const capabilities = scsi.PR_IN_REPORT_CAPABILITIES
	for kind := range byte(16) {
		if !validKind(kind) {
			continue
		}
		s := &shelf{}
		b := onShelf(t, s)
		if c := b.good(alice, []byte{0x5e, capabilities, 0, 0, 0, 0, 0, 0, 8, 0}, nil); c.In[2]&1 == 0 || c.In[3]&1 != 0 {
			t.Errorf("capabilities % x, want persistence, not active", c.In)
		}
		cdb, list := registerDurably(bobKey)
		b.good(bob, cdb, list)
		cdb, list = registerDurably(aliceKey)
		b.good(alice, cdb, list)
		b.persist(bob, scsi.PR_OUT_RESERVE, kind, bobKey, 0)

		b = onShelf(t, s)
		if got := b.keys(); len(got) != 2 || got[0] != aliceKey || got[1] != bobKey {
			t.Errorf("type %d: keys %x after the power loss", kind, got)
		}
		key, got := b.holder()
		if want := uint64(bobKey); got != kind || key != want && !allRegistrants(kind) {
			t.Errorf("type %d: holder %x, type %d", kind, key, got)
		}
		if c := b.good(alice, []byte{0x5e, capabilities, 0, 0, 0, 0, 0, 0, 8, 0}, nil); c.In[3]&1 == 0 {
			t.Errorf("capabilities % x, want persistence active", c.In)
		}

		b.persist(alice, scsi.PR_OUT_REGISTER, 0, aliceKey, aliceKey) // without APTPL
		if b = onShelf(t, s); len(b.keys()) != 0 {
			t.Errorf("type %d: keys %x, none was to be kept", kind, b.keys())
		}
	}
}

// What cannot be kept is refused, and changes nothing.
func TestReservationThatCannotBeKept(t *testing.T) {
	s := &shelf{}
	b := onShelf(t, s)
	cdb, list := registerDurably(aliceKey)
	b.good(alice, cdb, list)
	s.err = errors.New("no space")
	if c := b.sense(alice, cdb, list, 4, 0x4400); !errors.Is(c.Err, s.err) {
		t.Errorf("error for the log: %v", c.Err)
	}
	reserve, none := persistent(scsi.PR_OUT_RESERVE, scsi.PR_TYPE_EXCLUSIVE_ACCESS, aliceKey, 0)
	b.sense(alice, reserve, none, 4, 0x4400)
	if _, kind := b.holder(); kind != 0 {
		t.Error("reserved though it could not be kept")
	}
	b.good(bob, ten(0x28, 0, 0, 1), nil)
}

// Who preempts its own key, the last there is, leaves no reservation that nobody holds,
// and what is kept of it can be read.
func TestPreemptionOfAllRegistrants(t *testing.T) {
	s := &shelf{}
	b := onShelf(t, s)
	cdb, list := registerDurably(aliceKey)
	b.good(alice, cdb, list)
	b.persist(alice, scsi.PR_OUT_RESERVE, scsi.PR_TYPE_WRITE_EXCLUSIVE_ALLREG, aliceKey, 0)
	b.persist(alice, scsi.PR_OUT_PREEMPT, scsi.PR_TYPE_WRITE_EXCLUSIVE_ALLREG, aliceKey, aliceKey)
	b.good(bob, ten(0x2a, 0, 0, 1), make([]byte, 512))
	if _, kind := b.holder(); kind != 0 || len(b.keys()) != 0 {
		t.Errorf("type %d, keys %x", kind, b.keys())
	}
	b = onShelf(t, s)
	b.good(bob, ten(0x2a, 0, 0, 1), make([]byte, 512))
}

// A unit does not come up without the reservations that were kept for it.
func TestKeptReservationsDamaged(t *testing.T) {
	p := &registrations{keys: map[Nexus]uint64{alice: aliceKey, bob: bobKey}, durable: true}
	p.holder, p.kind = &bob, scsi.PR_TYPE_EXCLUSIVE_ACCESS
	text := p.encode(volume)
	for i := range text {
		bad := bytes.Clone(text)
		bad[i] ^= 1
		if _, err := NewUnit(volume, &ram{}, false, &shelf{text: bad}); !errors.Is(err, ErrReservations) {
			t.Fatalf("byte %d flipped: %v", i, err)
		}
	}
	for name, bad := range map[string][]byte{
		"empty":             {},
		"cut off":           text[:len(text)-1],
		"of another volume": p.encode("other"),
	} {
		if _, err := NewUnit(volume, &ram{}, false, &shelf{text: bad}); !errors.Is(err, ErrReservations) {
			t.Errorf("%s: %v", name, err)
		}
	}
	newUnit(t, &shelf{text: text})
}

// Whatever stands in the file, what is taken from it is a state that there can be, and
// keeping that again gives the same.
func FuzzKeptReservations(f *testing.F) {
	p := &registrations{keys: map[Nexus]uint64{alice: aliceKey, bob: bobKey}, durable: true, holder: &bob}
	for kind := range byte(9) {
		p.kind = kind
		f.Add(p.encode(volume)[9:])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		sum := fmt.Appendf(nil, "%08x\n", crc32.Checksum(body, castagnoli))
		p, err := decodeRegistrations(volume, append(sum, body...))
		if err != nil {
			if !errors.Is(err, ErrReservations) {
				t.Fatal(err)
			}
			return
		}
		text := p.encode(volume)
		again, err := decodeRegistrations(volume, text)
		if err != nil || !bytes.Equal(again.encode(volume), text) || p.holder != nil && !p.holds(*p.holder) {
			t.Fatalf("%s: %v", text, err)
		}
	})
}
