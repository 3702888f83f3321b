package disk

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/gostor/gotgt/pkg/scsi"
)

const aliceKey, bobKey = 0xa11ce, 0xb0b

// persistent is a PERSISTENT RESERVE OUT and its parameter list.
func persistent(action, kind byte, key, newKey uint64) (cdb, list []byte) {
	list = make([]byte, 24)
	binary.BigEndian.PutUint64(list, key)
	binary.BigEndian.PutUint64(list[8:], newKey)
	return []byte{0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0}, list
}

func (b *bench) persist(n Nexus, action, kind byte, key, newKey uint64) *Command {
	b.Helper()
	cdb, list := persistent(action, kind, key, newKey)
	return b.good(n, cdb, list)
}

func (b *bench) refused(n Nexus, action, kind byte, key, newKey uint64) {
	b.Helper()
	cdb, list := persistent(action, kind, key, newKey)
	b.conflict(n, cdb, list)
}

// keys are the registered keys.
func (b *bench) keys() []uint64 {
	b.Helper()
	data := b.good(alice, []byte{0x5e, 0, 0, 0, 0, 0, 0, 1, 0, 0}, nil).In[8:]
	var keys []uint64
	for ; len(data) >= 8; data = data[8:] {
		keys = append(keys, binary.BigEndian.Uint64(data))
	}
	return keys
}

// holder is key and type of the reservation; type 0: there is none.
func (b *bench) holder() (uint64, byte) {
	b.Helper()
	data := b.good(alice, []byte{0x5e, 1, 0, 0, 0, 0, 0, 1, 0, 0}, nil).In[8:]
	if len(data) == 0 {
		return 0, 0
	}
	return binary.BigEndian.Uint64(data), data[13]
}

// registered is a bench with both initiators registered.
func registered(t *testing.T) *bench {
	b := newBench(t, false)
	b.persist(alice, scsi.PR_OUT_REGISTER, 0, 0, aliceKey)
	b.persist(bob, scsi.PR_OUT_REGISTER, 0, 0, bobKey)
	return b
}

// What each type of reservation of alice's lets through (SPC-4): for
// bob registered, and for bob not registered.
func TestReservationTypes(t *testing.T) {
	type access struct{ read, write bool }
	cases := []struct {
		kind                   byte
		registered, unregister access
	}{
		{scsi.PR_TYPE_WRITE_EXCLUSIVE, access{true, false}, access{true, false}},
		{scsi.PR_TYPE_EXCLUSIVE_ACCESS, access{false, false}, access{false, false}},
		{scsi.PR_TYPE_WRITE_EXCLUSIVE_REGONLY, access{true, true}, access{true, false}},
		{scsi.PR_TYPE_EXCLUSIVE_ACCESS_REGONLY, access{true, true}, access{false, false}},
		{scsi.PR_TYPE_WRITE_EXCLUSIVE_ALLREG, access{true, true}, access{true, false}},
		{scsi.PR_TYPE_EXCLUSIVE_ACCESS_ALLREG, access{true, true}, access{false, false}},
	}
	for _, c := range cases {
		b := registered(t)
		b.persist(alice, scsi.PR_OUT_RESERVE, c.kind, aliceKey, 0)
		check := func(who string, want access) {
			t.Helper()
			got := access{
				read:  b.run(bob, ten(0x28, 0, 0, 1), nil).Status == Good,
				write: b.run(bob, ten(0x2a, 0, 0, 1), make([]byte, 512)).Status == Good,
			}
			if got != want {
				t.Errorf("type %d, %s: %+v, want %+v", c.kind, who, got, want)
			}
		}
		check("registered", c.registered)
		b.persist(bob, scsi.PR_OUT_REGISTER, 0, bobKey, 0)
		check("not registered", c.unregister)
		b.good(bob, []byte{0x12, 0, 0, 0, 36, 0}, nil)
		b.good(bob, testReady, nil)
		b.good(alice, ten(0x2a, 0, 0, 1), make([]byte, 512))
	}
}

