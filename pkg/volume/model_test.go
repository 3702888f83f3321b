package volume

import (
	"encoding/binary"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/delta/crashfs"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/swifttest"
)

// state is what a volume should hold: for each sector the number of the write
// that it is from, 0 for zeros.
type state []uint32

// encode writes sector number i as write id left it.
func encode(p []byte, id uint32, i int) {
	clear(p)
	if id == 0 {
		return
	}
	word := uint64(id)<<32 | uint64(i)
	for n := 0; n < len(p); n += 8 {
		binary.LittleEndian.PutUint64(p[n:], word)
		word *= 0x9e3779b97f4a7c15
	}
	binary.LittleEndian.PutUint32(p, id)
}

// subject is a volume and all the states it has been in.
type subject struct {
	*rig
	name    int
	past    []state // the last one is now
	durable int     // the newest of past that a loss of power cannot undo
	stored  int     // the newest of past that is known to be in Swift
}

func (s *subject) now() state { return s.past[len(s.past)-1] }

// become appends the state that f makes of the present one.
func (s *subject) become(f func(state) state) {
	s.past = append(s.past, f(slices.Clone(s.now())))
}

// check reads n sectors from i on and returns the writes they are from.
func (s *subject) check(i, n int) state {
	s.t.Helper()
	p := s.read(int64(i)*512, int64(n)*512)
	got, want := make(state, n), make([]byte, 512)
	for k := range got {
		sector := p[k*512:][:512]
		got[k] = binary.LittleEndian.Uint32(sector)
		encode(want, got[k], i+k)
		if string(want) != string(sector) {
			s.t.Fatalf("volume %d: sector %d is no sector that was ever written", s.name, i+k)
		}
	}
	return got
}

// verify checks sectors against the present state.
func (s *subject) verify(i, n int) {
	s.t.Helper()
	for k, id := range s.check(i, n) {
		if want := s.now()[i+k]; id != want {
			s.t.Fatalf("volume %d: sector %d is from write %d instead of %d", s.name, i+k, id, want)
		}
	}
}

// settle finds which state since past[from] the volume is in, after it may have
// lost the last ones (P2), and makes it the present one. A write that was not
// durable may be there up to some sector: a large one is several records.
func (s *subject) settle(from int) {
	s.t.Helper()
	got := s.check(0, int(s.Size()/512))
	for i := len(s.past) - 1; i >= from; i-- {
		if i+1 < len(s.past) && !torn(s.past[i], s.past[i+1], got) || i+1 == len(s.past) && !slices.Equal(s.past[i], got) {
			continue
		}
		s.past = append(s.past[:i+1], got)
		s.durable, s.stored = len(s.past)-1, min(s.stored, i)
		return
	}
	s.t.Fatalf("volume %d is in no state since %d of %d: not a prefix", s.name, from, len(s.past))
}

// torn reports whether got is old with the first of the changes that next made.
func torn(old, next, got state) bool {
	if len(old) != len(got) {
		return false
	}
	changing := true
	for i := range got {
		switch {
		case old[i] == next[i] && got[i] == old[i]:
		case changing && got[i] == next[i]:
		case got[i] == old[i]:
			changing = false
		default:
			return false
		}
	}
	return true
}

// cut is a published root and the state that it should be.
type cut struct {
	root  *snapshots.Root
	state state
	keys  keys.Set
}

// machine is the model: volumes over one Swift, each on a node of its own.
type machine struct {
	t       *rapid.T
	volumes []*subject
	cuts    []cut
	lastID  uint32
	disks   *rand.Rand
	real    swift.Store // what the model itself asks
	faulty  *swifttest.FaultyStore
}

const (
	modelSize  = 20 * mib // 2.5 chunks
	maxModel   = 28 * mib
	modelQuota = 12 * mib // of journals: some are sealed because they are half full
)

func TestModel(t *testing.T) {
	if flag.Lookup("rapid.checks").Value.String() == "100" { // the default
		flag.Set("rapid.checks", "20")
		flag.Set("rapid.shrinktime", "5s") // what happened in the background cannot be replayed anyway
	}
	// Each journal is held in memory several times over.
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(512 << 20))
	store, met := modelStore(t)
	injected := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		m := &machine{t: t, disks: rand.New(rand.NewPCG(seed, 0)), real: store}
		m.faulty = swifttest.Faulty(store, seed, swifttest.Faults{})
		spy := &spy{Store: m.faulty}
		r := &rig{t: t, ctx: t.Context(), store: spy, size: modelSize, root: "/", quota: modelQuota}
		r.fs = m.disk()
		if rapid.Bool().Draw(t, "encrypted") {
			r.keys = keys.New(keys.Set{})
		}
		m.add(r.start(nil), make(state, modelSize/512))
		t.Repeat(map[string]func(*rapid.T){
			"write":      m.write,
			"rewrite":    m.rewrite,
			"zero":       m.zero,
			"read":       m.read,
			"flush":      m.flush,
			"snapshot":   m.snapshot,
			"seal":       m.seal,
			"restart":    m.restart,
			"power loss": m.powerLoss,
			"reattach":   m.reattach,
			"zombie":     m.zombie,
			"clone":      m.clone,
			"resize":     m.resize,
			"compact":    m.compact,
			"faults":     m.faults,
		})
		m.finish()
		if len(spy.reused) > 0 {
			t.Fatalf("names used for other bytes: %v", spy.reused)
		}
		for kind, n := range m.faulty.Injected() {
			injected[kind] += n
		}
	})
	t.Logf("faults: of the store %v, on the wire %v", injected, met())
}

