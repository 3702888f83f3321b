package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/embedded"
	"github.com/swiftblock/csi-swiftblock/pkg/volume"
	"github.com/swiftblock/csi-swiftblock/test/bench/report"
)

const (
	kib   = 1 << 10
	mib   = 1 << 20
	gib   = 1 << 30
	tib   = 1 << 40
	block = 4 * kib

	latency = 15 * time.Millisecond // of the slow store
)

// bench is one run.
type bench struct {
	ctx        context.Context
	options    options
	dir        string // removed at the end
	main, slow *store
	result     *report.Result
	closers    []func() error
	serial     int // gives directories names
}

// store is an object store, with what curl needs to know about it.
type store struct {
	*swift.Client
	name       string
	cred       swift.Credentials
	containers []string
}

func newBench(ctx context.Context, o options, r *report.Result) (b *bench, err error) {
	if err := os.MkdirAll(o.dir, 0o777); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(o.dir, "bench-engine-")
	if err != nil {
		return nil, err
	}
	b = &bench{ctx: ctx, options: o, dir: dir, result: r, closers: []func() error{func() error { return os.RemoveAll(dir) }}}
	if b.main, err = b.realStore(); b.main == nil && err == nil {
		b.main, err = b.embedded("embedded", 0)
	}
	if err == nil {
		b.slow, err = b.embedded("embedded with 15 ms latency", latency)
	}
	if err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

// close undoes everything, last things first.
func (b *bench) close() (err error) {
	for len(b.closers) > 0 {
		last := len(b.closers) - 1
		err = errors.Join(err, b.closers[last]())
		b.closers = b.closers[:last]
	}
	return err
}

// realStore is the Swift that the environment names, nil if it names none.
func (b *bench) realStore() (*store, error) {
	cred := swift.Credentials{Version: 1, AuthURL: os.Getenv("ST_AUTH"), User: os.Getenv("ST_USER"), Key: os.Getenv("ST_KEY")}
	if cred.AuthURL == "" {
		return nil, nil
	}
	return b.store("OpenStack Swift", cred)
}

func (b *bench) embedded(name string, latency time.Duration) (*store, error) {
	server, err := embedded.Start(b.path("store"), "127.0.0.1:0", embedded.Options{Latency: latency, NoSync: true})
	if err != nil {
		return nil, err
	}
	b.closers = append(b.closers, server.Close)
	return b.store(name, swift.Credentials{Version: 1, AuthURL: server.URL, User: server.User(), Key: server.Key()})
}

func (b *bench) store(name string, cred swift.Credentials) (*store, error) {
	client, err := swift.New(cred, swift.Options{})
	if err != nil {
		return nil, err
	}
	s := &store{Client: client, name: name, cred: cred}
	b.closers = append(b.closers, func() error {
		defer client.Close()
		return s.wipe(context.WithoutCancel(b.ctx))
	})
	return s, client.Check(b.ctx)
}

// container makes a container that is removed at the end.
func (s *store) container(ctx context.Context) (string, error) {
	name := "bench-" + string(ident.NewVolume())
	s.containers = append(s.containers, name)
	return name, s.CreateContainer(ctx, name)
}

// wipe removes the containers with all they hold.
func (s *store) wipe(ctx context.Context) error {
	for _, c := range s.containers {
		for {
			rows, err := s.List(ctx, c, "", "", 1000)
			if err != nil {
				return err
			}
			if len(rows) == 0 {
				break
			}
			var names []string
			for _, r := range rows {
				names = append(names, r.Name)
			}
			if err := s.DeleteMany(ctx, c, names); err != nil {
				return err
			}
		}
		if err := s.DeleteContainer(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// path names something new in the run's directory.
func (b *bench) path(what string) string {
	b.serial++
	return filepath.Join(b.dir, fmt.Sprintf("%03d-%s", b.serial, what))
}

// pick is the full size, or the one of -quick.
func pick[T any](b *bench, full, quick T) T {
	if b.options.quick {
		return quick
	}
	return full
}

// journal makes the journal of a new epoch that continues head, which may be nil.
func (b *bench) journal(head *snapshots.Root, size, quota int64) (*delta.Journal, error) {
	config := delta.Config{Dir: b.path("journal"), Quota: quota, AllowAnyFS: b.options.quick}
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
	v, err := volume.Open(b.ctx, volume.Config{
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

// workers runs f in n goroutines and returns the first error.
func workers(n int, f func(worker int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// noise returns n bytes that do not compress.
func noise(seed uint64, n int) []byte {
	p := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24)})
	rng.Read(p)
	return p
}

// seconds is how long f takes.
func seconds(f func() error) (float64, error) {
	start := time.Now()
	err := f()
	return time.Since(start).Seconds(), err
}

// turns runs two measurements in turn, n times each, after one turn that does not
// count, and returns what they measured.
func turns(n int, ours, peer func() (float64, error)) (a, z rounds, err error) {
	for i := range n + 1 {
		x, err := ours()
		if err != nil {
			return nil, nil, err
		}
		y, err := peer()
		if err != nil {
			return nil, nil, fmt.Errorf("peer: %w", err)
		}
		if i > 0 {
			a, z = append(a, x), append(z, y)
		}
	}
	return a, z, nil
}
