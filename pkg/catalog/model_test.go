package catalog_test

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/authority/authoritytest"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/swifttest"
)

var (
	modelSeed  = flag.Uint64("model.seed", 0, "run the catalog's model with this seed only")
	modelRuns  = flag.Int("model.runs", 4, "how many seeds the catalog's model runs")
	modelSteps = flag.Int("model.steps", 80, "steps of each run")
)

// TestModel creates, imports, writes, snapshots, clones, abandons and deletes at
// random, and collects in between, without a grace or with one that volumes stay
// attached for many times and imports take longer than. Controllers die in any step,
// and another one repeats their calls much later or never; listings are stale and have
// rows resurrected. Nodes are lost, write on when they were fenced, or come back
// without their journals. The authority is lost, or an old copy of it put back, and
// recovered. Whatever is visible holds what it should at any time; nothing that is not
// needed stays, and when all is deleted nothing is left.
//
// Clock, dates of objects and identities follow from the seed: -model.seed replays.
func TestModel(t *testing.T) {
	for _, seed := range modelSeeds(*modelRuns) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { runModel(t, seed, *modelSteps) })
	}
}

// runModel runs a seed, and returns what has changed in the store on the way.
func runModel(t *testing.T, seed uint64, steps int) (changes []swifttest.Call) {
	cryptotest.SetGlobalRandom(t, seed) // object ids decide the order of listings
	count := swifttest.Count(swifttest.NewStore(t))
	dates := &datedStore{Store: count}
	store := swifttest.Faulty(dates, seed, swifttest.Faults{LateRow: 0.1, GhostRow: 0.3, Absent: 0.1, Stale: 0.1})
	m := newModel(newWorldOn(t, store), dates, seed)
	for range steps {
		m.step()
	}
	store.SetFaults(swifttest.Faults{})
	m.end()
	return slices.DeleteFunc(count.Calls(), func(c swifttest.Call) bool {
		return c.Op == "get" || c.Op == "head" || c.Op == "list" || c.Op == "list containers"
	})
}

// TestModelReplays: a seed is worth printing if it shows the same again.
func TestModelReplays(t *testing.T) {
	seed := modelSeeds(1)[0]
	t.Logf("seed %d", seed)
	var runs [2][]swifttest.Call
	for i := range runs {
		t.Run(fmt.Sprint(i), func(t *testing.T) { runs[i] = runModel(t, seed, 40) })
	}
	for i := range min(len(runs[0]), len(runs[1])) {
		if runs[0][i] != runs[1][i] {
			t.Fatalf("change %d of the store was %+v, then %+v", i, runs[0][i], runs[1][i])
		}
	}
	if len(runs[0]) != len(runs[1]) {
		t.Fatalf("%d changes, then %d", len(runs[0]), len(runs[1]))
	}
}

// modelSeeds returns the seed that was asked for, or n that are random, or that
// follow from RAPID_SEED where a run is to be the same each time.
func modelSeeds(n int) []uint64 {
	if *modelSeed != 0 {
		return []uint64{*modelSeed}
	}
	draw := rand.Uint64
	if base, err := strconv.ParseUint(os.Getenv("RAPID_SEED"), 10, 64); err == nil {
		draw = rand.New(rand.NewPCG(base, 0)).Uint64
	}
	seeds := make([]uint64, n)
	for i := range seeds {
		seeds[i] = draw()
	}
	return seeds
}

// TestModelOnRealSwift runs the model once where a real Swift is at hand.
func TestModelOnRealSwift(t *testing.T) {
	seed := modelSeeds(1)[0]
	dates := &datedStore{Store: swifttest.NewRealStore(t)}
	t.Logf("seed %d", seed)
	m := newModel(newWorldOn(t, dates), dates, seed)
	for range *modelSteps {
		m.step()
	}
	m.end()
}

