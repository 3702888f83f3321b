package main

import (
	"testing"

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
		var list []deletedView
		a.json(&list, "gc", "--dry-run", "--grace", c.grace)
		if len(list) != 1 || list[0].Name != "v" || list[0].Snapshots != c.snapshots || list[0].Until.IsZero() == c.kept || list[0].Bytes == 0 {
			t.Fatalf("%+v: %+v", c, list)
		}
		a.json(&swept, "gc", "--grace", c.grace)
		if gone := c.snapshots == 0 && !c.kept; gone != (swept.Volumes == 1) {
			t.Errorf("%+v: swept %+v", c, swept)
		}
	}
	var list []deletedView
	a.json(&list, "gc", "--dry-run")
	if left, err := store.Containers(t.Context(), "swiftblock_", "", 0); err != nil || len(left) != 0 || len(list) != 0 {
		t.Errorf("left: %q, %+v, %v", left, list, err)
	}
}
