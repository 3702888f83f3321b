package catalog_test

import (
	"context"
	"strings"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// cuts are the calls that take a cut of a volume, each under one name; they return the cut.
var cuts = map[string]func(c *catalog.Catalog, ctx context.Context, v ident.Volume) (*authority.Root, error){
	"snapshot": func(c *catalog.Catalog, ctx context.Context, v ident.Volume) (*authority.Root, error) {
		s, err := c.CreateSnapshot(ctx, "snap", v)
		return s.Root, err
	},
	"clone": func(c *catalog.Catalog, ctx context.Context, v ident.Volume) (*authority.Root, error) {
		child, err := c.CreateVolume(ctx, from("clone", v))
		return child.Head, err
	},
}

// TestCutThatItsNodeHasForgotten: the answer of the node was lost, and it has forgotten the
// cut since, as its process was started again and went on. The object s/<id> tells of the
// cut: a repetition asks for that before it has the volume sealed.
func TestCutThatItsNodeHasForgotten(t *testing.T) {
	for what, cut := range cuts {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			e := w.attach(w.volume("pvc").ID, "n1")
			w.check(e.write(w.ctx, 0, "cut"))
			w.nodes.sealed = func() { w.nodes.setDown("n1", true) }
			_, err := cut(w.Catalog, w.ctx, e.volume)
			w.want(err, catalog.ErrUnreachable)
			w.nodes.sealed = nil
			w.nodes.setDown("n1", false)
			clear(e.cuts)
			w.check(e.write(w.ctx, 0, "later"))
			for range 2 {
				start, err := cut(w.Catalog, w.ctx, e.volume)
				w.check(err)
				w.holds(start, map[uint64]string{0: "cut"})
			}
			if len(e.cuts) > 0 {
				t.Error("the volume was sealed again")
			}
		})
	}
}

// TestCutWhileSwiftDoesNotAnswer: the volume is cut when the call arrives, also where the
// look for an earlier cut gets no answer.
func TestCutWhileSwiftDoesNotAnswer(t *testing.T) {
	for what, cut := range cuts {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			e := w.attach(w.volume("pvc").ID, "n1")
			w.check(e.write(w.ctx, 0, "cut"))
			start, err := cut(w.controller(w.authority, &silent{Store: w.store}), w.ctx, e.volume)
			w.check(err)
			w.holds(start, map[uint64]string{0: "cut"})
		})
	}
}

// silent is a store that does not answer who first asks for the cut of a snapshot.
type silent struct {
	swift.Store
	asked bool
}

func (s *silent) Get(ctx context.Context, container, name string, o swift.GetOptions) (swift.Object, error) {
	if strings.HasPrefix(name, chunks.SnapshotPrefix) && !s.asked {
		s.asked = true
		<-ctx.Done()
		return swift.Object{}, ctx.Err()
	}
	return s.Store.Get(ctx, container, name, o)
}
