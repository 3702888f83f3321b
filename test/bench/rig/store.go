package rig

import (
	"context"
	"os"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/embedded"
)

// Store is an object store, with what other programs need to know about it.
type Store struct {
	*swift.Client
	Name       string
	Cred       swift.Credentials
	containers []string
}

// realStore is the Swift that the environment names, nil if it names none.
func (b *Bench) realStore() (*Store, error) {
	cred := swift.Credentials{Version: 1, AuthURL: os.Getenv("ST_AUTH"), User: os.Getenv("ST_USER"), Key: os.Getenv("ST_KEY")}
	if cred.AuthURL == "" {
		return nil, nil
	}
	return b.store("OpenStack Swift", cred)
}

// Embedded starts an embedded store. A durable one syncs what it stores before it
// answers.
func (b *Bench) Embedded(name string, latency time.Duration, durable bool) (*Store, error) {
	server, err := embedded.Start(b.Path("store"), "127.0.0.1:0", embedded.Options{Latency: latency, NoSync: !durable})
	if err != nil {
		return nil, err
	}
	b.closers = append(b.closers, server.Close)
	return b.store(name, swift.Credentials{Version: 1, AuthURL: server.URL, User: server.User(), Key: server.Key()})
}

func (b *Bench) store(name string, cred swift.Credentials) (*Store, error) {
	client, err := swift.New(cred, swift.Options{})
	if err != nil {
		return nil, err
	}
	s := &Store{Client: client, Name: name, Cred: cred}
	b.closers = append(b.closers, func() error {
		defer client.Close()
		return s.wipe(context.WithoutCancel(b.Ctx))
	})
	return s, client.Check(b.Ctx)
}

// Container makes a container that is removed at the end.
func (s *Store) Container(ctx context.Context) (string, error) {
	name := "bench-" + string(ident.NewVolume())
	s.Remove(name)
	return name, s.CreateContainer(ctx, name)
}

// Remove removes a container at the end, with all that it holds then.
func (s *Store) Remove(container string) { s.containers = append(s.containers, container) }

// wipe removes the containers with all they hold.
func (s *Store) wipe(ctx context.Context) error {
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
