package catalog_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// importing is an import under way, in an importer's mind.
type importing struct {
	name    string
	begun   catalog.Import
	open    ident.Open // of the attempt under way
	entries map[uint64]snapshots.Entry
	content content
}

func newImporting(name string, begun catalog.Import) *importing {
	return &importing{name: name, begun: begun, open: ident.NewOpen(), entries: map[uint64]snapshots.Entry{}, content: content{}}
}

func (i *importing) origin() snapshots.Origin {
	return snapshots.Origin{Container: i.begun.Container, Epoch: i.begun.Epoch, Open: i.open}
}

// put stores a chunk. An importer that begins anew draws another opening, and uses
// what is stored.
func (i *importing) put(w *world, chunk uint64, text string) {
	w.t.Helper()
	if _, ok := i.content[chunk]; ok {
		i.open = ident.NewOpen()
	}
	entry := snapshots.Entry{Base: snapshots.ChunkRef{Origin: i.origin(), Gen: 1}}
	at := entry.Base.Location(chunk)
	_, err := w.store.Put(w.ctx, at.Container, at.Name, []byte(text), swift.PutOptions{})
	w.check(err)
	i.entries[chunk], i.content[chunk] = entry, text
}

// publish puts the root.
func (i *importing) publish(w *world) *authority.Root {
	w.t.Helper()
	update, err := snapshots.BlankTable().Update(w.ctx, snapshots.Change{
		Origin: i.origin(), Gen: 1, Entries: i.entries,
		State: snapshots.State{Size: i.begun.Size, Clean: true, Sealed: time.UnixMilli(1).UTC()},
	})
	w.check(err)
	for _, o := range append(update.Pages, update.RootObject) {
		_, err := w.store.Put(w.ctx, o.Container, o.Name, o.Body, swift.PutOptions{IfNoneMatch: true})
		w.check(err)
	}
	ref := update.Root.Ref
	return &authority.Root{Container: update.Root.Container, Epoch: ref.Epoch, Generation: ref.Gen, Hash: authority.Hash(ref.Hash)}
}

// TestImportTakesItsTime: an import that takes many graces, and longer than any call
// may stay unfinished, keeps all that it has stored.
func TestImportTakesItsTime(t *testing.T) {
	w := newWorld(t)
	begun, err := w.BeginImport(w.ctx, catalog.VolumeSpec{Name: "image", Required: 64 * mib})
	w.check(err)
	i := newImporting("image", begun)
	for chunk := range uint64(4) {
		i.put(w, chunk, fmt.Sprint(chunk))
		w.later()
		w.sweep()
		w.collect()
	}
	root := i.publish(w)
	w.later()
	w.sweep()
	w.collect()
	v, err := w.CompleteImport(w.ctx, begun.Volume, root)
	w.check(err)
	w.later()
	w.collect()
	w.holds(v.Head, i.content)
	w.deleteAll()
	w.empty()
}

// beginImport begins one that later steps go on with.
func (m *model) beginImport() {
	name := m.name("image")
	m.say("begin to import %s", name)
	var begun catalog.Import
	m.call(&pending{
		repeat: func(c *catalog.Catalog) (err error) {
			begun, err = c.BeginImport(m.ctx, catalog.VolumeSpec{Name: name, Required: 64 * mib})
			return err
		},
		done: func(err error) {
			m.check(err)
			m.imports[name] = newImporting(name, begun)
		},
	})
}

// importMore lets an importer store another chunk.
func (m *model) importMore() {
	if name, i := pick(m, m.imports); i != nil {
		chunk := uint64(m.random.IntN(4))
		m.say("import chunk %d of %s", chunk, name)
		i.put(m.world, chunk, fmt.Sprintf("%s %d", name, m.random.Uint32()))
	}
}

// endImport completes an import, or gives it up.
func (m *model) endImport() {
	name, i := pick(m, m.imports)
	if i == nil {
		return
	}
	delete(m.imports, name)
	if m.random.IntN(3) == 0 {
		m.say("abort the import of %s", name)
		m.call(&pending{
			repeat: func(c *catalog.Catalog) error { return c.AbortImport(m.ctx, i.begun.Volume) },
			done:   m.check,
		})
		return
	}
	m.say("complete the import of %s", name)
	var root *authority.Root
	if len(i.entries) > 0 {
		root = i.publish(m.world)
	}
	var v authority.Volume
	m.call(&pending{
		mortal: true,
		repeat: func(c *catalog.Catalog) (err error) {
			v, err = c.CompleteImport(m.ctx, i.begun.Volume, root)
			return err
		},
		done: func(err error) {
			m.check(err)
			m.volumes[name] = &thing{id: string(v.ID), content: m.oneOf(name, v.Head, []content{i.content})}
		},
	})
}

// abortImports gives up all that nobody will go on with, as an administrator does.
func (m *model) abortImports() {
	clear(m.imports)
	for row, err := range authority.All(m.ctx, m.authority.Volumes()) {
		m.check(err)
		if row.Value.State == authority.Importing {
			m.say("abort the import of %s", row.Value.Name)
			m.check(m.AbortImport(m.ctx, row.Value.ID))
		}
	}
}

// lose takes a volume from a node that does not answer, and which may wake up later.
func (m *model) lose(name string, v *thing) {
	m.say("lose the node of %s", name)
	e := v.export
	m.nodes.setDown(e.node, true)
	m.check(m.Abandon(m.ctx, ident.Volume(v.id)))
	m.nodes.setDown(e.node, false)
	v.export = nil
	m.haunt(name, v, e)
}

// reimage replaces the disk of a node, which goes on answering: it has none of its
// journals any more. Unless it was given up, nobody takes its volumes; a journal that it
// makes anew gets an epoch of its own.
func (m *model) reimage(node string) {
	m.say("re-image %s", node)
	m.nodes.setEmpty(node, true)
	for _, name := range slices.Sorted(maps.Keys(m.volumes)) {
		v := m.volumes[name]
		if v.export == nil || v.export.node != node {
			continue
		}
		id := ident.Volume(v.id)
		if err := m.Reclaim(m.ctx, id, "", false); !errors.Is(err, catalog.ErrUnreachable) {
			m.t.Fatalf("a node that was not given up lost %s: %v", name, err)
		}
		if m.random.IntN(2) == 0 {
			m.say("  %s is taken from it", name)
			m.check(m.Abandon(m.ctx, id))
			v.export = nil
			continue
		}
		m.say("  %s is opened there again", name)
		e, err := m.nodes.open(m.ctx, m.Catalog, id, node, string(ident.NewVolume()))
		m.check(err)
		if before := v.export.opening.Epoch.Number; e.opening.Epoch.Number != before+1 || !maps.Equal(e.content, v.content) {
			m.t.Fatalf("%s: epoch %d after %d, with %v, want %v", name, e.opening.Epoch.Number, before, e.content, v.content)
		}
		v.export = e
	}
}
