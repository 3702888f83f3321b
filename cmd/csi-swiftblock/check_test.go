package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/swifttest"
)

// What cannot be checked keeps nobody from learning what was found elsewhere.
func TestCheckGoesOn(t *testing.T) {
	a := newAdmin(t)
	store := swifttest.NewClient(t, swifttest.Credentials(a.swift))
	path := a.file("disk.raw", disk())
	var v importView
	a.json(&v, "image", "import", "--name", "v", path)
	key, wrong := a.file("class.key", []byte(oneKey)), a.file("wrong.key", []byte(anotherKey))
	a.run("image", "import", "--name", "secret", "--encryption-key", key, path)
	var i inspection
	a.json(&i, "volume", "inspect", "v")
	rows, err := store.List(t.Context(), i.Container, chunks.ChunkPrefix, "", 0)
	if err != nil || len(rows) == 0 {
		t.Fatalf("%d chunks: %v", len(rows), err)
	}
	if err := store.Delete(t.Context(), i.Container, rows[0].Name); err != nil {
		t.Fatal(err)
	}
	for _, order := range [][]string{{"secret", "v"}, {"v", "secret"}} {
		text, err := a.try(t.Context(), append([]string{"check", "--encryption-key", wrong}, order...)...)
		if err == nil || !strings.Contains(err.Error(), "1 faults in 1") || !strings.Contains(err.Error(), "check volume secret") {
			t.Errorf("%v: %v", order, err)
		}
		if !strings.Contains(text, rows[0].Name) {
			t.Errorf("%v: the missing object is not named in: %s", order, text)
		}
	}
}

// A check passes what is whole and names what is not, as far as it looks.
func TestCheck(t *testing.T) {
	a := newAdmin(t)
	store := swifttest.NewClient(t, swifttest.Credentials(a.swift))
	a.run("image", "import", "--name", "v", a.file("disk.raw", disk()))
	a.run("snapshot", "create", "v", "s")
	a.run("volume", "create", "blank", "--size", "1Gi")
	var reports []checkReport
	a.json(&reports, "check", "--data")
	chunksSeen := 0
	for _, r := range reports {
		chunksSeen += r.Chunks
	}
	if len(reports) != 3 || chunksSeen != 6 {
		t.Errorf("%+v", reports)
	}

	var v inspection
	a.json(&v, "volume", "inspect", "v")
	rows, err := store.List(t.Context(), v.Container, chunks.ChunkPrefix, "", 0)
	if err != nil || len(rows) != 3 {
		t.Fatalf("%d chunks: %v", len(rows), err)
	}
	object, err := store.Get(t.Context(), v.Container, rows[0].Name, swift.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(object.Body)
	flipped[1000] ^= 1 // in a frame: the footer is intact
	if _, err := store.Put(t.Context(), v.Container, rows[0].Name, flipped, swift.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	a.run("check", "s")
	a.refused("2 faults in 2", "check", "--data", "s", "v")
	if err := store.Delete(t.Context(), v.Container, rows[1].Name); err != nil {
		t.Fatal(err)
	}
	a.run("check", "--tables", "v")
	a.refused("1 faults in 1", "check", "v")
	text, _ := a.try(t.Context(), "check", "v")
	if !strings.Contains(text, rows[1].Name) || !strings.Contains(text, "not found") {
		t.Errorf("the missing object is not named in\n%s", text)
	}
	a.refused("no volume or snapshot has", "check", "nothing")
	a.refused("tables data", "check", "--data", "--tables")
}
