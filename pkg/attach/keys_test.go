package attach

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/swiftblock/csi-swiftblock/pkg/keys"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// The keys of an encrypted volume are in RunDir only, survive the process, come from
// the controller after a reboot, and go with the volume.
func TestKeysOfAnEncryptedVolume(t *testing.T) {
	n := newNode(t)
	n.controller.keys = keys.New(keys.New(keys.Set{}))
	n.attach()
	n.write(7)
	other := &wire.AttachRequest{Volume: string(n.id), ClassKeys: []string{"another"}}
	if _, err := n.exports.Attach(t.Context(), other); status.Code(err) != codes.InvalidArgument {
		t.Errorf("with the key of another class: %v", err)
	}
	if _, err := n.exports.Attach(t.Context(), &wire.AttachRequest{Volume: string(n.id), ClassKeys: []string{"new", "class"}}); err != nil {
		t.Errorf("with the key of the class: %v", err)
	}
	hidden := [][]byte{bytes.Repeat([]byte{7}, 512)} // what was written, and the keys
	for _, secret := range n.controller.keys.Secrets {
		hidden = append(hidden, secret[:], []byte(hex.EncodeToString(secret[:])))
	}
	n.keepsNothingOf(hidden...)
	record, err := os.ReadFile(filepath.Join(n.dir, "state", string(n.id), "record.json"))
	if err != nil || !bytes.Contains(record, []byte(`"format": 2`)) {
		t.Errorf("the record is of a format that older releases read: %v\n%s", err, record)
	}

	n.outlives(7)
	if err := n.detach(); err != nil {
		t.Fatal(err)
	}
	if _, err := KeysOf(filepath.Join(n.dir, "run"), string(n.id)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("keys of a volume that is gone: %v", err)
	}
	n.attach()
	n.expect(7) // from Swift
}

// A journal that was set aside opens with the keys of its volume, which stay for that.
func TestKeysOfALostJournalStay(t *testing.T) {
	n := newNode(t)
	n.controller.keys = keys.New(keys.Set{})
	n.attach()
	n.write(3)
	n.controller.lose()
	if err := n.detach(); err != nil {
		t.Fatal(err)
	}
	if set, err := KeysOf(filepath.Join(n.dir, "run"), string(n.id)); err != nil || set.Own != n.controller.keys.Own {
		t.Errorf("beside %v: key %d, %v", n.left(), set.Own, err)
	}
}

// A controller that does not send keys, or sends some for a volume without encryption,
// is not believed.
func TestKeysAndClassMustFit(t *testing.T) {
	n := newNode(t)
	n.controller.keys = keys.Set{Own: 3}
	if _, err := n.exports.Attach(t.Context(), &wire.AttachRequest{Volume: string(n.id)}); err == nil {
		t.Error("an encrypted volume was attached without a key")
	}
}
