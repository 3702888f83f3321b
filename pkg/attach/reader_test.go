package attach

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// read attaches the volume for a reader.
func (n *node) read() *wire.Attachment {
	n.t.Helper()
	a, err := n.exports.Attach(n.t.Context(), &wire.AttachRequest{Volume: string(n.id), Reader: true})
	if err != nil {
		n.t.Fatal(err)
	}
	return a
}

// written is a node whose volume was written and closed.
func written(t *testing.T, content byte) *node {
	t.Helper()
	n := newNode(t)
	n.attach()
	n.write(content)
	if err := n.detach(); err != nil {
		t.Fatal(err)
	}
	return n
}

// objects lists what the volume has in Swift.
func (n *node) objects() (names []string) {
	n.t.Helper()
	rows, err := n.store.List(n.t.Context(), container, "", "", swift.MaxListing)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, row := range rows {
		names = append(names, row.Name)
	}
	return names
}

// What a reader's file system recovers survives the process, and never reaches
// Swift or the next attach.
func TestReaderHasAScratchJournal(t *testing.T) {
	n := written(t, 7)
	before := n.objects()
	first := n.read()
	if !strings.Contains(first.Iqn, string(n.id)+".r") {
		t.Errorf("the target is %s; want one that no epoch has", first.Iqn)
	}
	n.expect(7)
	n.write(8)
	if err := n.exports.Close(); err != nil {
		t.Fatal(err)
	}

	n.start()
	n.expect(8)
	if again := n.read(); again.Iqn != first.Iqn {
		t.Errorf("staged again, the target is %s instead of %s", again.Iqn, first.Iqn)
	}
	n.store.set(false)
	n.controller.set(false)
	if err := n.detach(); err != nil {
		t.Fatalf("detach waits for somebody: %v", err)
	}
	n.store.set(true)
	n.controller.set(true)
	if _, err := os.Stat(filepath.Join(n.dir, "state", string(n.id))); !os.IsNotExist(err) {
		t.Errorf("something stays: %v", err)
	}
	if second := n.read(); second.Iqn == first.Iqn {
		t.Error("another attach has the same target")
	}
	n.expect(7)
	if after := n.objects(); len(after) != len(before) {
		t.Errorf("Swift has %q, and had %q", after, before)
	}
}

// A scratch journal that fills up is not uploaded either.
func TestReaderUploadsNothingUnderPressure(t *testing.T) {
	n := written(t, 7)
	before := n.objects()
	n.read()
	for range 80 { // more than half of its 512 MiB
		if err := n.device().WriteAt(t.Context(), bytes.Repeat([]byte{8}, 4<<20), 8<<20, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.detach(); err != nil {
		t.Fatal(err)
	}
	if after := n.objects(); len(after) != len(before) {
		t.Errorf("Swift has %q, and had %q", after, before)
	}
}

func TestReaderMayNotWhatAWriterMay(t *testing.T) {
	n := written(t, 7)
	n.read()
	id := string(n.id)
	for what, call := range map[string]func() error{
		"resize": func() error {
			_, err := n.exports.Resize(t.Context(), &wire.ResizeRequest{Volume: id, Size: 2 * volumeSize})
			return err
		},
		"format": func() error {
			_, err := n.exports.SetFormatted(t.Context(), &wire.SetFormattedRequest{Volume: id, Formatted: wire.Formatted_FORMATTED_BEGUN})
			return err
		},
		"seal": func() error {
			_, err := n.exports.Seal(t.Context(), &wire.SealRequest{Volume: id, Snapshot: strings.Repeat("0", 32)})
			return err
		},
	} {
		if err := call(); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("%s: %v; want FAILED_PRECONDITION", what, err)
		}
	}
}

// One node may be reader and writer in turn: no journal is taken for the other.
func TestReaderAndWriterInTurn(t *testing.T) {
	n := written(t, 7)
	n.read()
	n.write(8)
	n.attach() // without a detach: kubelet was told that the node had lost the volume
	n.expect(7)
	n.write(9)
	n.read()
	n.expect(9)
	if n.controller.isOpen() {
		t.Error("the writer's epoch was not closed")
	}
}

// A reader that comes back when the volume has moved on reads the new root.
func TestReaderOfAnotherRoot(t *testing.T) {
	n := written(t, 7)
	n.read()
	elsewhere := &node{t: t, dir: t.TempDir(), store: n.store, controller: n.controller, id: n.id}
	elsewhere.start()
	defer elsewhere.exports.Close()
	elsewhere.attach()
	elsewhere.write(9)
	if err := elsewhere.detach(); err != nil {
		t.Fatal(err)
	}
	n.read()
	n.expect(9)
}
