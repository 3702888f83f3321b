package attach

import (
	"os"
	"path/filepath"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// What docs/operations.md gives as remedies, as far as it is done on a node.

// goElsewhere is what becomes of a volume that was taken from the node: its pod is deleted,
// and the volume goes on where it is wanted, which is here. The journal is kept for
// journal ls.
func (n *node) goElsewhere() {
	n.t.Helper()
	epoch := n.controller.epoch
	n.controller.lose() // who takes a volume away sets a fence, and then the record
	if err := n.detach(); err != nil {
		n.t.Errorf("detach: %v", err)
	}
	n.attach()
	n.kept(epoch)
}

// kept wants the journal of an epoch among those that are lost.
func (n *node) kept(epoch ident.Epoch) {
	n.t.Helper()
	journals, err := Journals(filepath.Join(n.dir, "state"))
	if err != nil || !slices.ContainsFunc(journals, func(j Journal) bool { return j.Lost && j.Epoch == epoch }) {
		n.t.Errorf("the journal of %v is not kept: %v, %v", epoch, journals, err)
	}
}

// putAside moves a damaged journal's directory out of the way, starts export anew, and
// takes the volume from the node by force.
func (n *node) putAside() {
	n.t.Helper()
	n.exports.Close()
	if err := os.Rename(filepath.Join(n.dir, "state", string(n.id)), filepath.Join(n.dir, "kept")); err != nil {
		n.t.Fatal(err)
	}
	n.start()
	if _, err := n.exports.Detach(n.t.Context(), &wire.DetachRequest{Volume: string(n.id), Revoke: true}); err != nil || len(n.portal.targets) > 0 {
		n.t.Errorf("there is nothing to hand over, and nothing to wait for: %v, targets %v", err, n.portal.targets)
	}
	// NodeUnstage lets go by that of what the kernel still holds.
	if _, err := n.exports.Status(n.t.Context(), &wire.StatusRequest{Volume: string(n.id)}); status.Code(err) != codes.NotFound {
		n.t.Errorf("status of what is not there: %v", err)
	}
	n.controller.lose()
	n.attach()
}

// moveAway is putAside for a volume that is not served: before it the controller is refused,
// after it the volume goes on as last published.
func (n *node) moveAway() {
	n.t.Helper()
	n.await("taken from the node with what it holds", func() bool {
		_, err := n.exports.Detach(n.t.Context(), &wire.DetachRequest{Volume: string(n.id), Revoke: true})
		return err != nil && status.Code(err) != codes.Aborted
	})
	n.putAside()
}

// restore makes another volume of the first snapshot, in place of the one that is here.
func (n *node) restore() {
	n.t.Helper()
	if err := n.detach(); err != nil {
		n.t.Errorf("a volume of which a part cannot be read: %v", err)
	}
	n.id = ident.NewVolume()
	n.controller.head = n.cuts[0]
	n.attach()
}
