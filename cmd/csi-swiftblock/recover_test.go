package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
)

// The authority's directory is gone: a dry run shows what is in Swift and changes
// nothing, the recovery brings it back, and repeating it changes nothing.
func TestVolumeRecover(t *testing.T) {
	a := newAdmin(t)
	image := a.file("disk.raw", disk())
	a.run("image", "import", "--name", "golden", image)
	a.run("snapshot", "create", "golden", "nightly")
	a.run("volume", "create", "clone", "--from", "nightly")
	if err := os.RemoveAll(filepath.Join(a.dir, "authority")); err != nil {
		t.Fatal(err)
	}
	count := func(args ...string) map[catalog.Outcome]int {
		var found []foundView
		a.json(&found, append([]string{"volume", "recover"}, args...)...)
		outcomes := map[catalog.Outcome]int{}
		for _, f := range found {
			outcomes[f.Outcome]++
		}
		return outcomes
	}
	if dry := count("--dry-run"); dry[catalog.Recovered] != 3 || len(a.volumes()) != 0 {
		t.Errorf("the dry run says %v, and leaves %v", dry, a.volumes())
	}
	if other := count("--cluster", "other"); other[catalog.Foreign] != 2 || len(other) != 1 {
		t.Errorf("another cluster finds %v", other)
	}
	if found := count(); found[catalog.Recovered] != 3 {
		t.Errorf("found %v", found)
	}
	if again := count(); again[catalog.Known] != 2 || len(again) != 1 {
		t.Errorf("a repetition finds %v", again)
	}
	if list := a.run("snapshot", "ls"); !strings.Contains(list, "nightly") {
		t.Errorf("snapshots:\n%s", list)
	}
	out := filepath.Join(a.dir, "exported.raw")
	a.run("image", "export", "clone", out)
	have, err := os.ReadFile(out)
	want, errWant := os.ReadFile(image)
	if err != nil || errWant != nil || string(have) != string(want) {
		t.Errorf("the recovered clone holds something else (%v, %v)", err, errWant)
	}
}
