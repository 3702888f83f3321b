package main

import (
	"context"
	"errors"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/volume"
)

const (
	kib   = 1 << 10
	mib   = 1 << 20
	gib   = 1 << 30
	tib   = 1 << 40
	block = 4 * kib
)

// journal makes the journal of a new epoch that continues head, which may be nil.
func (b *bench) journal(head *snapshots.Root, size, quota int64) (*delta.Journal, error) {
	config := delta.Config{Dir: b.Path("journal"), Quota: quota, AllowAnyFS: b.Quick}
	id := delta.Identity{Volume: ident.NewVolume(), Epoch: ident.NewEpoch(1)}
	return delta.Create(config, id, volume.InitialState(head, size))
}

// opened is a volume that is open, and its journal.
type opened struct {
	*volume.Volume
	journal *delta.Journal
}

// open opens a new epoch that continues head, on s, which may be c's decorator.
// Generations are made by Seal alone.
func (b *bench) open(s swift.Store, container string, head *snapshots.Root, size, quota int64) (*opened, error) {
	j, err := b.journal(head, size, quota)
	if err != nil {
		return nil, err
	}
	v, err := b.attach(s, container, head, j)
	if err != nil {
		return nil, errors.Join(err, j.Destroy())
	}
	return v, nil
}

func (b *bench) attach(s swift.Store, container string, head *snapshots.Root, j *delta.Journal) (*opened, error) {
	v, err := volume.Open(b.Ctx, volume.Config{
		Journal: j, Store: s, Container: container, Head: head,
		RPO: time.Hour, SnapshotOnly: true, Cache: volume.NewCache(256 * mib),
	})
	return &opened{v, j}, err
}

// end closes the volume without uploading, and removes its journal.
func (v *opened) end() error { return errors.Join(v.Stop(), v.journal.Destroy()) }

// publish makes a generation and waits until it is stored.
func (v *opened) publish(ctx context.Context) (*snapshots.Root, error) {
	gen, err := v.Seal(ctx, "")
	if err != nil {
		return nil, err
	}
	return v.Published(ctx, gen)
}
