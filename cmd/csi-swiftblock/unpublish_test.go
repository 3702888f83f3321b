package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
)

// A volume whose node is lost is taken from it by --force only, and what that
// costs is said before and after.
func TestUnpublish(t *testing.T) {
	a := newAdmin(t)
	a.run("image", "import", "--name", "v", a.file("disk.raw", disk()))
	flags := catalogFlags{authority: filepath.Join(a.dir, "authority"), prefix: "swiftblock_", cluster: "standalone"}
	s, err := flags.open()
	if err != nil {
		t.Fatal(err)
	}
	v, err := s.volume(t.Context(), "v")
	if err != nil {
		t.Fatal(err)
	}
	open := func() {
		t.Helper()
		if _, err := s.catalog.Publish(t.Context(), v.ID, "n1", catalog.Write); err != nil {
			t.Fatal(err)
		}
	}
	open()
	a.run("volume", "unpublish", "v") // nobody opened it

	open()
	endpoint := "unix://" + filepath.Join(t.TempDir(), "nobody")
	_, err = s.catalog.Confirm(t.Context(), catalog.Confirmation{Volume: v.ID, Node: "n1", Endpoint: endpoint, Journal: "j"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.try(t.Context(), "volume", "unpublish", "v")
	if err == nil || !strings.Contains(err.Error(), "--force") || !strings.Contains(err.Error(), "ago") {
		t.Fatalf("without --force: %v", err)
	}
	var view unpublishView
	a.json(&view, "volume", "unpublish", "v", "--force")
	if !view.Lost || view.Node != "n1" || view.Newest.IsZero() {
		t.Errorf("%+v", view)
	}
	if v, err = s.volume(t.Context(), "v"); err != nil || v.Binding != nil || v.Opening.Open {
		t.Errorf("%+v, %v", v, err)
	}
}
