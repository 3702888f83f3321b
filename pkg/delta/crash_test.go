package delta_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/delta/crashfs"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// The property test keeps a history of what the journal acknowledged and, after
// each crash, asks which prefix of it the recovered volume is: all of it after
// the death of the process (P1), at least what was flushed after a power loss
// (P2).

const (
	volumeSize = 20 << 20
	sectorSize = delta.Sector
)

// windows are the parts of the volume that the test writes and looks at: the
// ends, and the surroundings of the chunk boundaries.
var windows = []delta.Span{{Off: 0, Len: 96 << 10}, {Off: 8<<20 - 64<<10, Len: 128 << 10}, {Off: 16<<20 - 32<<10, Len: 64 << 10}, {Off: volumeSize - 64<<10, Len: 64 << 10}}

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
	for s := 0; s < len(p); s += sectorSize {
		for w := 0; w < sectorSize; w += 16 {
			binary.LittleEndian.PutUint64(p[s+w:], uint64(value))
			binary.LittleEndian.PutUint64(p[s+w+8:], uint64(off)+uint64(s))
		}
	}
}

// unstamp tells what the sector at off holds.
func unstamp(p []byte, off int64) (int64, error) {
	value := int64(binary.LittleEndian.Uint64(p))
	want := make([]byte, sectorSize)
	if value != zeros {
		stamp(want, off, value)
	}
	if string(want) != string(p) {
		return 0, fmt.Errorf("sector at %d holds no whole sector of any write: %x...", off, p[:16])
	}
	return value, nil
}

type machine struct {
	*rapid.T
	fs    *crashfs.FS
	cfg   delta.Config
	id    delta.Identity
	j     *delta.Journal
	table view // what generations retired so far published

	base    view // the volume after the last opening
	state   delta.State
	history []change // acknowledged since, in order
	pending *change  // in flight when the crash came
	flushed int      // of history
	number  int64    // of the last write
	lost    bool     // the power failed since the last opening
	broken  bool     // so did the disk: the journal may refuse until the next boot

	seals   []seal // returned and not retired, oldest first
	sealing ident.Snapshot
}

// seal is a cut as the test saw it.
type seal struct {
	gen      uint64
	snapshot ident.Snapshot
	content  view
	state    delta.State
}

func TestCrashesLeaveAPrefix(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		m := &machine{T: t, fs: crashfs.New(rand.New(rand.NewPCG(seed, 1)))}
		m.id = delta.Identity{Volume: ident.NewVolume(), Epoch: ident.NewEpoch(1)}
		m.cfg = delta.Config{Dir: "/journal", RunDir: "/run", FS: m.fs, SegmentSize: 64 << 10, Quota: 24 * 64 << 10, IdleWatermark: time.Hour, Prewrite: -1, MaxDelay: 1}
		m.state = delta.State{Size: volumeSize}
		m.base, m.table = blank(), blank()
		var err error
		if m.j, err = delta.Create(m.cfg, m.id, m.state); err != nil {
			t.Fatal(err)
		}
		defer func() { m.j.Close() }()
		for range rapid.IntRange(5, 60).Draw(t, "steps") {
			m.step()
		}
		m.fs.Kill()
		m.reopen(rapid.Bool().Draw(t, "power"))
	})
}

func (m *machine) step() {
	switch k := rapid.IntRange(0, 99).Draw(m.T, "step"); {
	case k < 45:
		m.write(rapid.IntRange(0, 9).Draw(m.T, "zero") == 0, rapid.IntRange(0, 4).Draw(m.T, "fua") == 0)
	case k < 55:
		m.sync()
	case k < 65:
		m.seal()
	case k < 75:
		m.retire()
	case k < 80:
		m.setState()
	case k < 85:
		m.verify()
	case k < 87:
		m.broken = true
		m.fs.FailSyncs(1)
	case k < 89:
		m.broken = true
		m.fs.FailWrites(1)
	case k < 95:
		m.fs.CrashAfter(rapid.IntRange(1, 12).Draw(m.T, "crash after"))
	case k < 98:
		m.fs.Kill()
		m.reopen(rapid.Bool().Draw(m.T, "power"))
	default:
		if err := m.j.Close(); err != nil && !m.fs.Crashed() && !m.broken {
			m.Fatal(err)
		}
		m.reopen(false)
	}
}

