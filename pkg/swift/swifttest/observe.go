package swifttest

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// Call is one call of a store's method.
type Call struct {
	Op        string // "put", "get", "head", "list", "delete", "delete many", "create container" …
	Container string
	Name      string // of the object, or the prefix of a listing
	Bytes     int64  // of the body, stored or received
}

// Observe returns s with a function that is called before every call and may
// delay it, or fail it. Bytes is known only of a put by then.
func Observe(s swift.Store, before func(context.Context, Call) error) swift.Store {
	return &observed{inner: s, before: before, after: func(Call) {}}
}

// Slow returns s with a delay before every call.
func Slow(s swift.Store, delay time.Duration) swift.Store {
	return Observe(s, func(ctx context.Context, _ Call) error {
		select {
		case <-time.After(delay):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}

// Counter records the calls of a store that succeeded.
type Counter struct {
	swift.Store
	mu    sync.Mutex
	calls []Call
}

// Count returns s with a record of its calls.
func Count(s swift.Store) *Counter {
	c := &Counter{}
	c.Store = &observed{
		inner:  s,
		before: func(context.Context, Call) error { return nil },
		after: func(call Call) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.calls = append(c.calls, call)
		},
	}
	return c
}

// Calls returns the record so far.
func (c *Counter) Calls() []Call {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.calls)
}

// Total counts the calls of one kind and their bytes; with op "" those of all.
func (c *Counter) Total(op string) (calls int, bytes int64) {
	for _, call := range c.Calls() {
		if op == "" || call.Op == op {
			calls++
			bytes += call.Bytes
		}
	}
	return calls, bytes
}

// Reset forgets the record.
func (c *Counter) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = nil
}

// observed tells of each call before it is made, and after it succeeded.
type observed struct {
	inner  swift.Store
	before func(context.Context, Call) error
	after  func(Call)
}

// around makes a call between the two; run may set the bytes.
func (o *observed) around(ctx context.Context, c Call, run func(bytes *int64) error) error {
	if err := o.before(ctx, c); err != nil {
		return err
	}
	if err := run(&c.Bytes); err != nil {
		return err
	}
	o.after(c)
	return nil
}

// CreateContainer implements [swift.Store].
func (o *observed) CreateContainer(ctx context.Context, container string) error {
	return o.around(ctx, Call{Op: "create container", Container: container}, func(*int64) error {
		return o.inner.CreateContainer(ctx, container)
	})
}

// DeleteContainer implements [swift.Store].
func (o *observed) DeleteContainer(ctx context.Context, container string) error {
	return o.around(ctx, Call{Op: "delete container", Container: container}, func(*int64) error {
		return o.inner.DeleteContainer(ctx, container)
	})
}

// Containers implements [swift.Store].
func (o *observed) Containers(ctx context.Context, prefix, marker string, limit int) (names []string, err error) {
	err = o.around(ctx, Call{Op: "list containers", Name: prefix}, func(*int64) (err error) {
		names, err = o.inner.Containers(ctx, prefix, marker, limit)
		return err
	})
	return names, err
}

// Put implements [swift.Store].
func (o *observed) Put(ctx context.Context, container, name string, body []byte, opts swift.PutOptions) (etag string, err error) {
	call := Call{Op: "put", Container: container, Name: name, Bytes: int64(len(body))}
	err = o.around(ctx, call, func(*int64) (err error) {
		etag, err = o.inner.Put(ctx, container, name, body, opts)
		return err
	})
	return etag, err
}

// Get implements [swift.Store].
func (o *observed) Get(ctx context.Context, container, name string, opts swift.GetOptions) (obj swift.Object, err error) {
	err = o.around(ctx, Call{Op: "get", Container: container, Name: name}, func(bytes *int64) (err error) {
		obj, err = o.inner.Get(ctx, container, name, opts)
		*bytes = int64(len(obj.Body))
		return err
	})
	return obj, err
}

// Head implements [swift.Store].
func (o *observed) Head(ctx context.Context, container, name string, opts swift.HeadOptions) (info swift.Info, err error) {
	err = o.around(ctx, Call{Op: "head", Container: container, Name: name}, func(*int64) (err error) {
		info, err = o.inner.Head(ctx, container, name, opts)
		return err
	})
	return info, err
}

// List implements [swift.Store].
func (o *observed) List(ctx context.Context, container, prefix, marker string, limit int) (rows []swift.Info, err error) {
	err = o.around(ctx, Call{Op: "list", Container: container, Name: prefix}, func(*int64) (err error) {
		rows, err = o.inner.List(ctx, container, prefix, marker, limit)
		return err
	})
	return rows, err
}

// Delete implements [swift.Store].
func (o *observed) Delete(ctx context.Context, container, name string) error {
	return o.around(ctx, Call{Op: "delete", Container: container, Name: name}, func(*int64) error {
		return o.inner.Delete(ctx, container, name)
	})
}

// DeleteMany implements [swift.Store].
func (o *observed) DeleteMany(ctx context.Context, container string, names []string) error {
	return o.around(ctx, Call{Op: "delete many", Container: container}, func(*int64) error {
		return o.inner.DeleteMany(ctx, container, names)
	})
}
