package catalog_test

import (
	"reflect"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/authority/authoritytest"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// Keys of a class: what volumes are made with, and what they are rewrapped by.
var (
	former  = keys.Class{Secret: keys.Secret{1}}
	present = keys.Class{Secret: keys.Secret{2}}
)

func (w *world) encrypted(name string) authority.Volume {
	w.t.Helper()
	return w.clone(catalog.VolumeSpec{Name: name, Required: 64 * mib, Keys: keys.Ring{former}})
}

func prepareEncrypted(w *world, f *fixture) {
	f.child = w.encrypted("child " + f.name)
	f.encrypted, f.secrets = f.child.ID, w.unwrapped(f.child, former)
}

// unwrapped returns the keys of a volume, which a key of a class wraps.
func (w *world) unwrapped(v authority.Volume, by keys.Class) keys.Set {
	w.t.Helper()
	set, err := keys.Ring{by}.Unwrap(string(v.ID), v.Keys)
	w.check(err)
	return set
}

func rewrap(c *catalog.Catalog, w *world, f *fixture) error {
	return c.Rewrap(w.ctx, f.encrypted, keys.Ring{former, present}.Unwrap, present)
}

func rewrapBack(c *catalog.Catalog, w *world, f *fixture) error {
	if err := rewrap(c, w, f); err != nil {
		return err
	}
	return c.Rewrap(w.ctx, f.encrypted, keys.Ring{present}.Unwrap, former)
}

// rewrapHalf announces a wrapping and puts its descriptor, and dies.
func rewrapHalf(_ *catalog.Catalog, w *world, f *fixture) error {
	dying, _ := w.dying(1, true)
	w.want(rewrap(dying, w, f), authoritytest.ErrCrashed)
	return nil
}

// rewrapHalfBack is rewrapBack by a controller that dies on the way back, when it has put the
// descriptor.
func rewrapHalfBack(c *catalog.Catalog, w *world, f *fixture) error {
	if err := rewrap(c, w, f); err != nil {
		return err
	}
	dying, _ := w.dying(1, true)
	w.want(dying.Rewrap(w.ctx, f.encrypted, keys.Ring{present}.Unwrap, former), authoritytest.ErrCrashed)
	return nil
}

// open gives the volume an epoch, and the node that has it closes it.
func open(c *catalog.Catalog, w *world, f *fixture) error {
	if _, err := c.Publish(w.ctx, f.encrypted, "n1", catalog.Write); err != nil {
		return err
	}
	e, err := w.nodes.open(w.ctx, c, f.encrypted, "n1", "journal of "+f.name)
	if err == nil {
		w.detach(e)
	}
	return err
}

// rewrapped checks that the keys are the same, wrapped by the present one of the class with
// one more descriptor.
func rewrapped(w *world, f *fixture) {
	w.t.Helper()
	if v := w.presentOnly(f); v.Descriptor != 2 {
		w.t.Errorf("there are %d descriptors", v.Descriptor)
	}
}

func presentOnly(w *world, f *fixture) { w.presentOnly(f) }

// presentOnly checks the keys, and that the volume, whose record it returns, can be erased.
func (w *world) presentOnly(f *fixture) authority.Volume {
	w.t.Helper()
	v := w.record(f.encrypted)
	if set := w.unwrapped(v, present); !reflect.DeepEqual(set, f.secrets) || v.Rewrapping != nil {
		w.t.Errorf("the keys of the volume were exchanged, or %+v is left", v.Rewrapping)
	}
	w.check(w.Unpublish(w.ctx, f.encrypted, "n1"))
	w.check(w.DeleteVolume(w.ctx, f.encrypted))
	f.child.ID = ""
	return v
}

// TestRewrapped: what is needed of a volume, its snapshot and Swift alone opens with the
// present key of the class only.
func TestRewrapped(t *testing.T) {
	w := newWorld(t)
	v := w.encrypted("source")
	set := w.unwrapped(v, former)
	e := w.attach(v.ID, "n1")
	w.check(e.write(w.ctx, 0, "a"))
	s := w.snapshot("snap", v.ID)
	copied := w.authority.(*authoritytest.Memory).Copy()

	unwrap := keys.Ring{former}.Unwrap
	w.want(w.Rewrap(w.ctx, v.ID, keys.Ring{present}.Unwrap, present), keys.ErrNoKey)
	w.want(w.Rewrap(w.ctx, ident.NewVolume(), unwrap, present), catalog.ErrNotFound)
	w.check(w.Rewrap(w.ctx, w.volume("plain").ID, unwrap, present))
	filling, err := w.BeginImport(w.ctx, catalog.VolumeSpec{Name: "image", Required: mib, Keys: keys.Ring{former}})
	w.check(err)
	w.want(w.Rewrap(w.ctx, filling.Volume, unwrap, present), catalog.ErrBusy)
	for range 2 { // the second time nothing is opened
		w.check(w.Rewrap(w.ctx, v.ID, unwrap, present))
		unwrap = func(string, *keys.Wrapped) (keys.Set, error) { return keys.Set{}, keys.ErrNoKey }
	}
	w.check(e.write(w.ctx, 1, "b")) // its node has noticed nothing
	w.detach(e)

	restore := from("restored", s.ID)
	restore.Keys = keys.Ring{former}
	_, err = w.CreateVolume(w.ctx, restore)
	w.want(err, catalog.ErrInvalid)
	restore.Keys = keys.Ring{present}
	child := w.unwrapped(w.clone(restore), present)
	if child.Secrets[set.Own] != set.Secret() {
		t.Error("what was restored does not have the keys of its source")
	}

	// A deleted volume goes on to wrap the keys of its snapshots.
	w.check(w.DeleteVolume(w.ctx, v.ID))
	w.check(w.Rewrap(w.ctx, v.ID, keys.Ring{present}.Unwrap, former))
	restore.Name, restore.Keys = "restored again", keys.Ring{former}
	_, err = w.CreateVolume(w.ctx, restore)
	w.check(err)

	w.loseAuthority()
	w.recover()
	if got := w.unwrapped(w.record(v.ID), former); !reflect.DeepEqual(got, set) {
		t.Error("recovered with other keys")
	}
	w.replaceAuthority(copied)
	w.want(w.Rewrap(w.ctx, v.ID, keys.Ring{former}.Unwrap, present), catalog.ErrRolledBack)
}

// TestRewrapBesideAnotherDescriptor: a descriptor that another authority has put where a
// wrapping is announced is not adopted, not even when the one before it has been erased.
func TestRewrapBesideAnotherDescriptor(t *testing.T) {
	w, f := newWorld(t), &fixture{}
	prepareEncrypted(w, f)
	dying, _ := w.dying(0, true)
	w.want(rewrap(dying, w, f), authoritytest.ErrCrashed)
	first, err := w.store.Get(w.ctx, f.child.Container, chunks.DescriptorName(1), swift.GetOptions{})
	w.check(err)
	_, err = w.store.Put(w.ctx, f.child.Container, chunks.DescriptorName(2), first.Body, swift.PutOptions{})
	w.check(err)
	w.want(rewrap(w.Catalog, w, f), catalog.ErrRolledBack)
	w.check(w.store.Delete(w.ctx, f.child.Container, chunks.DescriptorName(1)))
	w.want(rewrap(w.Catalog, w, f), catalog.ErrBusy)
	if v := w.record(f.encrypted); v.Descriptor != 1 || v.Rewrapping == nil || v.Keys.By != former.Name() {
		t.Errorf("adopted: %+v", v)
	}
}

// TestRewrapGoesOn: a rewrapping that died after it had put the descriptor is continued, and
// until then the volume is used and recovered as ever.
func TestRewrapGoesOn(t *testing.T) {
	untouched := func(w *world) {
		if found := outcomes(w.recover()); found[catalog.Known] != 1 || len(found) != 1 {
			w.t.Errorf("recovered: %v", found)
		}
	}
	for name, meanwhile := range map[string]func(w *world, f *fixture){
		"grown": func(w *world, f *fixture) {
			_, err := w.Expand(w.ctx, f.encrypted, 128*mib, 0)
			w.check(err)
		},
		"opened":    func(w *world, f *fixture) { w.check(open(w.Catalog, w, f)) },
		"deleted":   func(w *world, f *fixture) { w.check(w.DeleteVolume(w.ctx, f.encrypted)); f.encrypted = "" },
		"recovered": func(w *world, _ *fixture) { untouched(w) },
		"an old copy, recovered": func(w *world, f *fixture) {
			copied := w.authority.(*authoritytest.Memory).Copy()
			w.check(rewrap(w.Catalog, w, f))
			w.replaceAuthority(copied)
			untouched(w)
		},
		"an older copy, recovered": func(w *world, f *fixture) {
			copied := w.authority.(*authoritytest.Memory).Copy()
			w.check(rewrapBack(w.Catalog, w, f))
			w.replaceAuthority(copied)
			w.want(open(w.Catalog, w, f), catalog.ErrRolledBack)
			w.recover()
			if v := w.record(f.encrypted); v.Rewrapping != nil || v.Keys.By != former.Name() {
				w.t.Errorf("recovered as %+v", v)
			}
		},
		"lost, recovered": func(w *world, _ *fixture) { w.loseAuthority(); w.recover() },
	} {
		t.Run(name, func(t *testing.T) {
			w, f := newWorld(t), &fixture{}
			prepareEncrypted(w, f)
			w.check(rewrapHalf(nil, w, f))
			_, err := w.store.Head(w.ctx, f.child.Container, chunks.DescriptorName(2), swift.HeadOptions{})
			if w.check(err); w.record(f.encrypted).Rewrapping == nil {
				t.Fatal("it died too late")
			}
			meanwhile(w, f)
			if f.encrypted != "" {
				w.check(rewrap(w.Catalog, w, f))
				w.presentOnly(f)
			}
			w.empty()
		})
	}
}
