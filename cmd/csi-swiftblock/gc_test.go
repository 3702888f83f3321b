package main

import (
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/swifttest"
)

// A deleted volume stays as long as the grace or a snapshot keeps it; --dry-run
// says so and changes nothing.
func TestGC(t *testing.T) {
	a := newAdmin(t)
	store := swifttest.NewClient(t, swifttest.Credentials(a.swift))
	a.run("image", "import", "--name", "v", a.file("disk.raw", disk()))
	a.run("snapshot", "create", "v", "s")
	a.run("volume", "rm", "v")
	var swept sweptView
	for _, c := range []struct {
		grace     string
		snapshots int
		kept      bool // by the grace
		before    []string
	}{
		{grace: "24h", snapshots: 1, kept: true},
		{grace: "0s", snapshots: 1},
		{grace: "24h", kept: true, before: []string{"snapshot", "rm", "s"}},
		{grace: "0s"},
	} {
		if c.before != nil {
			a.run(c.before...)
		}
		var plan planView
		a.json(&plan, "gc", "--dry-run", "--grace", c.grace)
		list := plan.Deleted
		if len(list) != 1 || list[0].Name != "v" || list[0].Snapshots != c.snapshots || list[0].Until.IsZero() == c.kept || list[0].Bytes == 0 {
			t.Fatalf("%+v: %+v", c, list)
		}
		a.json(&swept, "gc", "--grace", c.grace)
		if gone := c.snapshots == 0 && !c.kept; gone != (swept.Volumes == 1) {
			t.Errorf("%+v: swept %+v", c, swept)
		}
	}
	var plan planView
	a.json(&plan, "gc", "--dry-run")
	if left, err := store.Containers(t.Context(), "swiftblock_", "", 0); err != nil || len(left) != 0 || len(plan.Deleted) != 0 {
		t.Errorf("left: %q, %+v, %v", left, plan, err)
	}
}

// What no version of a living volume names is shown, and goes after the grace.
func TestGCLiving(t *testing.T) {
	a := newAdmin(t)
	store := swifttest.NewClient(t, swifttest.Credentials(a.swift))
	a.run("image", "import", "--name", "v", a.file("disk.raw", disk()))
	containers, err := store.Containers(t.Context(), "swiftblock_", "", 0)
	if err != nil || len(containers) != 1 {
		t.Fatal(containers, err)
	}
	roots, err := store.List(t.Context(), containers[0], chunks.RootPrefix, "", 0)
	if err != nil || len(roots) != 1 {
		t.Fatal(roots, err)
	}
	root, err := chunks.ParseName(roots[0].Name)
	if err != nil {
		t.Fatal(err)
	}
	stray := chunks.ChunkName(0, root.Epoch, root.Gen, ident.NewOpen())
	if _, err := store.Put(t.Context(), containers[0], stray, []byte("stray"), swift.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	var plan planView
	if a.json(&plan, "gc", "--dry-run"); len(plan.Garbage) != 0 {
		t.Errorf("within the grace: %+v", plan)
	}
	a.json(&plan, "gc", "--dry-run", "--grace", "0s")
	if len(plan.Garbage) != 1 || plan.Garbage[0].Name != stray || plan.Garbage[0].Size != 5 {
		t.Errorf("%+v", plan)
	}
	var swept sweptView
	if a.json(&swept, "gc", "--grace", "0s"); swept.Collected != 1 || swept.CollectedBytes != 5 {
		t.Errorf("%+v", swept)
	}
	a.run("check", "--data")
}
