package catalog_test

import (
	"context"
	"sync"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// ticking is a clock that goes on by a millisecond whenever somebody looks at it, and
// by what a test lets pass: no two looks are the same, and a run can be repeated.
type ticking struct {
	mu sync.Mutex
	at time.Time
}

func (c *ticking) now() time.Time {
	c.pass(time.Millisecond)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *ticking) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// datedStore dates objects by a clock of the test, as far as they were put through it.
type datedStore struct {
	swift.Store
	now   func() time.Time
	mu    sync.Mutex
	dates map[string]time.Time // by container/name
}

func (s *datedStore) date(container string, info *swift.Info) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := s.dates[container+"/"+info.Name]; ok {
		info.Modified = at
	}
}

func (s *datedStore) Put(ctx context.Context, container, name string, body []byte, o swift.PutOptions) (string, error) {
	etag, err := s.Store.Put(ctx, container, name, body, o)
	if err == nil {
		at := s.now()
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.dates == nil {
			s.dates = map[string]time.Time{}
		}
		s.dates[container+"/"+name] = at
	}
	return etag, err
}

func (s *datedStore) Get(ctx context.Context, container, name string, o swift.GetOptions) (swift.Object, error) {
	object, err := s.Store.Get(ctx, container, name, o)
	s.date(container, &object.Info)
	return object, err
}

func (s *datedStore) Head(ctx context.Context, container, name string, o swift.HeadOptions) (swift.Info, error) {
	info, err := s.Store.Head(ctx, container, name, o)
	s.date(container, &info)
	return info, err
}

func (s *datedStore) List(ctx context.Context, container, prefix, marker string, limit int) ([]swift.Info, error) {
	rows, err := s.Store.List(ctx, container, prefix, marker, limit)
	for i := range rows {
		s.date(container, &rows[i])
	}
	return rows, err
}
