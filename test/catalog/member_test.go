package catalog_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/volume"
)

// member is an attached volume of the family, and a witness of what was written to it.
type member struct {
	*volume.Volume
	world   *world
	id      ident.Volume
	node    string
	journal string
	random  *rand.Rand

	mu      sync.Mutex        // held by who writes, or wants nobody to
	start   sums              // what it was attached with
	touched map[uint64][]byte // chunks that were written since
	region  []uint64          // those that are
	writes  int
}

// attach publishes a volume to a node and opens it there, with a journal on disk.
// start is what it holds.
func (w *world) attach(id ident.Volume, start sums) *member {
	w.t.Helper()
	m := &member{
		world: w, id: id, node: "node-" + string(id[:8]), journal: string(ident.NewVolume()),
		random: rand.New(rand.NewPCG(w.random.Uint64(), 0)), start: start, touched: map[uint64][]byte{},
	}
	_, err := w.Publish(w.ctx, id, m.node, catalog.Write)
	w.check(err)
	o, err := w.Confirm(w.ctx, catalog.Confirmation{Volume: id, Node: m.node, Endpoint: m.node, Journal: m.journal})
	w.check(err)
	var head *snapshots.Root
	if o.Head != nil {
		ref := snapshots.Ref{Epoch: o.Head.Epoch, Gen: o.Head.Generation, Hash: snapshots.Hash(o.Head.Hash)}
		head, err = snapshots.LoadRoot(w.ctx, w.store, o.Head.Container, ref)
		w.check(err)
	}
	journal, err := delta.Create(
		delta.Config{Dir: filepath.Join(w.dir, m.journal), SegmentSize: 4 << 20, Quota: 256 << 20, AllowAnyFS: true},
		delta.Identity{Volume: id, Epoch: o.Epoch}, volume.InitialState(head, o.Size))
	w.check(err)
	m.Volume, err = volume.Open(w.ctx, volume.Config{
		Journal: journal, Store: w.store, Container: o.Container, Head: head, Size: o.Size, RPO: time.Second,
	})
	w.check(err)
	for range 4 { // few chunks, written often: patches, merges, whole chunks
		m.region = append(m.region, uint64(m.random.IntN(int(o.Size/chunks.Size))))
	}
	w.nodes.add(m)
	return m
}

// detach closes the volume in good order and returns what it holds.
func (m *member) detach() sums {
	w := m.world
	w.t.Helper()
	root, err := m.Close(w.ctx)
	w.check(err)
	w.nodes.remove(m)
	w.check(w.Closed(w.ctx, catalog.Report{Volume: m.id, Node: m.node, Journal: m.journal, Root: recorded(root)}))
	w.check(w.Unpublish(w.ctx, m.id, m.node))
	return m.holds()
}

func recorded(r *snapshots.Root) *authority.Root {
	return &authority.Root{Container: r.Container, Epoch: r.Ref.Epoch, Generation: r.Ref.Gen, Hash: authority.Hash(r.Ref.Hash)}
}

// write writes something somewhere in the region, or discards it.
func (m *member) write(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	chunk := m.region[m.random.IntN(len(m.region))]
	data := m.touched[chunk]
	if data == nil {
		data = make([]byte, chunks.Size)
		if err := m.ReadAt(ctx, data, int64(chunk)*chunks.Size); err != nil {
			return err
		}
		m.touched[chunk] = data
	}
	sectors := 1 + m.random.IntN(64)
	off := m.random.IntN(chunks.Size/chunks.Sector-sectors) * chunks.Sector
	part := data[off:][:sectors*chunks.Sector]
	m.writes++
	if m.random.IntN(6) == 0 {
		clear(part)
		return m.Discard(ctx, int64(chunk)*chunks.Size+int64(off), int64(len(part)))
	}
	for i := range part {
		part[i] = byte(m.random.Uint32())
	}
	return m.WriteAt(ctx, part, int64(chunk)*chunks.Size+int64(off), m.random.IntN(50) == 0)
}

// holds is what the volume holds; mu is held, or nobody writes.
func (m *member) holds() sums {
	s := maps.Clone(m.start)
	for chunk, data := range m.touched {
		s.set(chunk, data)
	}
	return s
}

// writeOn writes until stop is called, which returns how much was written. It never
// waits for Swift.
func (m *member) writeOn() (stop func() int) {
	ctx, cancel := context.WithCancel(m.world.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if err := m.write(context.WithoutCancel(ctx)); err != nil {
				m.world.t.Errorf("volume %s: %v", m.id, err)
				return
			}
			time.Sleep(time.Duration(m.random.IntN(60)) * time.Millisecond)
		}
	}()
	return func() int {
		cancel()
		<-done
		return m.writes
	}
}

// still calls f while nobody writes, and returns what the volume holds then.
func (m *member) still(f func()) sums {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
	return m.holds()
}

// cut publishes what the volume holds now.
func (m *member) cut() (*snapshots.Root, sums) {
	m.world.t.Helper()
	var gen uint64
	var err error
	holds := m.still(func() { gen, err = m.Seal(m.world.ctx, "") })
	m.world.check(err)
	root, err := m.Published(m.world.ctx, gen)
	m.world.check(err)
	return root, holds
}

// nodes are those that have a volume open, as the controller reaches them.
type nodes struct {
	mu      sync.Mutex
	members map[ident.Volume]*member
}

func (n *nodes) add(m *member) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.members[m.id] = m
}

func (n *nodes) remove(m *member) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.members, m.id)
}

func (n *nodes) find(endpoint string, v ident.Volume) (*member, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if m := n.members[v]; m != nil && m.node == endpoint {
		return m, nil
	}
	return nil, fmt.Errorf("node %s: %w", endpoint, catalog.ErrUnreachable)
}

// Seal implements [catalog.Nodes].
func (n *nodes) Seal(ctx context.Context, endpoint string, v ident.Volume, s ident.Snapshot) (catalog.Cut, error) {
	m, err := n.find(endpoint, v)
	if err != nil {
		return catalog.Cut{}, err
	}
	gen, err := m.Volume.Seal(ctx, s)
	if err != nil {
		return catalog.Cut{}, err
	}
	root, err := m.Published(ctx, gen)
	if err != nil {
		return catalog.Cut{}, err
	}
	return catalog.Cut{Root: *recorded(root), Size: root.State.Size}, nil
}

// Handover implements [catalog.Nodes]: nobody gives these nodes up.
func (n *nodes) Handover(_ context.Context, endpoint string, v ident.Volume) error {
	return fmt.Errorf("node %s is not to hand over volume %s", endpoint, v)
}

// Modify implements [catalog.Nodes].
func (n *nodes) Modify(_ context.Context, endpoint string, v ident.Volume, _ map[string]string) error {
	_, err := n.find(endpoint, v)
	return err
}
