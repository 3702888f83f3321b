package attach

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// An older release does not start on what a newer one left: so the initiators wait. It
// says which release is needed, and changes nothing: the newer one goes on with it.
func TestDowngradeIsRefused(t *testing.T) {
	n := newNode(t)
	n.attach()
	n.write(7)
	if err := n.exports.Close(); err != nil {
		t.Fatal(err)
	}
	path := n.exports.config.folder(n.id).recordPath()
	ours, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	newer := bytes.Replace(ours, []byte(`"format": 1`), []byte(`"format": 3`), 1)
	if bytes.Equal(ours, newer) {
		t.Fatalf("no format in %s", ours)
	}
	if err := os.WriteFile(path, newer, 0o600); err != nil {
		t.Fatal(err)
	}
	err = n.begin()
	if err == nil || !strings.Contains(err.Error(), "format 3, this release knows 1 and 2: use the release that wrote it") || !strings.Contains(err.Error(), string(n.id)) {
		t.Errorf("an older release: %v", err)
	}
	if err := n.exports.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadFile(path); err != nil || !bytes.Equal(left, newer) {
		t.Errorf("the record is %s, %v", left, err)
	}
	if err := os.WriteFile(path, ours, 0o600); err != nil {
		t.Fatal(err)
	}
	n.start()
	n.attach()
	n.expect(7)
}
