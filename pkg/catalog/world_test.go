package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/authority/authoritytest"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/swifttest"
)

const (
	prefix  = "test_"
	cluster = "cluster-a"
	mib     = 1 << 20
)

// world is a store, an authority, nodes, and a controller. The nodes write roots
// as exports do, with a line of text for each chunk, and have no journals.
type world struct {
	*catalog.Catalog
	t         *testing.T
	ctx       context.Context
	store     swift.Store
	prefix    string // of the containers
	authority authority.Authority
	nodes     *nodes
	clock     func() time.Time
	grace     time.Duration
	date      func(context.Context) (time.Time, error) // the store's; nil: it goes with clock
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOn(t, swifttest.NewStore(t))
}

// newWorldOn returns a world on a store that others may use as well.
func newWorldOn(t *testing.T, store swift.Store) *world {
	t.Helper()
	a := &authoritytest.Memory{}
	w := &world{t: t, ctx: t.Context(), store: store, authority: a, clock: time.Now}
	w.prefix = fmt.Sprintf("%s%016x_", prefix, ident.Random64())
	w.nodes = &nodes{world: w, exports: map[string]*export{}}
	w.Catalog = w.controller(a, w.store)
	return w
}

// controller returns another controller of the same world.
func (w *world) controller(a authority.Authority, store swift.Store) *catalog.Catalog {
	return catalog.New(catalog.Config{
		Authority: a, Store: store, Prefix: w.prefix, Cluster: cluster, Nodes: w.nodes,
		Patience: time.Minute, Unfinished: 30 * time.Minute, SearchPause: time.Millisecond,
		Grace: w.grace, LostKept: 30 * time.Minute,
		Now: func() time.Time { return w.clock() }, Date: w.date,
	})
}

// dying returns a controller that dies in its n-th step.
func (w *world) dying(n int, after bool) (*catalog.Catalog, *authoritytest.Crash) {
	crash := authoritytest.NewCrash(n, after)
	return w.guarded(crash), crash
}

// guarded returns a controller whose calls pass through a gate.
func (w *world) guarded(gate authoritytest.Gate) *catalog.Catalog {
	return w.controller(authoritytest.Guard(w.authority, gate), &guardedStore{w.store, gate})
}

