package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/swifttest"
)

const (
	oneKey     = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlBQkNERUY=\n"
	anotherKey = "QUJDREVGMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk=\n"
)

// plain tells whether a text is in any object of the account as it is.
func (a *admin) plain(text []byte) bool {
	a.Helper()
	store := swifttest.NewClient(a.T, swifttest.Credentials(a.swift))
	containers, err := store.Containers(a.Context(), "", "", 0)
	if err != nil {
		a.Fatal(err)
	}
	for _, container := range containers {
		rows, err := store.List(a.Context(), container, "", "", 0)
		if err != nil {
			a.Fatal(err)
		}
		for _, row := range rows {
			object, err := store.Get(a.Context(), container, row.Name, swift.GetOptions{})
			if err != nil {
				a.Fatal(err)
			}
			if bytes.Contains(object.Body, text) {
				return true
			}
		}
	}
	return false
}

// An administrator's way with an encrypted volume: imported, cloned, exported, checked,
// its lost journal rescued, and all of it again after the authority was lost and
// nothing but the class's key is known.
func TestEncryptedImage(t *testing.T) {
	a := newAdmin(t)
	content := disk()
	key, wrong := a.file("class.key", []byte(oneKey)), a.file("wrong.key", []byte(anotherKey))
	image := a.file("disk.raw", content)
	var v importView
	a.json(&v, "image", "import", "--name", "secret", "--encryption-key", key, image)
	if a.plain(content[:64]) {
		t.Error("what was imported is in Swift as it is")
	}
	if got := a.export("secret"); !bytes.Equal(got, content) {
		t.Error("it came out otherwise than it went in")
	}
	a.run("check", "--data")
	a.refused("has to be", "volume", "create", "open", "--from", "secret")
	a.refused("the keys of the source", "volume", "create", "foreign", "--from", "secret", "--parameter", "encryption=aes-256-gcm", "--encryption-key", wrong)
	a.refused("--encryption-key", "volume", "create", "keyless", "--size", "1Gi", "--parameter", "encryption=aes-256-gcm")
	a.refused("encryption=aes-256-gcm", "volume", "create", "modeless", "--size", "1Gi", "--encryption-key", key)
	a.run("volume", "create", "clone", "--from", "secret", "--parameter", "encryption=aes-256-gcm", "--encryption-key", key)
	a.run("snapshot", "create", "secret", "cut")
	if got := a.export("clone"); !bytes.Equal(got, content) {
		t.Error("the clone is another than its source")
	}

	// The journal of a node that was lost: after the reboot only the controller has the key.
	s := &catalogFlags{authority: filepath.Join(a.dir, "authority"), prefix: "swiftblock_", cluster: "standalone"}
	session, err := s.openRecords()
	if err != nil {
		t.Fatal(err)
	}
	set, err := session.keysOf(t.Context(), v.Volume, keyFlag{})
	if err != nil {
		t.Fatal(err)
	}
	a.key = &keys.Secret{}
	*a.key = set.Secret()
	data := noise(9, 4096)
	lost := a.leaveJournal(v.Volume, ident.NewEpoch(2), "lost-", v.Size, 1<<20, data)
	state := []string{"--state", filepath.Join(a.dir, "state"), "--run", filepath.Join(a.dir, "run")}
	rescued := filepath.Join(a.dir, "rescued.raw")
	a.run(append([]string{"journal", "export", lost, rescued}, state...)...)
	want := bytes.Clone(content)
	copy(want[1<<20:], data)
	if got, err := os.ReadFile(rescued); err != nil || !bytes.Equal(got, want) {
		t.Errorf("rescued otherwise than it was: %v", err)
	}

	// Without the authority, and so without the keys that the controller was given.
	if err := os.RemoveAll(filepath.Join(a.dir, "authority")); err != nil {
		t.Fatal(err)
	}
	a.run("volume", "recover")
	a.refused("--encryption-key", "image", "export", "secret", filepath.Join(a.dir, "no.raw"))
	a.refused("--tables needs no key", "check", "secret")
	a.run("check", "--tables")
	a.refused("give a file with it", "check", "--data", "--encryption-key", wrong, "secret")
	a.run("check", "--data", "--encryption-key", key)
	path := filepath.Join(a.dir, "recovered.raw")
	a.run("image", "export", "--encryption-key", key, "clone", path)
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
		t.Errorf("what was recovered is another: %v", err)
	}
}

// The key of a class is exchanged and forgotten, and nothing needs it any more: neither the
// volume, nor its clone, nor the snapshot of one that was deleted.
func TestKeysOfClasses(t *testing.T) {
	a := newAdmin(t)
	content := disk()
	former, present := a.file("former.key", []byte(oneKey)), a.file("present.key", []byte(anotherKey))
	image := a.file("disk.raw", content)
	a.run("image", "import", "--name", "secret", "--encryption-key", former, image)
	a.run("volume", "create", "clone", "--from", "secret", "--parameter", "encryption=aes-256-gcm", "--encryption-key", former)
	a.run("snapshot", "create", "secret", "cut")
	a.run("volume", "rm", "secret")
	a.run("volume", "create", "plain", "--size", "1Gi")
	list := func() (list []classKeyView) {
		t.Helper()
		a.json(&list, "keys", "ls")
		return list
	}
	before := list()
	if len(before) != 1 || before[0].Volumes != 2 || !before[0].Kept || before[0].Newest.IsZero() {
		t.Fatalf("the keys: %+v", before)
	}
	name := before[0].Key
	a.refused("0 keys that wrap something", "keys", "rewrap", "zz", "--encryption-key", present)
	a.refused("--encryption-key", "keys", "rewrap", name[:6])
	a.refused("--encryption-key", "keys", "rewrap", name[:6], name, "--encryption-key", present)
	a.refused("not known here", "keys", "rewrap", name, strings.Repeat("0", 32))
	a.refused("both the former and the present", "keys", "rewrap", name[:6], name)
	a.refused("wraps the keys of 2 volumes", "keys", "forget", name[:6])

	var done rewrapView
	a.json(&done, "keys", "rewrap", name[:6], "--encryption-key", present)
	after := list()
	if len(done.Rewrapped) != 2 || len(after) != 1 || after[0].Key != done.Key || done.Former != name || done.Key == name || after[0].Volumes != 2 || !after[0].Kept {
		t.Fatalf("rewrapped: %+v, the keys: %+v", done, after)
	}
	a.refused("give the whole name", "keys", "forget", name[:6])
	a.run("keys", "forget", name)
	a.refused("not known here", "keys", "forget", name)
	a.json(&done, "keys", "rewrap", name, done.Key)
	if len(done.Rewrapped) != 0 {
		t.Errorf("rewrapped again: %+v", done)
	}
	if got := a.export("clone"); !bytes.Equal(got, content) {
		t.Error("the clone is another than its source")
	}
	a.refused("the keys of the source", "volume", "create", "stale", "--from", "cut", "--parameter", "encryption=aes-256-gcm", "--encryption-key", former)
	a.run("volume", "create", "restored", "--from", "cut", "--parameter", "encryption=aes-256-gcm", "--encryption-key", present)
	if got := a.export("restored"); !bytes.Equal(got, content) {
		t.Error("what was restored is another than its source")
	}
}
