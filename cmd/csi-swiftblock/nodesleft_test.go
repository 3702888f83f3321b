package main

import (
	"bytes"
	"context"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// uploading is a node that has that many bytes left of each volume.
type uploading int64

func (u uploading) Ask(context.Context, string, ident.Volume) (*wire.StatusResponse, error) {
	return &wire.StatusResponse{Epoch: &wire.Epoch{Number: 1}, DirtyBytes: int64(u), PublishedMs: 1}, nil
}

func TestNodesLeft(t *testing.T) {
	a := newAdmin(t)
	a.run("image", "import", "--name", "open", a.file("disk.raw", disk()))
	a.run("image", "import", "--name", "closed", a.file("disk.raw", disk()))
	flags := catalogFlags{authority: filepath.Join(a.dir, "authority"), prefix: "swiftblock_", cluster: "standalone"}
	s, err := flags.open()
	if err != nil {
		t.Fatal(err)
	}
	v, err := s.volume(t.Context(), "open")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.catalog.Publish(t.Context(), v.ID, "n1", catalog.Write); err != nil {
		t.Fatal(err)
	}
	endpoint := "unix://" + filepath.Join(t.TempDir(), "nobody")
	if _, err = s.catalog.Confirm(t.Context(), catalog.Confirmation{Volume: v.ID, Node: "n1", Endpoint: endpoint, Journal: "j"}); err != nil {
		t.Fatal(err)
	}

	list, err := s.left(t.Context(), uploading(5<<20), nil)
	if err != nil || len(list) != 1 || list[0].Name != "open" || list[0].Node != "n1" || list[0].Dirty != 5<<20 || list[0].Published.IsZero() || list[0].Trouble != "" {
		t.Errorf("%+v, %v", list, err)
	}
	if text := leftText(list); text != "5Mi left in 1 volumes" {
		t.Errorf("says %q", text)
	}
	// Nobody answers: then nobody knows how much is left, and that is said.
	a.json(&list, "nodes", "left", "n1")
	if len(list) != 1 || list[0].Dirty != -1 || list[0].Trouble == "" {
		t.Errorf("a node that does not answer: %+v", list)
	}
	if table := a.run("nodes", "left"); !strings.Contains(table, "unknown") {
		t.Errorf("a node that does not answer: %s", table)
	}
	a.refused("end the pods that use them", "nodes", "left", "--expect-none")
	a.run("nodes", "left", "n2", "--expect-none")
	var warning bytes.Buffer // that may keep somebody from wiping the wrong disk
	c := root()
	c.SetArgs(a.args("nodes", "left", "N1", "--wait"))
	c.SetOut(io.Discard)
	c.SetErr(&warning)
	if err := c.ExecuteContext(t.Context()); err != nil || !strings.Contains(warning.String(), `"N1"; on these something is: n1`) {
		t.Errorf("a mistyped node: %q, %v", &warning, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := a.try(ctx, "nodes", "left", "--wait"); err == nil {
		t.Error("--wait ends while something is left")
	}
	// Who only reads a volume has a session that must not outlive the driver.
	closed, err := s.volume(t.Context(), "closed")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.catalog.Publish(t.Context(), closed.ID, "n3", catalog.ReadShared); err != nil {
		t.Fatal(err)
	}
	a.refused("end the pods that use them", "nodes", "left", "n3", "--expect-none")
	if table := a.run("nodes", "left", "n3"); !strings.Contains(table, "read only") {
		t.Errorf("a node that reads: %s", table)
	}
	a.json(&list, "nodes", "left", "n2", "--wait")
	if len(list) != 0 {
		t.Errorf("of another node: %+v", list)
	}
}
