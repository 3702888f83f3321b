package attach

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// That nobody is logged in is told of a volume that is offered, after a while, and not
// of one that is being closed, or was taken away: then it is so for a reason.
func TestNotLoggedIn(t *testing.T) {
	n := newNode(t)
	said := func(what string, want bool) {
		t.Helper()
		if have := n.reasons(); slices.Contains(have, wire.ReasonNotLoggedIn) != want {
			t.Errorf("%s: %v", what, have)
		}
	}
	iqn := n.attach().Iqn
	n.write(5)
	n.portal.leave(vacantAfter)
	said("while an initiator may come back", false)
	n.portal.leave(time.Hour)
	said("offered", true)

	n.store.set(false)
	n.detachInVain()
	said("closing", false)
	n.attach()
	said("taken back", true)

	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := n.exports.Detach(ctx, &wire.DetachRequest{Volume: string(n.id), Revoke: true}); err == nil {
		t.Fatal("handed over what is nowhere but here")
	}
	if n.portal.Vacant(iqn) == 0 {
		t.Fatal("its target does not stay for commands to fail")
	}
	said("taken away", false)
	n.exports.Close()
	n.start()
	n.portal.leave(time.Hour)
	said("closing in the next process", false)
}