func TestRegistration(t *testing.T) {
	b := registered(t)
	if got := b.keys(); !slices.Equal(got, []uint64{aliceKey, bobKey}) {
		t.Errorf("keys %x", got)
	}
	b.refused(alice, scsi.PR_OUT_REGISTER, 0, 1, 2) // a wrong key
	b.persist(alice, scsi.PR_OUT_REGISTER_AND_IGNORE_EXISTING_KEY, 0, 0, 5)
	b.persist(bob, scsi.PR_OUT_REGISTER, 0, bobKey, 0)
	if got := b.keys(); !slices.Equal(got, []uint64{5}) {
		t.Errorf("keys %x", got)
	}
	b.refused(bob, scsi.PR_OUT_RESERVE, scsi.PR_TYPE_WRITE_EXCLUSIVE, bobKey, 0)
	cdb, list := persistent(scsi.PR_OUT_REGISTER, 0, 0, 7)
	list[20] = bitAPTPL // nobody keeps it
	b.sense(bob, cdb, list, 5, 0x2600)
	if c := b.good(alice, []byte{0x5e, scsi.PR_IN_REPORT_CAPABILITIES, 0, 0, 0, 0, 0, 0, 8, 0}, nil); c.In[2]&1 != 0 || c.In[3]&1 != 0 {
		t.Errorf("capabilities % x claim persistence through power loss", c.In)
	}
	cdb[8] = 23
	b.sense(bob, cdb, list, 5, 0x1a00)
	u := b.units.Unit(0)
	u.Detach(alice) // a registration outlives the session
	u.Attach(alice)
	b.sense(alice, testReady, nil, 6, 0x2900)
	if got := b.keys(); !slices.Equal(got, []uint64{5}) {
		t.Errorf("keys after a new login %x", got)
	}
}

func TestReserveAndRelease(t *testing.T) {
	b := registered(t)
	b.persist(alice, scsi.PR_OUT_RESERVE, scsi.PR_TYPE_WRITE_EXCLUSIVE_REGONLY, aliceKey, 0)
	b.persist(alice, scsi.PR_OUT_RESERVE, scsi.PR_TYPE_WRITE_EXCLUSIVE_REGONLY, aliceKey, 0) // again
	b.refused(alice, scsi.PR_OUT_RESERVE, scsi.PR_TYPE_EXCLUSIVE_ACCESS, aliceKey, 0)
	b.refused(bob, scsi.PR_OUT_RESERVE, scsi.PR_TYPE_WRITE_EXCLUSIVE_REGONLY, bobKey, 0)
	if key, kind := b.holder(); key != aliceKey || kind != scsi.PR_TYPE_WRITE_EXCLUSIVE_REGONLY {
		t.Errorf("holder %x, type %d", key, kind)
	}
	b.persist(bob, scsi.PR_OUT_RELEASE, scsi.PR_TYPE_WRITE_EXCLUSIVE_REGONLY, bobKey, 0) // not his: nothing
	cdb, list := persistent(scsi.PR_OUT_RELEASE, scsi.PR_TYPE_EXCLUSIVE_ACCESS, aliceKey, 0)
	b.sense(alice, cdb, list, 5, 0x2604)
	b.persist(alice, scsi.PR_OUT_RELEASE, scsi.PR_TYPE_WRITE_EXCLUSIVE_REGONLY, aliceKey, 0)
	if _, kind := b.holder(); kind != 0 {
		t.Errorf("type %d after the release", kind)
	}
	b.sense(bob, testReady, nil, 6, 0x2a04)
}

func TestClear(t *testing.T) {
	b := registered(t)
	b.persist(alice, scsi.PR_OUT_RESERVE, scsi.PR_TYPE_EXCLUSIVE_ACCESS, aliceKey, 0)
	b.persist(bob, scsi.PR_OUT_CLEAR, 0, bobKey, 0)
	b.sense(alice, testReady, nil, 6, 0x2a03)
	if _, kind := b.holder(); kind != 0 || len(b.keys()) != 0 {
		t.Errorf("type %d, keys %x", kind, b.keys())
	}
}