// failed handles the outcome of a call: true if the process died in it.
func (m *machine) failed(err error) bool {
	if err == nil {
		return false
	}
	if !m.fs.Crashed() && !(m.broken && (errors.Is(err, delta.ErrStopped) || errors.Is(err, crashfs.ErrInjected))) {
		m.Fatalf("without a crash: %v", err)
	}
	if !m.fs.Crashed() {
		m.j.Close() // so that its last words are written, always
	}
	m.reopen(rapid.Bool().Draw(m.T, "power"))
	return true
}

func (m *machine) write(zero, fua bool) {
	w := windows[rapid.IntRange(0, len(windows)-1).Draw(m.T, "window")]
	off := w.Off + sectorSize*rapid.Int64Range(0, w.Len/sectorSize-1).Draw(m.T, "sector")
	most := min(w.Off+w.Len-off, 40<<10)
	if zero && rapid.Bool().Draw(m.T, "far") {
		most = volumeSize - off
	}
	n := sectorSize * rapid.Int64Range(1, most/sectorSize).Draw(m.T, "sectors")
	if rapid.Bool().Draw(m.T, "aligned") && off/4096*4096 >= w.Off && off%4096+n >= 4096 {
		off, n = off/4096*4096, n/4096*4096+4096
		n = min(n, w.Off+w.Len-off)
	}
	m.number++
	c := change{off: off, n: n, value: m.number}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var err error
	if zero {
		c.value = zeros
		err = m.j.Zero(ctx, off, n, fua)
	} else {
		p := make([]byte, n)
		stamp(p, off, c.value)
		err = m.j.Write(ctx, off, p, fua)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		m.Fatalf("held with %+v", m.j.Stats())
	}
	if err != nil {
		m.pending = &c
	}
	if m.failed(err) {
		return
	}
	m.history = append(m.history, c)
	if fua {
		m.flushed = len(m.history)
	}
	for m.j.Stats().Fill > 0.7 && !m.fs.Crashed() { // as the volume would
		m.seal()
		for len(m.seals) > 0 && !m.fs.Crashed() {
			m.retire()
		}
	}
}

func (m *machine) sync() {
	if !m.failed(m.j.Sync(context.Background())) {
		m.flushed = len(m.history)
	}
}

func (m *machine) setState() {
	s := m.state
	s.Formatted = delta.Mark(rapid.IntRange(0, 2).Draw(m.T, "mark"))
	s.Size += sectorSize * rapid.Int64Range(0, 3).Draw(m.T, "grow")
	err := m.j.SetState(context.Background(), s)
	c := change{state: &s}
	if err != nil {
		m.pending = &c
	}
	if m.failed(err) {
		return
	}
	m.history = append(m.history, c)
	m.flushed = len(m.history)
}

func (m *machine) seal() {
	m.sealing = ident.NewSnapshot()
	l, err := m.j.Seal(context.Background(), m.sealing, false)
	if m.failed(err) {
		return
	}
	m.flushed = len(m.history)
	content, state := m.at(len(m.history))
	m.seals = append(m.seals, seal{l.Gen(), m.sealing, content, state})
}

// at returns the volume after k entries of the history.
func (m *machine) at(k int) (view, delta.State) {
	v, s := m.base.clone(), m.state
	for _, c := range m.history[:k] {
		v.apply(c)
		if c.state != nil {
			s = *c.state
		}
	}
	return v, s
}

// retire publishes the oldest sealed layer: its content on top of the table
// must be exactly the cut.
func (m *machine) retire() {
	if len(m.seals) == 0 {
		return
	}
	s := m.seals[0]
	l := m.j.Sealed()[0]
	if l.Gen() != s.gen || l.Snapshot() != s.snapshot || l.State() != s.state {
		m.Fatalf("oldest layer is %d %s %+v, want %d %s %+v", l.Gen(), l.Snapshot(), l.State(), s.gen, s.snapshot, s.state)
	}
	if err := m.overlay(l); err != nil {
		m.failed(err)
		return
	}
	for i := range m.table {
		if m.table[i] != s.content[i] {
			m.Fatalf("generation %d: sector %d holds %d, want %d", s.gen, i, m.table[i], s.content[i])
		}
	}
	root := []byte(fmt.Sprint("root ", s.gen))
	if m.failed(m.j.SaveRoot(s.gen, root)) || m.failed(m.j.Retire(context.Background(), s.gen)) {
		return
	}
	m.seals = m.seals[1:]
}

