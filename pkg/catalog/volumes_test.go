package catalog_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
)

func TestVolumeIsFoundByItsName(t *testing.T) {
	w := newWorld(t)
	spec := catalog.VolumeSpec{Name: "pvc-1", Required: 64*mib - 1, Limit: 65 * mib, Parameters: map[string]string{"rpo": "60s"}}
	v, err := w.CreateVolume(w.ctx, spec)
	w.check(err)
	if v.Size != 64*mib || v.Container != w.prefix+string(v.ID) || !maps.Equal(v.Parameters, spec.Parameters) {
		t.Errorf("volume %+v", v)
	}
	again, err := w.CreateVolume(w.ctx, spec)
	w.check(err)
	if again.ID != v.ID {
		t.Errorf("the same spec made volumes %s and %s", v.ID, again.ID)
	}
	other := w.volume("pvc-2")
	for _, change := range []func(*catalog.VolumeSpec){
		func(s *catalog.VolumeSpec) { s.Required = 65 * mib },
		func(s *catalog.VolumeSpec) { s.Limit = 64*mib - 1 },
		func(s *catalog.VolumeSpec) { s.Parameters = nil },
		func(s *catalog.VolumeSpec) { s.Source = from("", other.ID).Source },
	} {
		differs := spec
		change(&differs)
		_, err := w.CreateVolume(w.ctx, differs)
		w.want(err, catalog.ErrConflict)
	}
	if got, err := w.GetVolume(w.ctx, v.ID); err != nil || got.ID != v.ID {
		t.Errorf("GetVolume = %+v, %v", got, err)
	}
}

func TestNameIsFreeAfterDelete(t *testing.T) {
	w := newWorld(t)
	first := w.volume("pvc")
	w.check(w.DeleteVolume(w.ctx, first.ID))
	_, err := w.GetVolume(w.ctx, first.ID)
	w.want(err, catalog.ErrNotFound)
	second := w.volume("pvc")
	if second.ID == first.ID {
		t.Fatal("an id was used again")
	}
	w.check(w.DeleteVolume(w.ctx, first.ID)) // a late retry
	w.sweep()
	w.check(w.DeleteVolume(w.ctx, first.ID)) // a very late one
	if got := w.volume("pvc"); got.ID != second.ID {
		t.Errorf("the name means %s, want the successor %s", got.ID, second.ID)
	}
	if names := w.containers(); len(names) != 1 || names[0] != second.Container {
		t.Errorf("containers %v, want %s", names, second.Container)
	}
	w.check(w.DeleteVolume(w.ctx, second.ID))
	w.empty()
}

func TestBadSpecsMakeNothing(t *testing.T) {
	w := newWorld(t)
	both := from("both", w.volume("source").ID)
	both.Source.Snapshot = "00000000000000000000000000000000"
	for want, specs := range map[error][]catalog.VolumeSpec{
		catalog.ErrInvalid: {{Name: ""}, {Name: strings.Repeat("n", 129)}, both},
		catalog.ErrOutOfRange: {
			{Name: "huge", Required: snapshots.MaxSize + 1},
			{Name: "negative", Required: -1},
			{Name: "narrow", Required: 4097, Limit: 8191},
			{Name: "tiny", Limit: 100},
			{Name: "smaller than its source", Limit: 32 * mib, Source: from("", w.volume("source").ID).Source},
		},
		catalog.ErrNotFound: {
			from("no volume", both.Source.Volume[:31]),
			from("no snapshot", both.Source.Snapshot),
		},
	} {
		for _, spec := range specs {
			_, err := w.CreateVolume(w.ctx, spec)
			w.want(err, want)
		}
	}
	rows(w, w.authority.Volumes(), 1)
	rows(w, w.authority.Claims(), 1)
}

func TestExpandOnlyGrows(t *testing.T) {
	w := newWorld(t)
	v := w.volume("pvc")
	for _, step := range []struct{ required, limit, want int64 }{
		{32 * mib, 0, 64 * mib}, {64*mib + 1, 0, 64*mib + 4096}, {1, 0, 64*mib + 4096}, {100 * mib, 100 * mib, 100 * mib},
	} {
		got, err := w.Expand(w.ctx, v.ID, step.required, step.limit)
		w.check(err)
		if got.Size != step.want {
			t.Errorf("Expand(%d, %d) = %d, want %d", step.required, step.limit, got.Size, step.want)
		}
	}
	_, err := w.Expand(w.ctx, v.ID, mib, 99*mib)
	w.want(err, catalog.ErrOutOfRange)
	_, err = w.Expand(w.ctx, v.ID, snapshots.MaxSize+1, 0)
	w.want(err, catalog.ErrOutOfRange)
	_, err = w.Expand(w.ctx, "x", mib, 0)
	w.want(err, catalog.ErrNotFound)
}

func TestListsArePaged(t *testing.T) {
	w := newWorld(t)
	want := map[string]bool{}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		want[string(w.volume(name).ID)] = true
		w.snapshot("of "+name, w.volume(name).ID)
	}
	w.check(w.DeleteVolume(w.ctx, w.volume("c").ID))
	for _, limit := range []int{1, 2, 3, 4, 5, 100} {
		n := 0
		for place := authority.Beginning; ; {
			page, next, err := w.ListVolumes(w.ctx, place, limit)
			w.check(err)
			for _, v := range page {
				if n++; !want[string(v.ID)] || v.Name == "c" {
					t.Errorf("unexpected volume %s", v.Name)
				}
			}
			if place = next; next == authority.Beginning {
				break
			}
		}
		if n != 4 {
			t.Errorf("pages of %d: %d volumes, want 4", limit, n)
		}
	}
	all, next, err := w.ListSnapshots(w.ctx, "", "", 100)
	w.check(err)
	of, _, err := w.ListSnapshots(w.ctx, w.volume("a").ID, "", 100)
	w.check(err)
	if len(all) != 5 || next != "" || len(of) != 1 || of[0].Name != "of a" {
		t.Errorf("%d snapshots, then %q; of a: %+v", len(all), next, of)
	}
	_, _, err = w.ListVolumes(w.ctx, "", 0)
	w.want(err, catalog.ErrInvalid)
}

func TestContainerOfAnotherClusterStays(t *testing.T) {
	w := newWorld(t)
	v := w.volume("pvc")
	w.check(w.DeleteVolume(w.ctx, v.ID))
	foreign := catalog.New(catalog.Config{Authority: w.authority, Store: w.store, Prefix: w.prefix, Cluster: "cluster-b"})
	_, err := foreign.Sweep(w.ctx)
	w.want(err, catalog.ErrForeign)
	if len(w.containers()) != 1 {
		t.Error("the container is gone")
	}
	w.empty()
}
