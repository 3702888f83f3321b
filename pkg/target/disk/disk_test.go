package disk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/gostor/gotgt/pkg/scsi"
)

const (
	volume  = "00112233445566778899aabbccddeeff"
	ramSize = 1 << 20
)

// ram is a Device in memory that remembers what was asked of it.
type ram struct {
	data  []byte
	calls []string
	fua   bool // of the last write
	err   error
}

func (r *ram) Size() int64 { return int64(len(r.data)) }

func (r *ram) ReadAt(_ context.Context, p []byte, off int64) error {
	copy(p, r.data[off:])
	return r.err
}

func (r *ram) WriteAt(_ context.Context, p []byte, off int64, fua bool) error {
	r.calls, r.fua = append(r.calls, "write"), fua
	copy(r.data[off:], p)
	return r.err
}

func (r *ram) Flush(context.Context) error {
	r.calls = append(r.calls, "flush")
	return r.err
}

func (r *ram) Discard(_ context.Context, off, n int64) error {
	r.calls = append(r.calls, "discard")
	clear(r.data[off : off+n])
	return r.err
}

func (r *ram) WriteZeroes(_ context.Context, off, n int64, fua bool) error {
	r.calls, r.fua = append(r.calls, "zeroes"), fua
	clear(r.data[off : off+n])
	return r.err
}

// transfer moves data between slices.
type transfer struct {
	out     []byte
	aborted []Nexus
}

func (t *transfer) Out(_ context.Context, n int) ([]byte, error) {
	return t.out[:min(n, len(t.out))], nil
}
func (t *transfer) In(_ context.Context, n int) ([]byte, error) { return make([]byte, n), nil }
func (t *transfer) Abort(_ context.Context, _ *Unit, n []Nexus) error {
	t.aborted = append(t.aborted, n...)
	return nil
}

var (
	alice = Nexus{Name: "alice", ISID: [6]byte{1}}
	bob   = Nexus{Name: "bob", ISID: [6]byte{2}}
)

// bench is a target with one unit, LUN 0, and two initiators logged in.
type bench struct {
	*testing.T
	units  *Units
	device *ram
}