// modelStore is the store that [newStore] returns; to an embedded one the way is
// bad.
func modelStore(t *testing.T) (store swift.Store, met func() map[string]int) {
	if os.Getenv("ST_AUTH") != "" {
		return newStore(t), func() map[string]int { return nil }
	}
	return swifttest.NewStoreOverWire(t, rand.Uint64(), swifttest.WireFaults{
		Expired: 0.005, Refused: 0.005, Dropped: 0.005, Lost: 0.005, Cut: 0.005,
	})
}

func (m *machine) add(r *rig, s state) {
	v := &subject{rig: r, name: len(m.volumes), past: []state{s}}
	m.volumes = append(m.volumes, v)
}

// some draws a volume.
func (m *machine) some(t *rapid.T) *subject {
	return m.volumes[rapid.IntRange(0, len(m.volumes)-1).Draw(t, "volume")]
}

// span draws a range of at most n sectors, often near a boundary.
func (m *machine) span(t *rapid.T, s *subject, n int) (first, count int) {
	sectors := len(s.now())
	count = rapid.IntRange(1, n).Draw(t, "sectors")
	first = rapid.OneOf(
		rapid.IntRange(0, sectors-count),
		rapid.Just(max(0, min(chunks.Size/512-count/2, sectors-count))),
		rapid.Just(sectors-count),
		rapid.IntRange(0, min(64, sectors-count)),
	).Draw(t, "first")
	return first, count
}

func (m *machine) put(s *subject, first, count int, fua bool) {
	m.lastID++
	p := make([]byte, count*512)
	for i := range count {
		encode(p[i*512:][:512], m.lastID, first+i)
	}
	s.must(s.WriteAt(s.ctx, p, int64(first)*512, fua))
	s.become(func(now state) state {
		for i := range count {
			now[first+i] = m.lastID
		}
		return now
	})
	if fua {
		s.durable = len(s.past) - 1
	}
}

func (m *machine) write(t *rapid.T) {
	s := m.some(t)
	first, count := m.span(t, s, 300)
	m.put(s, first, count, rapid.IntRange(0, 7).Draw(t, "fua") == 0)
}

// rewrite changes more than half of a chunk.
func (m *machine) rewrite(t *rapid.T) {
	s := m.some(t)
	first, count := m.span(t, s, 1000)
	m.put(s, min(first, len(s.now())-9000-count), 9000+count, false)
}

func (m *machine) zero(t *rapid.T) {
	s := m.some(t)
	first, count := m.span(t, s, rapid.SampledFrom([]int{9, 2000, len(s.now())}).Draw(t, "at most"))
	off, n := int64(first)*512, int64(count)*512
	switch rapid.IntRange(0, 2).Draw(t, "how") {
	case 0:
		s.must(s.Discard(s.ctx, off, n))
	case 1:
		s.must(s.WriteZeroes(s.ctx, off, n, false))
	default:
		for p := range slices.Chunk(make([]byte, n), mib) {
			s.write(off, p)
			off += int64(len(p))
		}
	}
	s.become(func(now state) state { clear(now[first : first+count]); return now })
}

func (m *machine) read(t *rapid.T) {
	s := m.some(t)
	first, count := m.span(t, s, 5000)
	s.verify(first, count)
}

func (m *machine) flush(t *rapid.T) {
	s := m.some(t)
	s.must(s.Flush(s.ctx))
	s.durable = len(s.past) - 1
}

func (m *machine) seal(t *rapid.T) {
	s := m.some(t)
	_, err := s.Seal(s.ctx, "")
	s.must(err)
	s.durable = len(s.past) - 1
}

func (m *machine) snapshot(t *rapid.T) {
	s := m.some(t)
	root := s.publish(ident.NewSnapshot())
	s.durable, s.stored = len(s.past)-1, len(s.past)-1
	m.cuts = append(m.cuts, cut{root, s.now(), s.keys})
}

func (m *machine) restart(t *rapid.T) { m.some(t).restart() }

// powerLoss takes the node of one volume, which may lose what was not durable.
func (m *machine) powerLoss(t *rapid.T) {
	s := m.some(t)
	disk := s.fs.(*crashfs.FS)
	disk.Kill()
	s.Stop() // whatever it says: it is dead
	disk.PowerLoss()
	s.open()
	s.settle(s.durable)
}

// reattach closes a volume and opens it on another node.
func (m *machine) reattach(t *rapid.T) {
	s := m.some(t)
	s.head = s.close()
	m.move(s)
	s.durable, s.stored = len(s.past)-1, len(s.past)-1
	m.cuts = append(m.cuts, cut{s.head, s.now(), s.keys})
}

