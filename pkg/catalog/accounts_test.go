package catalog_test

import (
	"errors"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/accounts"
	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/authority/authoritytest"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/embedded"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/swifttest"
)

// An old copy of the authority knows nothing of a clone. What the clone was made from
// stays, also in the account of a class, which no record of the clone names any more.
func TestUnknownCloneInAnAccountOfAClass(t *testing.T) {
	w := newWorld(t)
	client, server := swifttest.NewServer(t, embedded.Options{NoSync: true})
	own, vault := w.store, accounts.Directory(t.TempDir())
	controller := func(a authority.Authority) *catalog.Catalog {
		return catalog.New(catalog.Config{
			Authority: a, Store: own, Accounts: accounts.New(own, vault, swift.Options{Patience: -1}),
			Prefix: w.prefix, Cluster: cluster, Nodes: w.nodes, Now: w.clock,
		})
	}
	account, err := accounts.New(own, vault, swift.Options{}).Add(map[string]string{
		"ST_AUTH": server.URL, "ST_USER": server.User(), "ST_KEY": server.Key(),
	})
	w.check(err)
	w.Catalog, w.store = controller(w.authority), client
	parent, err := w.CreateVolume(w.ctx, catalog.VolumeSpec{Name: "parent", Required: 64 * mib, Account: account})
	w.check(err)
	e := w.attach(parent.ID, "n1")
	w.check(e.write(w.ctx, 0, "a"))
	w.detach(e)
	old := &authoritytest.Memory{}
	copied, _, err := w.authority.Volumes().Get(w.ctx, string(parent.ID))
	w.check(err)
	_, err = old.Volumes().Create(w.ctx, string(parent.ID), copied)
	w.check(err)
	spec := from("child", parent.ID)
	spec.Account = account
	child := w.clone(spec)

	rolledBack := controller(old)
	w.check(rolledBack.DeleteVolume(w.ctx, parent.ID))
	if _, err := rolledBack.Sweep(w.ctx); !errors.Is(err, catalog.ErrRolledBack) {
		t.Errorf("sweep: %v, want that the authority is an old copy", err)
	}
	w.holds(child.Head, map[uint64]string{0: "a"})
}
