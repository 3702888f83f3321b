package catalog_test

import (
	"context"

	"github.com/swiftblock/csi-swiftblock/pkg/authority/authoritytest"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// guardedStore is a store whose calls pass through a gate.
type guardedStore struct {
	swift.Store
	gate authoritytest.Gate
}

func (s *guardedStore) CreateContainer(ctx context.Context, container string) error {
	return s.gate.Step(func() error { return s.Store.CreateContainer(ctx, container) })
}

func (s *guardedStore) DeleteContainer(ctx context.Context, container string) error {
	return s.gate.Step(func() error { return s.Store.DeleteContainer(ctx, container) })
}

func (s *guardedStore) Put(ctx context.Context, container, name string, body []byte, o swift.PutOptions) (etag string, err error) {
	err = s.gate.Step(func() error { etag, err = s.Store.Put(ctx, container, name, body, o); return err })
	return etag, err
}

func (s *guardedStore) Get(ctx context.Context, container, name string, o swift.GetOptions) (object swift.Object, err error) {
	err = s.gate.Look(func() error { object, err = s.Store.Get(ctx, container, name, o); return err })
	return object, err
}

func (s *guardedStore) Head(ctx context.Context, container, name string, o swift.HeadOptions) (info swift.Info, err error) {
	err = s.gate.Look(func() error { info, err = s.Store.Head(ctx, container, name, o); return err })
	return info, err
}

func (s *guardedStore) List(ctx context.Context, container, prefix, marker string, limit int) (list []swift.Info, err error) {
	err = s.gate.Look(func() error { list, err = s.Store.List(ctx, container, prefix, marker, limit); return err })
	return list, err
}

func (s *guardedStore) Delete(ctx context.Context, container, name string) error {
	return s.gate.Step(func() error { return s.Store.Delete(ctx, container, name) })
}

// DeleteMany is two steps: a batch may be deleted in part.
func (s *guardedStore) DeleteMany(ctx context.Context, container string, names []string) error {
	for _, part := range [][]string{names[:len(names)/2], names[len(names)/2:]} {
		if err := s.gate.Step(func() error { return s.Store.DeleteMany(ctx, container, part) }); err != nil {
			return err
		}
	}
	return nil
}
