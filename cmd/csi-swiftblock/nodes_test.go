package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
)

// Who is given up is the administrator's word, and holds until it is taken back.
func TestNodesAreGivenUpAndTakenBack(t *testing.T) {
	a := newAdmin(t)
	a.run("image", "import", "--name", "v", a.file("disk.raw", disk())) // makes the authority
	records, err := authority.OpenFile(filepath.Join(a.dir, "authority"))
	if err != nil {
		t.Fatal(err)
	}
	cluster := &standalone{nodes: []string{"Worker_3"}, givenUp: records.GivenUp()}
	expect := func(want bool) {
		t.Helper()
		if have, err := cluster.GivenUp(t.Context(), "Worker_3"); err != nil || have != want {
			t.Errorf("given up: %v, %v; want %v", have, err, want)
		}
		if other, err := cluster.GivenUp(t.Context(), "worker-4"); err != nil || other {
			t.Errorf("another node is given up: %v, %v", other, err)
		}
		var list []authority.GivenUp
		if a.json(&list, "nodes", "ls"); len(list) == 1 != want || want && list[0].Node != "Worker_3" {
			t.Errorf("nodes ls: %+v", list)
		}
	}
	expect(false)
	for range 2 {
		a.run("nodes", "give-up", "Worker_3")
		expect(true)
	}
	a.run("nodes", "take-back", "Worker_3")
	expect(false)
	if _, err := a.try(t.Context(), "nodes", "take-back", "Worker_3"); err == nil || !strings.Contains(err.Error(), "Worker_3") {
		t.Errorf("taken back twice: %v", err)
	}
}
