package delta_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
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

	// statesOfARun is how many crash states a run sees at least, on average: a CI
	// run of 100 sees 10,000. The others are how often the fate of a disk is cast
	// for one moment: of a crash in the middle of a call, and between two calls.
	statesOfARun  = 100
	fatesOfACrash = 24
	fatesOfAStep  = 10
)

type machine struct {
	*rapid.T
	fs    *crashfs.FS
	fates *rand.Rand // of what a power loss may leave
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

	states *int // that crashes left, all runs together
}

// seal is a cut as the test saw it.
type seal struct {
	gen      uint64
	snapshot ident.Snapshot
	content  view
	state    delta.State
}

// Each run crashes some times, at a random operation of a random call. What the
// journal makes of the disk is judged not only for the state in which the run goes
// on, but for many of those that a power loss might have left: then, and after
// each call.
func TestCrashesLeaveAPrefix(t *testing.T) {
	states := 0
	defer func() {
		t.Logf("counted: %d crash states of the journal recovered and judged", states)
		runs, err := strconv.Atoi(flag.Lookup("rapid.checks").Value.String())
		if least := runs * statesOfARun; err == nil && states < least && !t.Failed() {
			t.Errorf("only %d crash states in %d runs, want %d", states, runs, least)
		}
	}()
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		m := &machine{T: t, fs: crashfs.New(rand.New(rand.NewPCG(seed, 1))), fates: rand.New(rand.NewPCG(seed, 2)), states: &states}
		m.id = delta.Identity{Volume: ident.NewVolume(), Epoch: ident.NewEpoch(1)}
		m.cfg = delta.Config{Dir: "/journal", RunDir: "/run", FS: m.fs, SegmentSize: 64 << 10, Quota: 10 * 64 << 10, IdleWatermark: time.Hour, Prewrite: -1, MaxDelay: 1}
		if rapid.Bool().Draw(t, "encrypted") {
			m.cfg.Key = testKey()
		}
		m.state = delta.State{Size: volumeSize}
		m.base, m.table = blank(), blank()
		var err error
		if m.j, err = delta.Create(m.cfg, m.id, m.state); err != nil {
			t.Fatal(err)
		}
		defer func() { m.j.Close() }()
		for range rapid.IntRange(5, 60).Draw(t, "steps") {
			m.step()
			m.losePower(fatesOfAStep)
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
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
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

// observe reads the windows through a journal, over the table.
func (m *machine) observe(j *delta.Journal) (view, error) {
	v := m.table.clone()
	for _, w := range windows {
		p := make([]byte, w.Len)
		holes, err := j.Read(context.Background(), p, w.Off)
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
	got, err := m.observe(m.j)
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
		m.losePower(fatesOfACrash)
		*m.states++
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
	got, err := m.observe(m.j)
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
	m.seals = m.judge(m.j, got, least)
	m.base, m.state = got, m.j.State()
	m.history, m.pending, m.flushed = nil, nil, 0
	m.lost, m.broken = false, false
}

// losePower judges what the journal would be after a power loss at this moment, for
// the different ones of n fates of the disk.
func (m *machine) losePower(n int) {
	seen := make(map[uint64]bool)
	for range n {
		disk := m.fs.AfterPowerLoss(m.fates)
		if seen[disk.Fate()] {
			continue
		}
		seen[disk.Fate()] = true
		*m.states++
		cfg := m.cfg
		cfg.FS = disk
		j, err := delta.Open(cfg, m.id)
		if err != nil {
			m.Fatalf("recovery after a power loss: %v", err)
		}
		got, err := m.observe(j)
		if err != nil {
			m.Fatalf("read after a power loss: %v", err)
		}
		m.judge(j, got, m.flushed)
		j.Close()
	}
}

// judge fails unless a recovered journal, in which got was read, is the volume
// after at least the first least changes, with all seals; it returns those.
func (m *machine) judge(j *delta.Journal, got view, least int) []seal {
	possible := m.history
	if m.pending != nil {
		possible = append(possible, *m.pending)
	}
	if !isPrefix(m.base, m.state, possible, least, got, j.State()) {
		m.Fatalf("after a crash the volume is none of the states %d..%d", least, len(possible))
	}
	return m.recoveredSeals(j, got)
}

// recoveredSeals checks the layers: each seal that returned and is not retired
// is there; the one in flight may be.
func (m *machine) recoveredSeals(j *delta.Journal, got view) []seal {
	seals := slices.Clone(m.seals)
	for len(seals) > 0 && seals[0].gen <= j.Retired() {
		seals = seals[1:] // its retirement was in flight
	}
	sealed := j.Sealed()
	if n := len(sealed); n == len(seals)+1 && sealed[n-1].Snapshot() == m.sealing {
		seals = append(seals, seal{sealed[n-1].Gen(), m.sealing, got.clone(), j.State()})
	}
	if len(sealed) != len(seals) {
		m.Fatalf("%d sealed layers, want %d", len(sealed), len(seals))
	}
	for i, l := range sealed {
		if l.Gen() != seals[i].gen || l.Snapshot() != seals[i].snapshot || l.State() != seals[i].state {
			m.Fatalf("layer %d %s %+v, want %+v", l.Gen(), l.Snapshot(), l.State(), seals[i])
		}
		if root, ok := j.SavedRoot(l.Gen()); ok && string(root) != fmt.Sprint("root ", l.Gen()) {
			m.Fatalf("saved root of %d: %q", l.Gen(), root)
		}
	}
	return seals
}