// zombie attaches a volume elsewhere while its node, cut off, goes on: what is
// not in Swift is lost, and nothing that the node does later matters (P6).
func (m *machine) zombie(t *rapid.T) {
	s := m.some(t)
	_, err := m.real.Put(s.ctx, s.container, chunks.FenceName(s.epoch.Number), []byte(s.epoch.String()), swift.PutOptions{})
	s.must(err)
	old := &subject{rig: &rig{}, name: s.name}
	*old.rig = *s.rig
	// The newest root, as the controller searches it after the fence. A root PUT
	// that had passed its look for the fence may still have come later.
	s.head = m.newest(old)
	m.move(s)
	s.settle(s.stored)
	s.stored = s.durable
	wantIs(t, old.WriteAt(old.ctx, make([]byte, 512), 0, false), ErrFenced)
}

// disk returns an empty disk of another node.
func (m *machine) disk() *crashfs.FS {
	return crashfs.New(rand.New(rand.NewPCG(m.disks.Uint64(), 1)))
}

// move opens a volume's next epoch on another node.
func (m *machine) move(s *subject) {
	s.fs = m.disk()
	s.nextEpoch()
}

// newest stops the volume's publication and returns the newest root there is.
func (m *machine) newest(s *subject) *snapshots.Root {
	s.Seal(s.ctx, "") // makes it meet the fence
	waitFor(s.t, func() bool { return errors.Is(s.Err(), ErrFenced) })
	names, err := m.real.List(s.ctx, s.container, chunks.RootPrefix, "", 0)
	s.must(err)
	if len(names) == 0 {
		return s.Stats().Head
	}
	last := names[len(names)-1]
	obj, err := m.real.Get(s.ctx, s.container, last.Name, swift.GetOptions{Newest: true})
	s.must(err)
	root, err := snapshots.DecodeRoot(snapshots.Location{Container: s.container, Name: last.Name}, obj.Body)
	s.must(err)
	return root
}

func (m *machine) clone(t *rapid.T) {
	if len(m.cuts) == 0 || len(m.volumes) > 2 {
		t.Skip("nothing to clone, or enough clones")
	}
	c := m.cuts[rapid.IntRange(0, len(m.cuts)-1).Draw(t, "cut")]
	child := &rig{t: m.t, ctx: m.t.Context(), store: m.volumes[0].store, root: "/", size: c.root.State.Size, quota: modelQuota}
	child.fs = m.disk()
	if !c.keys.IsZero() {
		child.keys = keys.New(c.keys)
	}
	m.add(child.start(c.root), c.state)
}

// compact takes all packs for sparse, and makes the generation that writes them
// anew.
func (m *machine) compact(t *rapid.T) {
	s := m.some(t)
	head := s.publisher.head.Load()
	if head.root == nil {
		t.Skip("nothing to compact")
	}
	var found []sparse
	for e, err := range snapshots.OpenTable(s.publisher.objects.store, head.root).Entries(s.ctx) {
		s.must(err)
		for _, pack := range e.Patches {
			found = append(found, sparse{e.Chunk, pack})
		}
	}
	s.publisher.sparse.replace(found)
	m.seal(t)
}

func (m *machine) resize(t *rapid.T) {
	s := m.some(t)
	sectors := rapid.IntRange(len(s.now()), maxModel/512).Draw(t, "sectors")
	s.must(s.Resize(s.ctx, int64(sectors)*512))
	if sectors == len(s.now()) {
		return // nothing was written, so nothing that was before is durable now
	}
	s.become(func(now state) state { return append(now, make(state, sectors-len(now))...) })
	s.durable = len(s.past) - 1
}

// faults decides what the store does from now on: nothing bad, or some of all it
// may do, more or less often.
func (m *machine) faults(t *rapid.T) {
	often := rapid.SampledFrom([]float64{0, 0.05, 0.4}).Draw(t, "often")
	some := func(what string) float64 {
		if rapid.Bool().Draw(t, what) {
			return often
		}
		return 0
	}
	m.faulty.SetFaults(swifttest.Faults{
		Unavailable: some("unavailable"), LostAnswer: some("lost answer"), Absent: some("absent"), Vague: some("vague"),
		Stale: some("stale"), BothWin: some("both win"), FalseExists: some("false exists"),
		Flipped: some("flipped"), Truncated: some("truncated"),
	})
}

// finish checks all there is, also from Swift alone.
func (m *machine) finish() {
	for _, s := range m.volumes {
		s.verify(0, len(s.now()))
		s.head = s.close()
		m.move(s)
		s.verify(0, len(s.now()))
		s.Stop()
	}
	for _, c := range m.cuts[max(0, len(m.cuts)-3):] {
		m.volumes[0].fs, m.volumes[0].keys = m.disk(), c.keys
		r := m.volumes[0].clone(c.root)
		(&subject{rig: r, name: -1, past: []state{c.state}}).verify(0, len(c.state))
		r.Stop()
	}
}