// newModel makes the model of a world whose store dates its objects by dates.
func newModel(w *world, dates *datedStore, seed uint64) *model {
	m := &model{
		world: w, random: rand.New(rand.NewPCG(seed, 0)),
		volumes: map[string]*thing{}, snapshots: map[string]*thing{}, imports: map[string]*importing{},
	}
	clock := &ticking{at: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	w.clock, m.pass = clock.now, clock.pass
	dates.now = func() time.Time { return w.clock() }
	if m.random.IntN(2) == 0 {
		w.grace = time.Minute
	}
	m.say("grace %v", w.grace)
	w.Catalog = w.controller(w.authority, w.store)
	w.t.Cleanup(func() {
		if w.t.Failed() { // how it got there
			w.t.Log(strings.Join(m.log, "\n"))
		}
	})
	return m
}

// content is what the chunks of a volume hold.
type content = map[uint64]string

// model is what the world must look like. Its methods on the world fail the test.
type model struct {
	*world
	random    *rand.Rand
	names     int
	volumes   map[string]*thing // by name, as all visible ones
	snapshots map[string]*thing
	imports   map[string]*importing
	pending   []*pending
	haunted   []ident.Volume        // volumes that a fenced node has written to
	pass      func(time.Duration)   // lets time go by
	copy      *authoritytest.Memory // an old one of the authority; nil: none
	log       []string
}

// thing is a volume or a snapshot.
type thing struct {
	id      string
	content content
	export  *export // of an attached volume
	haunted bool    // a fenced node has written since,
	zombie  content // and this, if nothing of a later epoch was published
}

// pending is a call that died: it is repeated until it answers.
type pending struct {
	repeat func(c *catalog.Catalog) error
	done   func(err error)
	// source is what the call reads; holds grows with it while the call is
	// pending: each content since the first try is a right answer.
	source *thing
	holds  []content
	// mortal: it is given up when the authority is lost.
	mortal bool
}

func (m *model) say(format string, args ...any) {
	m.log = append(m.log, fmt.Sprintf(format, args...))
}

func (m *model) name(kind string) string {
	m.names++
	return fmt.Sprintf("%s-%d", kind, m.names)
}

// pick returns a random element, in an order that only the seed decides.
func pick[V any](m *model, from map[string]V) (string, V) {
	var none V
	if len(from) == 0 {
		return "", none
	}
	name := slices.Sorted(maps.Keys(from))[m.random.IntN(len(from))]
	return name, from[name]
}

// call runs p now, in a controller that may die.
func (m *model) call(p *pending) {
	c, crash := m.Catalog, (*authoritytest.Crash)(nil)
	if m.random.IntN(2) == 0 {
		c, crash = m.dying(m.random.IntN(12), m.random.IntN(2) == 0)
	}
	if p.source != nil {
		p.holds = append(p.holds, maps.Clone(p.source.content))
	}
	err := p.repeat(c)
	if crash != nil && crash.Happened() {
		m.say("  the controller died")
		m.pending = append(m.pending, p)
		return
	}
	p.done(err)
}

func (m *model) step() {
	name, v := pick(m, m.volumes)
	snapName, s := pick(m, m.snapshots)
	m.pass(time.Duration(m.random.IntN(20)) * time.Second)
	switch op := m.random.IntN(25); {
	case v == nil || op == 0:
		name := m.name("volume")
		m.say("create %s", name)
		m.create(catalog.VolumeSpec{Name: name, Required: 64 * mib}, nil)
	case op == 1:
		clone := m.name("clone")
		m.say("clone %s as %s", name, clone)
		m.create(from(clone, ident.Volume(v.id)), v)
	case op == 2 && s != nil:
		restored := m.name("restored")
		m.say("restore %s as %s", snapName, restored)
		m.create(from(restored, ident.Snapshot(s.id)), s)
	case op <= 4:
		m.snap(m.name("snapshot"), name, v)
	case op <= 8:
		m.write(name, v)
	case op == 9 && v.export != nil:
		m.say("detach %s", name)
		m.detach(v.export)
		v.export = nil
	case op == 10 && v.export != nil:
		m.lose(name, v)
	case op == 11 && v.export == nil:
		m.say("delete %s", name)
		delete(m.volumes, name)
		m.call(&pending{
			repeat: func(c *catalog.Catalog) error { return c.DeleteVolume(m.ctx, ident.Volume(v.id)) },
			done:   m.check,
		})
	case op == 12 && s != nil:
		m.say("delete %s", snapName)
		delete(m.snapshots, snapName)
		m.call(&pending{
			repeat: func(c *catalog.Catalog) error { return c.DeleteSnapshot(m.ctx, ident.Snapshot(s.id)) },
			done:   m.check,
		})
	case op == 13:
		m.say("collect")
		m.call(&pending{
			repeat: func(c *catalog.Catalog) error { _, err := c.Collect(m.ctx, catalog.CollectOptions{}); return err },
			done:   m.check,
		})
		m.verify()
	case op == 14:
		m.say("sweep")
		m.call(&pending{
			repeat: func(c *catalog.Catalog) error { _, err := c.Sweep(m.ctx); return err },
			done:   m.check,
		})
		m.verify()
	case op == 18 && m.random.IntN(3) == 0:
		m.disaster()
	case op == 19:
		m.say("copy the authority")
		m.copy = m.authority.(*authoritytest.Memory).Copy()
	case op == 20:
		m.beginImport()
	case op == 21 || op == 22:
		m.importMore()
	case op == 23:
		m.endImport()
	case op == 24 && v.export != nil:
		m.reimage(v.export.node)
	case op >= 15 && len(m.pending) > 0:
		i := m.random.IntN(len(m.pending))
		p := m.pending[i]
		m.pending = slices.Delete(m.pending, i, i+1)
		m.say("repeat a call that died")
		m.call(p)
	}
}

// create makes a volume from source, or an empty one.
func (m *model) create(spec catalog.VolumeSpec, source *thing) {
	p := &pending{source: source}
	var v authority.Volume
	p.repeat = func(c *catalog.Catalog) (err error) {
		v, err = c.CreateVolume(m.ctx, spec)
		return err
	}
	p.done = func(err error) {
		if errors.Is(err, catalog.ErrLost) {
			m.say("  the cut was lost")
			return
		}
		if m.gone(err, source) {
			return
		}
		m.volumes[spec.Name] = &thing{id: string(v.ID), content: m.oneOf(spec.Name, v.Head, p.holds)}
	}
	m.call(p)
}

func (m *model) snap(name, volume string, v *thing) {
	m.say("snapshot %s of %s", name, volume)
	p := &pending{source: v}
	var s authority.Snapshot
	p.repeat = func(c *catalog.Catalog) (err error) {
		s, err = c.CreateSnapshot(m.ctx, name, ident.Volume(v.id))
		return err
	}
	p.done = func(err error) {
		if errors.Is(err, catalog.ErrLost) {
			m.say("  the cut was lost")
			list, _, err := m.authority.Snapshots().List(m.ctx, "", 1000)
			m.check(err)
			for _, row := range list {
				if row.Value.Name == name {
					m.check(m.DeleteSnapshot(m.ctx, row.Value.ID))
				}
			}
			return
		}
		if m.gone(err, v) {
			return
		}
		m.snapshots[name] = &thing{id: string(s.ID), content: m.oneOf(name, s.Root, p.holds)}
	}
	m.call(p)
}

// gone reports that a call failed as its source was deleted before it was
// repeated; it fails the test for any other error.
func (m *model) gone(err error, source *thing) bool {
	m.t.Helper()
	if err == nil {
		return false
	}
	live := false
	for _, all := range []map[string]*thing{m.volumes, m.snapshots} {
		for _, t := range all {
			live = live || t == source
		}
	}
	if !errors.Is(err, catalog.ErrNotFound) || live || source == nil {
		m.t.Fatalf("%v", err)
	}
	return true
}

// oneOf checks that a root holds one of the contents that it may hold.
func (m *model) oneOf(name string, r *authority.Root, want []content) content {
	m.t.Helper()
	have := m.content(r)
	if len(want) == 0 {
		want = []content{{}}
	}
	for _, w := range want {
		if maps.Equal(w, have) {
			return have
		}
	}
	m.t.Fatalf("%s holds %v, want one of %v", name, have, want)
	return nil
}

func (m *model) write(name string, v *thing) {
	if v.export == nil {
		m.say("attach %s", name)
		v.export = m.attach(ident.Volume(v.id), fmt.Sprintf("n%d", m.random.IntN(3)))
	}
	chunk, text := uint64(m.random.IntN(4)), fmt.Sprintf("%s %d", name, m.random.Uint32())
	m.say("write %q to chunk %d of %s", text, chunk, name)
	m.check(v.export.write(m.ctx, chunk, text))
	v.zombie = nil
	m.becomes(v, v.export.content)
	if m.random.IntN(2) == 0 {
		m.check(m.Published(m.ctx, v.export.report()))
	}
}

// becomes changes what a volume holds.
func (m *model) becomes(v *thing, holds content) {
	v.content = maps.Clone(holds)
	for _, p := range m.pending {
		if p.source == v {
			p.holds = append(p.holds, v.content)
		}
	}
}

// verify reads everything that is visible.
func (m *model) verify() {
	m.t.Helper()
	for name, v := range m.volumes {
		got, err := m.GetVolume(m.ctx, ident.Volume(v.id))
		m.check(err)
		head := got.Head
		if v.export != nil {
			head = v.export.head
		}
		m.oneOf(name, head, []content{v.content})
	}
	for name, s := range m.snapshots {
		got, err := m.GetSnapshot(m.ctx, ident.Snapshot(s.id))
		m.check(err)
		m.oneOf(name, got.Root, []content{s.content})
	}
}

// detachAll closes what is open, in an order that only the seed decides.
func (m *model) detachAll() {
	for _, name := range slices.Sorted(maps.Keys(m.volumes)) {
		if v := m.volumes[name]; v.export != nil {
			m.detach(v.export)
			v.export = nil
		}
	}
}

// end repeats some calls that died, leaves others for ever, and deletes all.
func (m *model) end() {
	for _, p := range m.pending {
		if m.random.IntN(2) == 0 {
			continue
		}
		m.say("repeat a call that died")
		p.done(p.repeat(m.Catalog))
	}
	m.abortImports()
	m.verify()
	m.sweep()
	m.verify()
	m.detachAll()
	m.later()
	m.sweep() // what is not repeated any more becomes a tombstone,
	m.sweep() // which begins a grace
	m.later()
	m.sweep()
	m.exorcise()
	m.later()
	m.collect()
	m.verify()
	m.lean()
	m.deleteAll()
	m.empty()
}