// overlay puts a layer's extents onto the table.
func (m *machine) overlay(l *delta.Layer) error {
	for chunk := range l.Chunks() {
		for _, e := range l.Extents(chunk) {
			var err error
			each(e.Off, e.Len, func(i int, at int64) {
				p := make([]byte, sectorSize)
				if e2 := l.ReadAt(context.Background(), p, at); e2 != nil {
					err = e2
					return
				}
				value, e2 := unstamp(p, at)
				if e2 != nil {
					m.Fatal(e2)
				}
				m.table[i] = value
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// observe reads the windows through the journal, over the table.
func (m *machine) observe() (view, error) {
	v := m.table.clone()
	for _, w := range windows {
		p := make([]byte, w.Len)
		holes, err := m.j.Read(context.Background(), p, w.Off)
		if err != nil {
			return nil, err
		}
		each(w.Off, w.Len, func(i int, at int64) {
			if len(holes) > 0 && at >= holes[0].Off+holes[0].Len {
				holes = holes[1:]
			}
			if len(holes) > 0 && at >= holes[0].Off {
				return
			}
			value, err := unstamp(p[at-w.Off:][:sectorSize], at)
			if err != nil {
				m.Fatal(err)
			}
			v[i] = value
		})
	}
	return v, nil
}

func (m *machine) verify() {
	got, err := m.observe()
	if m.failed(err) {
		return
	}
	want, state := m.at(len(m.history))
	for i := range want {
		if got[i] != want[i] {
			m.Fatalf("sector %d holds %d, want %d", i, got[i], want[i])
		}
	}
	if m.j.State() != state {
		m.Fatalf("state %+v, want %+v", m.j.State(), state)
	}
}

// reopen starts the next process, after a power loss if power, and checks what
// it finds. The recovery itself may die, too.
func (m *machine) reopen(power bool) {
	for {
		m.fs.Kill()
		m.j.Close()
		if power {
			m.lost = true
			m.fs.PowerLoss()
		} else {
			m.fs.Restart()
		}
		if rapid.IntRange(0, 3).Draw(m.T, "crash in recovery") == 0 {
			m.fs.CrashAfter(rapid.IntRange(1, 40).Draw(m.T, "crash after"))
		}
		j, err := delta.Open(m.cfg, m.id)
		if err == nil {
			m.j = j
			break
		}
		power = rapid.Bool().Draw(m.T, "power again")
		if !m.fs.Crashed() {
			if !m.broken || m.lost || !errors.Is(err, delta.ErrDamaged) {
				m.Fatalf("recovery: %v", err)
			}
			power = true // acknowledged writes are gone, so it refuses as long as anyone remembers them
		}
	}
	m.recovered()
}

// recovered finds the prefix that the volume is and goes on from it.
func (m *machine) recovered() {
	got, err := m.observe()
	if err != nil {
		if m.fs.Crashed() {
			m.reopen(false)
			return
		}
		m.Fatal(err)
	}
	least := len(m.history)
	if m.lost {
		least = m.flushed
	}
	possible := m.history
	if m.pending != nil {
		possible = append(possible, *m.pending)
	}
	state := m.j.State()
	if !isPrefix(m.base, m.state, possible, least, got, state) {
		m.Fatalf("after a crash (power lost: %v) the volume is none of the states %d..%d", m.lost, least, len(possible))
	}
	m.recoveredSeals(got, state)
	m.base, m.state = got, state
	m.history, m.pending, m.flushed = nil, nil, 0
	m.lost, m.broken = false, false
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

// recoveredSeals checks the layers: each seal that returned and is not retired
// is there; the one in flight may be.
func (m *machine) recoveredSeals(got view, state delta.State) {
	for len(m.seals) > 0 && m.seals[0].gen <= m.j.Retired() {
		m.seals = m.seals[1:] // its retirement was in flight
	}
	sealed := m.j.Sealed()
	if n := len(sealed); n == len(m.seals)+1 && sealed[n-1].Snapshot() == m.sealing {
		m.seals = append(m.seals, seal{sealed[n-1].Gen(), m.sealing, got.clone(), state})
	}
	if len(sealed) != len(m.seals) {
		m.Fatalf("%d sealed layers, want %d", len(sealed), len(m.seals))
	}
	for i, l := range sealed {
		if l.Gen() != m.seals[i].gen || l.Snapshot() != m.seals[i].snapshot || l.State() != m.seals[i].state {
			m.Fatalf("layer %d %s %+v, want %+v", l.Gen(), l.Snapshot(), l.State(), m.seals[i])
		}
		if root, ok := m.j.SavedRoot(l.Gen()); ok && string(root) != fmt.Sprint("root ", l.Gen()) {
			m.Fatalf("saved root of %d: %q", l.Gen(), root)
		}
	}
}
