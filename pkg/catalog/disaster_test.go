package catalog_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// disaster loses the authority, or puts an old copy of it back, and recovers it, by
// controllers that may die.
func (m *model) disaster() {
	if m.copy != nil && m.random.IntN(2) == 0 {
		m.say("put an old copy of the authority back")
		m.replaceAuthority(m.copy.Copy())
		m.unaware()
	} else {
		m.say("lose the authority")
		m.loseAuthority()
	}
	for range 3 {
		dying, crash := m.dying(m.random.IntN(60), m.random.IntN(2) == 0)
		if _, err := dying.Recover(m.ctx, catalog.RecoverOptions{Workers: 1}); err != nil && !crash.Happened() {
			m.t.Fatalf("recover: %v", err)
		}
	}
	m.pending = slices.DeleteFunc(m.pending, func(p *pending) bool { return p.mortal })
	found := m.recover()
	m.abortImports() // nobody goes on with them
	m.removeIncomplete(found)
	for _, f := range found {
		if f.Outcome == catalog.Missing {
			m.say("  volume %s of the copy was deleted since", f.Volume)
			m.check(m.DeleteVolume(m.ctx, f.Volume))
		}
	}
	m.deleteAgain()
	m.sweep() // with the pins of those that are missing
	for _, name := range slices.Sorted(maps.Keys(m.volumes)) {
		m.reconnect(name, m.volumes[name])
	}
	m.verify()
}

// deleteAgain deletes what was deleted before, and has come back.
func (m *model) deleteAgain() {
	known := map[string]bool{}
	for _, all := range []map[string]*thing{m.volumes, m.snapshots} {
		for _, t := range all {
			known[t.id] = true
		}
	}
	volumes, _, err := m.ListVolumes(m.ctx, "", 1000)
	m.check(err)
	for _, v := range volumes {
		if !known[string(v.ID)] {
			m.check(m.Abandon(m.ctx, v.ID))
			m.check(m.DeleteVolume(m.ctx, v.ID))
		}
	}
	list, _, err := m.ListSnapshots(m.ctx, "", "", 1000)
	m.check(err)
	for _, s := range list {
		if !known[string(s.ID)] {
			m.check(m.DeleteSnapshot(m.ctx, s.ID))
		}
	}
}

// unaware lets a controller work on an old copy before anybody has noticed: it must
// notice itself.
func (m *model) unaware() {
	accept := func(what string, err error) {
		if err != nil && !errors.Is(err, catalog.ErrRolledBack) && !errors.Is(err, swift.ErrNotFound) {
			m.t.Fatalf("%s by an old copy: %v", what, err)
		}
	}
	if m.random.IntN(2) == 0 {
		_, err := m.Sweep(m.ctx)
		accept("sweep", err)
	}
	if m.random.IntN(2) == 0 {
		_, err := m.Collect(m.ctx, catalog.CollectOptions{})
		accept("collect", err)
	}
}

// reconnect finds out whether a volume is still attached after a recovery. A node
// that was fenced may not have noticed yet: it writes once more. While nobody has
// published anything later, that is a state of the volume that existed, and the next
// recovery cannot tell.
func (m *model) reconnect(name string, v *thing) {
	got, err := m.GetVolume(m.ctx, ident.Volume(v.id))
	m.check(err)
	if v.zombie != nil && maps.Equal(m.content(got.Head), v.zombie) {
		m.say("  %s is as its fenced node has left it", name)
		m.becomes(v, v.zombie)
	}
	if v.export != nil && got.Opening.Open && got.Opening.Journal == v.export.journal {
		return
	}
	if v.export != nil {
		m.haunt(name, v, v.export)
	}
	v.export = nil
	m.check(m.Abandon(m.ctx, ident.Volume(v.id)))
}

// haunt lets a node that was fenced write once more, or not.
func (m *model) haunt(name string, v *thing, e *export) {
	if m.random.IntN(2) == 0 {
		return
	}
	m.say("  the fenced node of %s writes", name)
	m.check(e.write(m.ctx, uint64(m.random.IntN(4)), fmt.Sprintf("zombie %d", m.random.Uint32())))
	v.haunted, v.zombie = true, maps.Clone(e.content)
	m.haunted = append(m.haunted, ident.Volume(v.id))
}

// exorcise gives each volume that a fenced node has written to a later epoch: until
// then a collection cannot tell what the node wrote from what will be adopted. One
// whose deletion died, and was not repeated, is deleted.
func (m *model) exorcise() {
	for _, id := range m.haunted {
		if !slices.ContainsFunc(slices.Collect(maps.Values(m.volumes)), func(v *thing) bool { return v.id == string(id) }) {
			m.check(m.DeleteVolume(m.ctx, id))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.volumes)) {
		if v := m.volumes[name]; v.haunted {
			m.write(name, v)
			m.detach(v.export)
			v.export = nil
		}
	}
}
