package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// answers is a store whose answers to GETs a test may replace by an error.
type answers struct {
	swift.Store
	get func(name string, newest bool) error
}

func (s *answers) Get(ctx context.Context, container, name string, o swift.GetOptions) (swift.Object, error) {
	if err := s.get(name, o.Newest); err != nil {
		return swift.Object{}, err
	}
	return s.Store.Get(ctx, container, name, o)
}

// lost returns an attached volume that has published some generations, none of
// which the authority knows, and whose node is away; and what it holds.
func lost(w *world, published int) (*export, map[uint64]string) {
	e := w.attach(w.volume("pvc").ID, "n1")
	want := map[uint64]string{}
	for i := range uint64(published) {
		want[i] = fmt.Sprint("generation ", i+1)
		w.check(e.write(w.ctx, i, want[i]))
	}
	w.nodes.setDown("n1", true)
	return e, want
}

// TestSearchIsThorough: a root that is not seen at a first look, or behind one
// that is not seen, is found all the same (R6).
func TestSearchIsThorough(t *testing.T) {
	for what, hidden := range map[string]func(gen uint64, look int) bool{
		"replicas that are behind": func(_ uint64, look int) bool { return look < 2 },
		"a gap":                    func(gen uint64, _ int) bool { return gen <= 7 },
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			e, want := lost(w, 8)
			looks := map[string]int{}
			store := &answers{w.store, func(name string, newest bool) error {
				o, err := chunks.ParseName(name)
				if err != nil || o.Kind != chunks.KindRoot || !newest {
					return nil
				}
				if looks[name]++; hidden(o.Gen, looks[name]-1) {
					return swift.ErrNotFound
				}
				return nil
			}}
			w.check(w.controller(w.authority, store).Abandon(w.ctx, e.volume))
			v, err := w.GetVolume(w.ctx, e.volume)
			w.check(err)
			w.holds(v.Head, want)
		})
	}
}

// TestSearchBelievesOnlyAbsence: any answer but 404 ends the search, and the
// volume keeps its epoch (R6).
func TestSearchBelievesOnlyAbsence(t *testing.T) {
	w := newWorld(t)
	e, want := lost(w, 2)
	away := errors.New("503")
	store := &answers{w.store, func(name string, _ bool) error {
		if name == chunks.RootName(e.opening.Epoch, 2) {
			return away
		}
		return nil
	}}
	w.want(w.controller(w.authority, store).Abandon(w.ctx, e.volume), away)
	v, err := w.GetVolume(w.ctx, e.volume)
	w.check(err)
	if !v.Opening.Open || v.Binding == nil || v.Recovered != nil {
		t.Errorf("given up: %+v", v)
	}
	w.check(w.Abandon(w.ctx, e.volume))
	v, err = w.GetVolume(w.ctx, e.volume)
	w.check(err)
	w.holds(v.Head, want)
}

// TestSearchAdoptsNoOtherHistory: a root of the lost epoch whose parents do not
// lead to the recorded head is not adopted (R6).
func TestSearchAdoptsNoOtherHistory(t *testing.T) {
	w := newWorld(t)
	other := w.attach(w.volume("other").ID, "n2")
	w.check(other.write(w.ctx, 0, "of another volume"))
	for what, parent := range map[string]*authority.Root{"no parent": nil, "another volume's root": other.head} {
		e := w.attach(w.volume(what).ID, "n1")
		w.check(e.write(w.ctx, 0, "recorded"))
		w.detach(e)
		e = w.attach(e.volume, "n1")
		e.head = parent
		w.check(e.write(w.ctx, 0, "of another history"))
		w.nodes.setDown("n1", true)
		if err := w.Abandon(w.ctx, e.volume); err == nil {
			t.Errorf("%s: adopted", what)
		}
		w.nodes.setDown("n1", false)
	}
}

// TestNodeThatCannotHandOverIsWaitedFor: a node that answers, but cannot upload
// what it holds, keeps the volume (R6).
func TestNodeThatCannotHandOverIsWaitedFor(t *testing.T) {
	w := newWorld(t)
	e := w.attach(w.volume("pvc").ID, "n1")
	e.opening.Container += "-gone" // nothing can be put there
	err := w.Abandon(w.ctx, e.volume)
	if err == nil || errors.Is(err, catalog.ErrUnreachable) {
		t.Errorf("abandon: %v", err)
	}
	v, err := w.GetVolume(w.ctx, e.volume)
	w.check(err)
	if !v.Opening.Open || v.Opening.Lost || v.Binding == nil {
		t.Errorf("given up: %+v", v)
	}
	_, err = w.Publish(w.ctx, e.volume, "n2", catalog.Write)
	w.want(err, catalog.ErrInUse)
}
