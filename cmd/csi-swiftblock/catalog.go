package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/swiftblock/csi-swiftblock/pkg/accounts"
	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/driver"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
	"github.com/swiftblock/csi-swiftblock/pkg/preflight"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// catalogFlags are what every command needs that works on the catalog.
type catalogFlags struct {
	authority, prefix, cluster string
	certificates               string
	grace                      time.Duration
}

func (f *catalogFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.authority, "authority", defaultState+"/authority", "directory of the records of volumes and snapshots, or kubernetes: custom resources of the cluster")
	c.Flags().StringVar(&f.prefix, "prefix", "swiftblock_", "what the names of our containers in Swift begin with")
	c.Flags().StringVar(&f.cluster, "cluster", noCluster, "name of this cluster, in Kubernetes the clusterName of the chart; containers of another one are refused")
	c.MarkFlagDirname("authority")
	addCertificates(c, &f.certificates)
}

// session is what a command works with.
type session struct {
	records  authority.Authority
	accounts *accounts.Accounts
	keys     keys.Vault
	catalog  *catalog.Catalog
	store    swift.Store                        // every container, in its account; not for who needs the records only
	givenUp  authority.Table[authority.GivenUp] // nil in Kubernetes, which knows by itself
}

// noCluster is the name where there is no Kubernetes.
const noCluster = "standalone"

// create opens records and store for who makes containers, and makes an authority where
// there is none.
func (f *catalogFlags) create() (*session, error) {
	if f.authority == inKubernetes && f.cluster == noCluster {
		return nil, errors.New("--cluster: give the clusterName of the chart: its controller refuses what is made for another cluster")
	}
	return f.both()
}

// both opens records and store.
func (f *catalogFlags) both() (*session, error) {
	store, err := openStore()
	if err != nil {
		return nil, err
	}
	return f.session(store)
}

// open opens the records of an authority that exists, and the store.
func (f *catalogFlags) open() (*session, error) {
	if err := f.exists(); err != nil {
		return nil, err
	}
	return f.both()
}

// openRecords opens the records alone, for what does not ask Swift.
func (f *catalogFlags) openRecords() (*session, error) {
	if err := f.exists(); err != nil {
		return nil, err
	}
	return f.session(nil)
}

// openVolume is open for what is about one volume, by id or name.
func (f *catalogFlags) openVolume(ctx context.Context, arg string) (*session, authority.Volume, error) {
	s, err := f.open()
	if err != nil {
		return nil, authority.Volume{}, err
	}
	v, err := s.volume(ctx, arg)
	return s, v, err
}

// exists keeps a mistyped directory from looking like an empty catalog.
func (f *catalogFlags) exists() error {
	if f.authority == inKubernetes {
		return nil
	}
	if _, err := os.Stat(f.authority); err != nil {
		if os.IsNotExist(err) {
			err = fs.ErrNotExist
		}
		return fmt.Errorf("authority %s: %w: give the controller's directory by --authority", f.authority, err)
	}
	return nil
}

func (f *catalogFlags) session(store swift.Store) (*session, error) {
	if err := catalog.CheckPrefix(f.prefix); err != nil {
		return nil, err
	}
	s := &session{}
	vault, err := f.records(s)
	if err != nil {
		return nil, err
	}
	nodes, err := f.nodes()
	if err != nil {
		return nil, err
	}
	s.accounts, s.keys = accounts.New(store, vault, swift.Options{}), keys.Vault{Store: vault}
	s.catalog = catalog.New(catalog.Config{
		Authority: s.records, Store: store, Accounts: s.accounts,
		Prefix: f.prefix, Cluster: f.cluster, Grace: f.grace, Nodes: nodes, Date: dateOf(store),
	})
	s.store = s.catalog.Store()
	return s, nil
}

// dateOf asks a store for its time; nil for one that does not tell.
func dateOf(store swift.Store) func(context.Context) (time.Time, error) {
	dated, ok := store.(preflight.Account)
	if !ok {
		return nil
	}
	return func(ctx context.Context) (time.Time, error) {
		account, err := dated.Account(ctx)
		return account.Date, err
	}
}

// nodes reaches the export processes.
func (f *catalogFlags) nodes() (driver.Nodes, error) {
	keys, err := openKeys(f.certificates)
	return driver.Nodes{Keys: keys}, err
}

// listPage is how many records a listing asks for at one time.
const listPage = 1000

// eachVolume calls visit for every volume that is ready, by id.
func (s *session) eachVolume(ctx context.Context, visit func(authority.Volume) error) error {
	return each(func(from authority.Place) ([]authority.Volume, authority.Place, error) {
		return s.catalog.ListVolumes(ctx, from, listPage)
	}, visit)
}

// eachSnapshot is eachVolume for snapshots.
func (s *session) eachSnapshot(ctx context.Context, visit func(authority.Snapshot) error) error {
	return each(func(from authority.Place) ([]authority.Snapshot, authority.Place, error) {
		return s.catalog.ListSnapshots(ctx, "", from, listPage)
	}, visit)
}

// each visits what a listing has, page by page.
func each[T any](list func(authority.Place) ([]T, authority.Place, error), visit func(T) error) error {
	var from authority.Place
	for {
		page, next, err := list(from)
		if err != nil {
			return err
		}
		for _, v := range page {
			if err := visit(v); err != nil {
				return err
			}
		}
		if next == "" {
			return nil
		}
		from = next
	}
}