func newBench(t *testing.T, readOnly bool) *bench {
	b := &bench{T: t, device: &ram{data: make([]byte, ramSize)}}
	u, err := NewUnit(volume, b.device, readOnly, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.units = NewUnits(NewModel(&scsi.SCSITargetService{}), "iqn.2026-11.test:disk", map[uint8]*Unit{0: u})
	for _, n := range []Nexus{alice, bob} {
		u.Attach(n)
		b.sense(n, testReady, nil, 6, 0x2900)
	}
	return b
}

var testReady = []byte{0, 0, 0, 0, 0, 0}

func (b *bench) run(n Nexus, cdb []byte, out []byte) *Command {
	c := &Command{Nexus: n, Expected: uint32(len(out)), Transfer: &transfer{out: out}}
	copy(c.CDB[:], cdb)
	b.units.Execute(context.Background(), b.units.Find(0), c)
	if (c.Status == CheckCondition) != (len(c.Sense) == senseLen) {
		b.Fatalf("% x: status %02x with %d bytes of sense", cdb, c.Status, len(c.Sense))
	}
	return c
}

func (b *bench) good(n Nexus, cdb []byte, out []byte) *Command {
	b.Helper()
	c := b.run(n, cdb, out)
	if c.Status != Good {
		b.Fatalf("% x: status %02x, sense % x", cdb, c.Status, c.Sense)
	}
	return c
}

// sense checks key and code of a command that has to fail.
func (b *bench) sense(n Nexus, cdb []byte, out []byte, key byte, code uint16) *Command {
	b.Helper()
	c := b.run(n, cdb, out)
	if c.Status != CheckCondition || c.Sense[2]&0xf != key || binary.BigEndian.Uint16(c.Sense[12:]) != code {
		b.Fatalf("% x: status %02x, sense % x, want %x/%04x", cdb, c.Status, c.Sense, key, code)
	}
	return c
}

func (b *bench) conflict(n Nexus, cdb []byte, out []byte) {
	b.Helper()
	if c := b.run(n, cdb, out); c.Status != ReservationConflict {
		b.Fatalf("% x: status %02x, want a reservation conflict", cdb, c.Status)
	}
}

func ten(code, flags byte, lba uint32, blocks uint16) []byte {
	c := make([]byte, 10)
	c[0], c[1] = code, flags
	binary.BigEndian.PutUint32(c[2:], lba)
	binary.BigEndian.PutUint16(c[7:], blocks)
	return c
}

func sixteen(code, flags byte, lba uint64, blocks uint32) []byte {
	c := make([]byte, 16)
	c[0], c[1] = code, flags
	binary.BigEndian.PutUint64(c[2:], lba)
	binary.BigEndian.PutUint32(c[10:], blocks)
	return c
}

func fill(n int, b byte) []byte { return bytes.Repeat([]byte{b}, n) }

func TestIdentity(t *testing.T) {
	b := newBench(t, false)
	std := b.good(alice, []byte{0x12, 0, 0, 0, 255, 0}, nil).In
	if got := string(std[8:32]); got != "SWIFTBLKVOLUME          " {
		t.Errorf("vendor and product %q", got)
	}
	if std[5]&0x30 != 0 || std[7]&2 == 0 {
		t.Errorf("standard inquiry data % x: want no TPGS, but command queueing", std[:8])
	}
	page := func(code byte) []byte { return b.good(alice, []byte{0x12, 1, code, 0, 255, 0}, nil).In[4:] }
	if got := string(page(pageSerial)); got != volume {
		t.Errorf("serial number %q, want the volume's id", got)
	}
	identity := page(pageIdentity)
	if !bytes.Contains(identity, []byte(Vendor+volume)) {
		t.Errorf("no T10 designator in % x", identity)
	}
	if want := []byte{0x51, 0x83, 0, 8, 0x30, 0x01, 0x12, 0x23, 0x34, 0x45, 0x56, 0x67}; !bytes.Contains(identity, want) {
		t.Errorf("no NAA designator % x in % x", want, identity)
	}
	if got := page(pageSupported); !slices.Equal(got, []byte{0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2}) {
		t.Errorf("supported pages % x", got)
	}
	if got := page(pageProvisioning); got[1]&0xe4 != 0xe4 {
		t.Errorf("provisioning page % x: want LBPU, LBPWS, LBPWS10, LBPRZ", got)
	}
	rc := b.good(alice, []byte{0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0}, nil).In
	if rc[13] != 3 || rc[14]&0xc0 != 0xc0 || binary.BigEndian.Uint64(rc) != ramSize/512-1 {
		t.Errorf("READ CAPACITY(16) % x", rc)
	}
}

func TestAllocationLengthCutsAnswers(t *testing.T) {
	b := newBench(t, false)
	for _, cdb := range [][]byte{
		{0x12, 0, 0, 0, 7, 0},
		{0x12, 1, 0x83, 0, 7, 0},
		{0x1a, 0, 0x3f, 0, 7, 0},
		{0x03, 0, 0, 0, 7, 0},
		{0x5a, 0, 0x3f, 0, 0, 0, 0, 0, 7, 0},
		{0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0},
		{0x5e, 0, 0, 0, 0, 0, 0, 0, 7, 0},
	} {
		if c := b.good(alice, cdb, nil); len(c.In) != 7 || c.Moves != 7 {
			t.Errorf("% x: %d bytes, moves %d", cdb, len(c.In), c.Moves)
		}
	}
}

func TestAbsentLUN(t *testing.T) {
	b := newBench(t, false)
	run := func(cdb ...byte) *Command {
		c := &Command{Nexus: alice, Transfer: &transfer{}}
		copy(c.CDB[:], cdb)
		b.units.Execute(context.Background(), b.units.Find(5<<48), c)
		return c
	}
	if c := run(0x12, 0, 0, 0, 36, 0); c.Status != Good || c.In[0] != 0x7f {
		t.Errorf("INQUIRY: %02x % x", c.Status, c.In)
	}
	if c := run(0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0); c.Status != Good || len(c.In) != 16 {
		t.Errorf("REPORT LUNS: %02x % x", c.Status, c.In)
	}
	for _, cdb := range [][]byte{{0x00, 0, 0, 0, 0, 0}, ten(0x28, 0, 0, 1), {0xff}} {
		if c := run(cdb...); c.Status != CheckCondition || c.Sense[12] != 0x25 {
			t.Errorf("% x: %02x % x", cdb, c.Status, c.Sense)
		}
	}
}

func TestRanges(t *testing.T) {
	b := newBench(t, false)
	end := uint32(ramSize / 512)
	block := make([]byte, 1024)
	for _, code := range []byte{0x28, 0x2a, 0x2e, 0x2f, 0x35, 0x41, 0x34} {
		b.sense(alice, ten(code, 0, end-1, 2), block, 5, 0x2100)
		b.sense(alice, ten(code, 0, end+1, 0), block, 5, 0x2100)
	}
	for _, code := range []byte{0x88, 0x8a, 0x8b, 0x8e, 0x8f, 0x91, 0x93} {
		b.sense(alice, sixteen(code, 0, 1<<64-1, 2), block, 5, 0x2100)
		b.sense(alice, sixteen(code, 0, uint64(end), 1), block, 5, 0x2100)
	}
	list := make([]byte, 24)
	binary.BigEndian.PutUint16(list[2:], 16)
	binary.BigEndian.PutUint64(list[8:], uint64(end))
	binary.BigEndian.PutUint32(list[16:], 1)
	b.sense(alice, []byte{0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0}, list, 5, 0x2100)
	if len(b.device.calls) != 0 {
		t.Errorf("the device was called: %v", b.device.calls)
	}
}

func TestReservedBits(t *testing.T) {
	b := newBench(t, false)
	b.sense(alice, ten(0x28, 0x20, 0, 1), nil, 5, 0x2400) // RDPROTECT
	b.sense(alice, []byte{0x00, 0, 0, 0, 0, 0x04}, nil, 5, 0x2400)
	b.sense(alice, []byte{0x9e, 0x1f}, nil, 5, 0x2400)
	b.sense(alice, []byte{0xd1}, nil, 5, 0x2000)
}

func TestForceUnitAccess(t *testing.T) {
	b := newBench(t, false)
	if b.good(alice, ten(0x2a, 0, 0, 1), fill(512, 1)); b.device.fua {
		t.Error("write without FUA was forced")
	}
	if b.good(alice, ten(0x2a, fua, 0, 1), fill(512, 1)); !b.device.fua {
		t.Error("write with FUA was not forced")
	}
	// MODE SELECT(6) turns the write cache off.
	caching := append([]byte{0, 0, 0, 0, pageCaching, cachingLen}, make([]byte, cachingLen)...)
	b.device.calls = nil
	b.good(alice, []byte{0x15, 0x10, 0, 0, byte(len(caching)), 0}, caching)
	if !slices.Equal(b.device.calls, []string{"flush"}) {
		t.Errorf("turning the cache off: %v, want a flush", b.device.calls)
	}
	b.sense(bob, []byte{0x00, 0, 0, 0, 0, 0}, nil, 6, 0x2a01)
	if b.good(alice, ten(0x2a, 0, 0, 1), fill(512, 1)); !b.device.fua {
		t.Error("without a write cache a write was not forced")
	}
	page := func(control byte) byte {
		return b.good(alice, []byte{0x1a, 8, control<<6 | pageCaching, 0, 255, 0}, nil).In[4+2]
	}
	if page(0)&bitWCE != 0 || page(1)&bitWCE == 0 || page(2)&bitWCE == 0 {
		t.Errorf("WCE: current %x, changeable %x, default %x", page(0), page(1), page(2))
	}
	caching[6] = 0xff // more than can be changed
	b.sense(alice, []byte{0x15, 0x10, 0, 0, byte(len(caching)), 0}, caching, 5, 0x2600)
}

func TestWriteProtection(t *testing.T) {
	b := newBench(t, true)
	for _, cdb := range [][]byte{
		ten(0x2a, 0, 0, 1), ten(0x2e, 0, 0, 1), ten(0x41, 0, 0, 1), sixteen(0x8b, 0, 0, 1),
		{0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0},
		{0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0},
	} {
		b.sense(alice, cdb, make([]byte, 1024), 7, 0x2700)
	}
	b.good(alice, ten(0x28, 0, 0, 1), nil)
	if got := b.good(alice, []byte{0x1a, 0, 0x3f, 0, 255, 0}, nil).In[2]; got&0x80 == 0 {
		t.Errorf("device specific parameter %x, want WP", got)
	}
	if len(b.device.calls) != 0 {
		t.Errorf("the device was called: %v", b.device.calls)
	}
}

func TestWriteSame(t *testing.T) {
	b := newBench(t, false)
	copy(b.device.data, fill(ramSize, 7))
	b.good(alice, ten(0x41, 0, 2, 600), fill(512, 3))
	if !bytes.Equal(b.device.data[1024:1024+600*512], fill(600*512, 3)) || b.device.data[1023] != 7 || b.device.data[1024+600*512] != 7 {
		t.Error("WRITE SAME wrote something else, or elsewhere")
	}
	cases := []struct {
		cdb  []byte
		out  []byte
		call string
	}{
		{ten(0x41, 0, 0, 8), make([]byte, 512), "zeroes"},
		{ten(0x41, bitUnmap, 0, 8), make([]byte, 512), "discard"},
		{ten(0x41, bitUnmap, 0, 8), fill(512, 1), "write"}, // must read as the data-out
		{sixteen(0x93, bitUnmap|bitNDOB, 0, 8), nil, "discard"},
		{sixteen(0x93, bitNDOB, 0, 0), nil, "zeroes"}, // to the end
	}
	for _, c := range cases {
		b.device.calls = nil
		b.good(alice, c.cdb, c.out)
		if !slices.Equal(b.device.calls, []string{c.call}) {
			t.Errorf("% x: %v, want %s", c.cdb, b.device.calls, c.call)
		}
	}
	if b.device.data[ramSize-1] != 0 {
		t.Error("number of blocks 0 did not reach the end")
	}
	b.sense(alice, ten(0x41, 0, 0, 8), make([]byte, 1024), 5, 0x2400)
	b.sense(alice, ten(0x41, bitUnmap|0x10, 0, 8), make([]byte, 512), 5, 0x2400) // ANCHOR
}

func TestUnmap(t *testing.T) {
	b := newBench(t, false)
	copy(b.device.data, fill(ramSize, 7))
	list := make([]byte, 8+32)
	binary.BigEndian.PutUint16(list, 38)
	binary.BigEndian.PutUint16(list[2:], 32)
	binary.BigEndian.PutUint64(list[8:], 1)
	binary.BigEndian.PutUint32(list[16:], 2)
	binary.BigEndian.PutUint64(list[24:], 100)
	binary.BigEndian.PutUint32(list[32:], 1)
	b.good(alice, []byte{0x42, 0, 0, 0, 0, 0, 0, 0, 40, 0}, list)
	zero := 0
	for _, v := range b.device.data {
		if v == 0 {
			zero++
		}
	}
	if zero != 3*512 || b.device.data[512] != 0 || b.device.data[51200] != 0 {
		t.Errorf("%d bytes are zero, want 1536 at blocks 1, 2 and 100", zero)
	}
	b.good(alice, []byte{0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0}, nil)
	b.sense(alice, []byte{0x42, 0, 0, 0, 0, 0, 0, 0, 7, 0}, list, 5, 0x1a00)
	b.sense(alice, []byte{0x42, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0}, list, 5, 0x1a00)
}

func TestCompareAndWrite(t *testing.T) {
	b := newBench(t, false)
	caw := []byte{0x89, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 2, 0, 0}
	b.good(alice, caw, append(fill(1024, 0), fill(1024, 5)...))
	if !bytes.Equal(b.device.data[2048:3072], fill(1024, 5)) {
		t.Error("the second half was not written")
	}
	wrong := append(fill(1024, 5), fill(1024, 6)...)
	wrong[700] = 9
	c := b.sense(alice, caw, wrong, 0xe, 0x1d00)
	if c.Sense[0] != 0xf0 || binary.BigEndian.Uint32(c.Sense[3:]) != 700 {
		t.Errorf("sense % x does not point at byte 700", c.Sense)
	}
	if b.device.data[2048] != 5 {
		t.Error("written in spite of a miscompare")
	}
	b.sense(alice, caw, fill(1024, 5), 5, 0x2400)
}

func TestVerify(t *testing.T) {
	b := newBench(t, false)
	copy(b.device.data[512:], fill(1024, 5))
	b.good(alice, ten(0x2f, 2, 1, 2), fill(1024, 5))
	bad := fill(1024, 5)
	bad[1000] = 6
	b.sense(alice, ten(0x2f, 2, 1, 2), bad, 0xe, 0x1d00)
	b.good(alice, ten(0x2f, 0, 1, 2), nil)
	b.good(alice, ten(0x2f, 6, 1, 2), fill(512, 5)) // each block is this one
	b.sense(alice, ten(0x2f, 6, 1, 3), fill(512, 5), 0xe, 0x1d00)
	b.device.err = ErrMedium
	b.sense(alice, ten(0x2f, 0, 1, 2), nil, 3, 0x1100)
}

func TestOrWrite(t *testing.T) {
	b := newBench(t, false)
	copy(b.device.data, fill(1024, 0x0f))
	b.good(alice, sixteen(0x8b, 0, 0, 1), fill(512, 0x30))
	if b.device.data[0] != 0x3f || b.device.data[512] != 0x0f {
		t.Errorf("%x %x", b.device.data[0], b.device.data[512])
	}
}

func TestSupportedOperations(t *testing.T) {
	b := newBench(t, false)
	all := b.good(alice, []byte{0xa3, 0x0c, 0x80, 0, 0, 0, 0, 0, 0x20, 0, 0, 0}, nil).In
	if n := int(binary.BigEndian.Uint32(all)); n != len(all)-4 || n != len(operations)*20 {
		t.Errorf("%d bytes announced, %d there, %d operations", n, len(all)-4, len(operations))
	}
	one := b.good(alice, []byte{0xa3, 0x0c, 3, 0x93, 0, 0, 0, 0, 1, 0, 0, 0}, nil).In
	if one[1] != 3 || one[3] != 16 || one[4] != 0x93 || one[5] != bitUnmap|bitNDOB {
		t.Errorf("WRITE SAME(16): % x", one)
	}
	if none := b.good(alice, []byte{0xa3, 0x0c, 1, 0xd1, 0, 0, 0, 0, 1, 0, 0, 0}, nil).In; none[1] != 1 {
		t.Errorf("unsupported: % x", none)
	}
	b.sense(alice, []byte{0xa3, 0x0c, 1, 0x9e, 0, 0, 0, 0, 1, 0, 0, 0}, nil, 5, 0x2400)
}

func TestUnitAttentions(t *testing.T) {
	b := newBench(t, false)
	u := b.units.Unit(0)
	u.Resize(ramSize / 2)
	u.Resize(ramSize / 4) // the same attention once
	b.good(alice, []byte{0x12, 0, 0, 0, 36, 0}, nil)
	b.sense(alice, ten(0x28, 0, 0, 1), nil, 6, 0x2a09)
	b.good(alice, ten(0x28, 0, 0, 1), nil)
	if c := b.good(bob, []byte{0x03, 0, 0, 0, 252, 0}, nil); c.In[2] != 6 || c.In[12] != 0x2a {
		t.Errorf("REQUEST SENSE % x", c.In)
	}
	b.good(bob, ten(0x28, 0, 0, 1), nil)
	u.Reset(alice)
	b.good(alice, []byte{0, 0, 0, 0, 0, 0}, nil)
	b.sense(bob, []byte{0, 0, 0, 0, 0, 0}, nil, 6, 0x2903)
	u.Resize(ramSize)
	u.Detach(bob)
	u.Attach(bob) // a new session knows the size; it is as after power on
	b.sense(bob, testReady, nil, 6, 0x2900)
	b.good(bob, testReady, nil)
	b.sense(alice, []byte{0, 0, 0, 0, 0, 0}, nil, 6, 0x2a09)
	if n := u.attention.Load(); n != 0 {
		t.Errorf("%d attentions counted, none is due", n)
	}
}

func TestPanicIsAHardwareError(t *testing.T) {
	b := newBench(t, false)
	b.device.data = nil // every access is out of bounds
	c := b.sense(alice, ten(0x2a, 0, 1, 1), fill(512, 1), 4, 0x4400)
	if c.Err == nil || !strings.HasPrefix(c.Err.Error(), "WRITE(10): panic: ") {
		t.Errorf("error for the log: %v", c.Err)
	}
	if !b.units.Unit(0).exclusive.TryAcquire(writers) {
		t.Error("the panic left the unit locked")
	}
}

func TestDeviceErrors(t *testing.T) {
	for _, c := range []struct {
		err   error
		read  *senseError
		write *senseError
	}{
		{ErrMedium, errUnreadable, errHardware},
		{ErrGone, errHardware, errHardware},
		{errors.New("other"), errUnavailable, errUnavailable},
		{context.Canceled, errUnavailable, errUnavailable},
	} {
		r, w := readFailed(c.err), writeFailed(c.err)
		if !errors.Is(r, c.read) || !errors.Is(w, c.write) || !errors.Is(r, c.err) || !errors.Is(w, c.err) {
			t.Errorf("%v: %v, %v", c.err, r, w)
		}
	}
}

// Whatever a CDB holds, the command ends with a status, and GOOD means that it
// was carried out within its bounds.
func FuzzCDB(f *testing.F) {
	for i := range operations {
		f.Add(operations[i].usage, []byte("data"))
		cdb := make([]byte, 16)
		cdb[0] = operations[i].usage[0]
		if operations[i].action != nil {
			cdb[1] = *operations[i].action
		}
		f.Add(cdb, make([]byte, 512))
	}
	device := &ram{data: make([]byte, 64<<10)}
	f.Fuzz(func(t *testing.T, cdb, out []byte) {
		device.calls = nil
		u, err := NewUnit(volume, device, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		units := NewUnits(NewModel(&scsi.SCSITargetService{}), "iqn.2026-11.test:fuzz", map[uint8]*Unit{0: u})
		u.Attach(alice)
		c := &Command{Nexus: alice, Expected: uint32(len(out)), Transfer: &transfer{out: out}, Status: 0xff}
		copy(c.CDB[:], cdb)
		units.Execute(context.Background(), u, c)
		switch c.Status {
		case Good, ReservationConflict:
		case CheckCondition:
			if len(c.In) != 0 || len(c.Sense) != senseLen {
				t.Fatalf("% x: failed with %d bytes of data, sense % x", cdb, len(c.In), c.Sense)
			}
			if c.Sense[2]&0xf == scsi.HARDWARE_ERROR {
				t.Fatalf("% x: panicked", cdb)
			}
		default:
			t.Fatalf("% x: status %02x", cdb, c.Status)
		}
	})
}
