package attach

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// An older release refuses what a newer one left, says which release is needed, and
// changes nothing: the newer one goes on with it.
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
	newer := bytes.Replace(ours, []byte(`"format": 1`), []byte(`"format": 2`), 1)
	if bytes.Equal(ours, newer) {
		t.Fatalf("no format in %s", ours)
	}
	if err := os.WriteFile(path, newer, 0o600); err != nil {
		t.Fatal(err)
	}
	n.start()
	_, err = n.exports.Attach(t.Context(), &wire.AttachRequest{Volume: string(n.id)})
	if err == nil || !strings.Contains(err.Error(), "use the release that wrote it") || !strings.Contains(err.Error(), string(n.id)) {
		t.Errorf("attach: %v", err)
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
