package attach

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/swiftblock/csi-swiftblock/pkg/ballast"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// onSmallDisk gives the node a disk of its own, with room for one journal of 512 MiB
// and what is set aside.
func (n *node) onSmallDisk() {
	n.t.Helper()
	n.exports.Close()
	state := filepath.Join(n.dir, "state")
	if err := unix.Mount("tmpfs", state, "tmpfs", 0, "size=600m"); err != nil {
		n.t.Skipf("mount a small tmpfs: %v", err)
	}
	n.t.Cleanup(func() {
		n.exports.Close()
		if err := unix.Unmount(state, 0); err != nil {
			n.t.Error(err)
		}
	})
	n.start()
}

// fillDisk is what others do to the last block of the node's disk.
func (n *node) fillDisk() {
	n.t.Helper()
	filler, err := os.Create(filepath.Join(n.dir, "state", "filler"))
	if err != nil {
		n.t.Fatal(err)
	}
	defer filler.Close()
	zeros, err := os.Open("/dev/zero")
	if err != nil {
		n.t.Fatal(err)
	}
	defer zeros.Close()
	if _, err := io.Copy(filler, zeros); !ballast.Full(err) {
		n.t.Fatal(err)
	}
}

// On a disk that others have filled to the last block a volume is written,
// published, served by a new process, and closed.
func TestFullDisk(t *testing.T) {
	n := newNode(t)
	n.onSmallDisk()
	n.attach()
	n.fillDisk()
	for round := range byte(5) {
		n.write(round + 1)
		if _, err := n.exports.Seal(t.Context(), &wire.SealRequest{Volume: string(n.id), Snapshot: string(ident.NewSnapshot()), WaitMs: patience.Milliseconds()}); err != nil {
			t.Fatalf("cut %d: %v", round, err)
		}
		n.exports.Close()
		n.start()
		n.attach()
		n.expect(round + 1)
	}
	n.write(9)
	if err := n.detach(); err != nil {
		t.Fatal(err)
	}
	n.attach()
	n.expect(9)
}
