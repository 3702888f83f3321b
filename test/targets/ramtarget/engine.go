package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/embedded"
	"github.com/swiftblock/csi-swiftblock/pkg/volume"
)

// Sizes of an engine, in bytes.
const (
	journalQuota = 8 << 30
	cacheSize    = 128 << 20
)

// engine is a device that is a volume of the block engine, with its journal and an
// object store in a directory that goes with it.
type engine struct {
	*volume.Volume
	dir   string
	store *swift.Client
	swift *embedded.Server
}

// newEngine makes one in a new directory under parent.
func newEngine(ctx context.Context, parent string, size int64) (e *engine, err error) {
	e = &engine{}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close())
		}
	}()
	if e.dir, err = os.MkdirTemp(parent, "engine-"); err != nil {
		return e, err
	}
	if e.swift, err = embedded.Start(filepath.Join(e.dir, "swift"), "127.0.0.1:0", embedded.Options{}); err != nil {
		return e, err
	}
	cred := swift.Credentials{Version: 1, AuthURL: e.swift.URL, User: e.swift.User(), Key: e.swift.Key()}
	if e.store, err = swift.New(cred, swift.Options{}); err != nil {
		return e, err
	}
	const container = "bench"
	if err := e.store.CreateContainer(ctx, container); err != nil {
		return e, err
	}
	id := delta.Identity{Volume: ident.NewVolume(), Epoch: ident.NewEpoch(1)}
	journal := delta.Config{Dir: filepath.Join(e.dir, "journal"), Quota: journalQuota}
	j, err := delta.Create(journal, id, volume.InitialState(nil, size))
	if err != nil {
		return e, err
	}
	e.Volume, err = volume.Open(ctx, volume.Config{
		Journal: j, Store: e.store, Container: container, RPO: time.Minute, Cache: volume.NewCache(cacheSize),
	})
	if err != nil {
		err = errors.Join(err, j.Close())
	}
	return e, err
}

func (e *engine) grow() (int64, error) {
	size := e.Size() / 2 * 3
	return size, e.Resize(context.Background(), size)
}

// close gives the device up, and all it holds.
func (e *engine) close() (err error) {
	if e.Volume != nil {
		err = e.Stop()
	}
	if e.store != nil {
		e.store.Close()
	}
	if e.swift != nil {
		err = errors.Join(err, e.swift.Close())
	}
	return errors.Join(err, os.RemoveAll(e.dir))
}