// later moves the clock past every patience.
func (w *world) later() {
	now := w.clock
	w.clock = func() time.Time { return now().Add(time.Hour) }
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// want checks that err is a certain one.
func (w *world) want(err, target error) {
	w.t.Helper()
	if !errors.Is(err, target) {
		w.t.Fatalf("error %v, want %v", err, target)
	}
}

func (w *world) volume(name string) authority.Volume {
	w.t.Helper()
	v, err := w.CreateVolume(w.ctx, catalog.VolumeSpec{Name: name, Required: 64 * mib})
	w.check(err)
	return v
}

// from is the spec of a volume from a snapshot or a volume.
func from[ID ident.Volume | ident.Snapshot](name string, id ID) catalog.VolumeSpec {
	o := &authority.Origin{}
	switch id := any(id).(type) {
	case ident.Volume:
		o.Volume = id
	case ident.Snapshot:
		o.Snapshot = id
	}
	return catalog.VolumeSpec{Name: name, Source: o}
}

func (w *world) clone(spec catalog.VolumeSpec) authority.Volume {
	w.t.Helper()
	v, err := w.CreateVolume(w.ctx, spec)
	w.check(err)
	return v
}

func (w *world) snapshot(name string, v ident.Volume) authority.Snapshot {
	w.t.Helper()
	s, err := w.CreateSnapshot(w.ctx, name, v)
	w.check(err)
	return s
}

// attach publishes a volume to a node and opens it there.
func (w *world) attach(id ident.Volume, node string) *export {
	w.t.Helper()
	_, err := w.Publish(w.ctx, id, node, catalog.Write)
	w.check(err)
	e, err := w.nodes.open(w.ctx, w.Catalog, id, node, string(ident.NewVolume()))
	w.check(err)
	return e
}

// detach closes a volume in good order.
func (w *world) detach(e *export) {
	w.t.Helper()
	w.check(e.close(w.ctx, w.Catalog))
	w.check(w.Unpublish(w.ctx, e.volume, e.node))
}

// content reads everything that a root reaches, checking that it is all there.
func (w *world) content(r *authority.Root) map[uint64]string {
	w.t.Helper()
	content := map[uint64]string{}
	if r == nil {
		return content
	}
	ref := snapshots.Ref{Epoch: r.Epoch, Gen: r.Generation, Hash: snapshots.Hash(r.Hash)}
	loaded, err := snapshots.LoadRoot(w.ctx, w.store, r.Container, ref)
	w.check(err)
	for entry, err := range snapshots.OpenTable(w.store, loaded).Entries(w.ctx) {
		w.check(err)
		at := entry.Base.Location(entry.Chunk)
		o, err := w.store.Get(w.ctx, at.Container, at.Name, swift.GetOptions{Newest: true})
		w.check(err)
		content[entry.Chunk] = string(o.Body)
	}
	return content
}

// holds checks a root's content.
func (w *world) holds(r *authority.Root, want map[uint64]string) {
	w.t.Helper()
	if have := w.content(r); !maps.Equal(have, want) {
		w.t.Fatalf("content %v, want %v", have, want)
	}
}

func (w *world) sweep() {
	w.t.Helper()
	_, err := w.Sweep(w.ctx)
	w.check(err)
}

// containers lists the volumes' containers.
func (w *world) containers() []string {
	w.t.Helper()
	names, err := w.store.Containers(w.ctx, w.prefix, "", 0)
	w.check(err)
	return names
}

// empty checks that a sweep leaves nothing at all.
func (w *world) empty() {
	w.t.Helper()
	w.sweep() // the grace begins
	w.later()
	w.sweep()
	w.sweep() // what the first one found dead
	rows(w, w.authority.Volumes(), 0)
	rows(w, w.authority.Snapshots(), 0)
	rows(w, w.authority.Claims(), 0)
	rows(w, w.authority.Pins(), 0)
	if left := w.containers(); len(left) > 0 {
		w.t.Fatalf("containers left: %v", left)
	}
}

// rows checks how many records a table has.
func rows[T any](w *world, table authority.Table[T], want int) {
	w.t.Helper()
	list, _, err := table.List(w.ctx, authority.Beginning, 1000)
	w.check(err)
	if len(list) != want {
		w.t.Fatalf("%d records, want %d: %+v", len(list), want, list)
	}
}

// nodes plays the export processes; an endpoint is a node's name.
type nodes struct {
	world   *world
	mu      sync.Mutex
	exports map[string]*export // by node and volume
	down    map[string]bool
	// sealing and sealed, if set, happen when a node is asked to seal: before it
	// does, and before its answer goes out.
	sealing, sealed func()
}

// export is one life of a journal.
type export struct {
	store   swift.Store
	node    string
	volume  ident.Volume
	journal string
	opening catalog.Opening
	opened  ident.Open
	empty   bool // the journal is not there any more

	mu      sync.Mutex // one generation at a time
	table   *snapshots.Table
	head    *authority.Root
	size    int64
	gen     uint64
	clean   bool              // it is being closed
	content map[uint64]string // as of the newest root
	cuts    map[ident.Snapshot]catalog.Cut
}

func (n *nodes) open(ctx context.Context, c *catalog.Catalog, id ident.Volume, node, journal string) (*export, error) {
	o, err := c.Confirm(ctx, catalog.Confirmation{Volume: id, Node: node, Endpoint: node, Journal: journal})
	if err != nil {
		return nil, err
	}
	e := &export{
		store: n.world.store, node: node, volume: id, journal: journal, opening: o, opened: ident.NewOpen(),
		table: snapshots.BlankTable(), head: o.Head, size: o.Size,
		content: n.world.content(o.Head), cuts: map[ident.Snapshot]catalog.Cut{},
	}
	if o.Head != nil {
		ref := snapshots.Ref{Epoch: o.Head.Epoch, Gen: o.Head.Generation, Hash: snapshots.Hash(o.Head.Hash)}
		root, err := snapshots.LoadRoot(ctx, e.store, o.Head.Container, ref)
		if err != nil {
			return nil, err
		}
		e.table = snapshots.OpenTable(e.store, root)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.exports[node+"/"+string(id)] = e
	return e, nil
}

// write publishes a generation in which a chunk has a new content.
func (e *export) write(ctx context.Context, chunk uint64, text string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	origin := snapshots.Origin{Container: e.opening.Container, Epoch: e.opening.Epoch, Open: e.opened}
	entry := snapshots.Entry{Base: snapshots.ChunkRef{Origin: origin, Gen: e.gen + 1}}
	at := entry.Base.Location(chunk)
	if _, err := e.store.Put(ctx, at.Container, at.Name, []byte(text), swift.PutOptions{}); err != nil {
		return err
	}
	if err := e.publish(ctx, "", map[uint64]snapshots.Entry{chunk: entry}); err != nil {
		return err
	}
	e.content[chunk] = text
	return nil
}

// publish puts the root of the next generation. The caller holds mu.
func (e *export) publish(ctx context.Context, s ident.Snapshot, entries map[uint64]snapshots.Entry) error {
	change := snapshots.Change{
		Origin:   snapshots.Origin{Container: e.opening.Container, Epoch: e.opening.Epoch, Open: e.opened},
		Gen:      e.gen + 1,
		State:    snapshots.State{Size: e.size, Clean: e.clean, Sealed: time.UnixMilli(int64(e.gen)).UTC()},
		Snapshot: s, Entries: entries,
	}
	if e.head != nil {
		change.Parent = snapshots.Parent{Container: e.head.Container, Ref: snapshots.Ref{
			Epoch: e.head.Epoch, Gen: e.head.Generation, Hash: snapshots.Hash(e.head.Hash),
		}}
	}
	update, err := e.table.Update(ctx, change)
	if err != nil {
		return err
	}
	for _, o := range append(update.Pages, update.RootObject) {
		if _, err := e.store.Put(ctx, o.Container, o.Name, o.Body, swift.PutOptions{IfNoneMatch: true}); err != nil {
			return err
		}
	}
	ref := update.Root.Ref
	if s != "" {
		record := snapshots.Record{
			ID: s, Source: e.volume, Container: update.Root.Container, Root: ref, Size: e.size, Created: change.State.Sealed,
		}
		if err := snapshots.PutRecord(ctx, e.store, update.Root.Container, record); err != nil {
			return err
		}
	}
	e.gen, e.table = ref.Gen, snapshots.OpenTable(e.store, update.Root)
	e.head = &authority.Root{Container: update.Root.Container, Epoch: ref.Epoch, Generation: ref.Gen, Hash: authority.Hash(ref.Hash)}
	return nil
}

func (e *export) report() catalog.Report {
	r := catalog.Report{Volume: e.volume, Node: e.node, Journal: e.journal}
	if e.gen > 0 {
		r.Root = e.head
	}
	return r
}

func (e *export) close(ctx context.Context, c *catalog.Catalog) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.clean = true
	if err := e.publish(ctx, "", nil); err != nil {
		return err
	}
	return c.Closed(ctx, e.report())
}

func (n *nodes) find(endpoint string, v ident.Volume) (*export, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	e := n.exports[endpoint+"/"+string(v)]
	if n.down[endpoint] || e == nil {
		return nil, fmt.Errorf("node %s: %w", endpoint, catalog.ErrUnreachable)
	}
	return e, nil
}

// Seal implements [catalog.Nodes].
func (n *nodes) Seal(ctx context.Context, endpoint string, v ident.Volume, s ident.Snapshot) (catalog.Cut, error) {
	e, err := n.find(endpoint, v)
	if err != nil {
		return catalog.Cut{}, err
	}
	if n.sealing != nil {
		n.sealing()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if cut, ok := e.cuts[s]; ok {
		return cut, nil
	}
	if err := e.publish(ctx, s, nil); err != nil {
		return catalog.Cut{}, err
	}
	e.cuts[s] = catalog.Cut{Root: *e.head, Size: e.size}
	if n.sealed != nil {
		n.sealed()
		_, err = n.find(endpoint, v)
	}
	return e.cuts[s], err
}

// Modify implements [catalog.Nodes].
func (n *nodes) Modify(_ context.Context, endpoint string, v ident.Volume, parameters map[string]string) error {
	e, err := n.find(endpoint, v)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.opening.Parameters = parameters
	return nil
}

// Handover implements [catalog.Nodes].
func (n *nodes) Handover(ctx context.Context, endpoint string, v ident.Volume) error {
	e, err := n.find(endpoint, v)
	if err != nil {
		return err
	}
	if e.empty {
		return nil // as by a node whose disk was replaced
	}
	return e.close(ctx, n.world.Catalog)
}

// setEmpty takes the journals from a node, which goes on answering.
func (n *nodes) setEmpty(node string, empty bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range n.exports {
		if e.node == node {
			e.empty = empty
		}
	}
}

func (n *nodes) setDown(node string, down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = map[string]bool{node: down}
}