func TestPreempt(t *testing.T) {
	b := registered(t)
	b.persist(alice, scsi.PR_OUT_RESERVE, scsi.PR_TYPE_EXCLUSIVE_ACCESS, aliceKey, 0)
	cdb, list := persistent(scsi.PR_OUT_PREEMPT, scsi.PR_TYPE_WRITE_EXCLUSIVE, bobKey, 0)
	b.sense(bob, cdb, list, 5, 0x2600)
	b.refused(bob, scsi.PR_OUT_PREEMPT, scsi.PR_TYPE_WRITE_EXCLUSIVE, bobKey, 12345)
	c := b.persist(bob, scsi.PR_OUT_PREEMPT_AND_ABORT, scsi.PR_TYPE_WRITE_EXCLUSIVE, bobKey, aliceKey)
	if got := c.Transfer.(*transfer).aborted; !slices.Equal(got, []Nexus{alice}) {
		t.Errorf("aborted %v", got)
	}
	b.sense(alice, testReady, nil, 6, 0x2a05)
	if key, kind := b.holder(); key != bobKey || kind != scsi.PR_TYPE_WRITE_EXCLUSIVE {
		t.Errorf("holder %x, type %d", key, kind)
	}
	b.conflict(alice, ten(0x2a, 0, 0, 1), make([]byte, 512))

	b = registered(t) // of all registrants, with key 0: everybody else goes
	b.persist(alice, scsi.PR_OUT_RESERVE, scsi.PR_TYPE_WRITE_EXCLUSIVE_ALLREG, aliceKey, 0)
	b.persist(bob, scsi.PR_OUT_PREEMPT, scsi.PR_TYPE_EXCLUSIVE_ACCESS_ALLREG, bobKey, 0)
	b.sense(alice, testReady, nil, 6, 0x2a05)
	if got := b.keys(); !slices.Equal(got, []uint64{bobKey}) {
		t.Errorf("keys %x", got)
	}
}

func TestLegacyReservation(t *testing.T) {
	b := newBench(t, false)
	reserve, release := []byte{0x16, 0, 0, 0, 0, 0}, []byte{0x17, 0, 0, 0, 0, 0}
	b.good(alice, reserve, nil)
	b.good(alice, reserve, nil)
	b.conflict(bob, reserve, nil)
	b.conflict(bob, ten(0x28, 0, 0, 1), nil)
	b.conflict(bob, testReady, nil)
	cdb, list := persistent(scsi.PR_OUT_REGISTER, 0, 0, bobKey)
	b.conflict(bob, cdb, list)
	b.good(bob, []byte{0x12, 0, 0, 0, 36, 0}, nil)
	b.good(bob, release, nil) // not his
	b.conflict(bob, reserve, nil)
	b.good(alice, release, nil)
	b.good(bob, reserve, nil)
	b.units.Unit(0).Detach(bob) // ends with the session
	b.good(alice, reserve, nil)
	b.units.Unit(0).Reset(alice) // and with a reset
	b.good(alice, ten(0x28, 0, 0, 1), nil)
	b.persist(alice, scsi.PR_OUT_REGISTER, 0, 0, aliceKey)
	b.conflict(alice, reserve, nil) // not beside persistent ones
}

func TestFullStatus(t *testing.T) {
	b := registered(t)
	b.persist(bob, scsi.PR_OUT_RESERVE, scsi.PR_TYPE_WRITE_EXCLUSIVE, bobKey, 0)
	data := b.good(alice, []byte{0x5e, 3, 0, 0, 0, 0, 0, 4, 0, 0}, nil).In
	first := data[8:]
	n := 24 + int(binary.BigEndian.Uint32(first[20:]))
	second := first[n:]
	if got := string(first[28 : 28+len("alice,i,0x010000000000")]); got != "alice,i,0x010000000000" || first[12] != 0 {
		t.Errorf("first: %q, holder %d", got, first[12])
	}
	if binary.BigEndian.Uint64(second) != bobKey || second[12] != 1 || second[13] != scsi.PR_TYPE_WRITE_EXCLUSIVE {
		t.Errorf("second: % x", second)
	}
}
