package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
)

// What was deleted stays for a grace, and the objects that it is about are dated by the
// store. So a tombstone is dated by the first sweep that sees it, for a sweep holds our
// clock against the store's before; whoever deletes may reach no store, and have a clock
// that is days behind.

// now is the date for records: whole milliseconds, as every format can hold it.
func (c *Catalog) now() time.Time { return c.config.Now().UTC().Truncate(time.Millisecond) }

// old reports whether t is at least a grace ago. What has no date yet is of now.
func (c *Catalog) old(t time.Time) bool {
	now := c.now()
	if t.IsZero() {
		t = now
	}
	return now.Sub(t) >= c.config.Grace
}

// date gives a tombstone its date, unless it has one.
func date[T any](ctx context.Context, c *Catalog, t authority.Table[T], row authority.Row[T], of func(*T) *time.Time) error {
	if !of(&row.Value).IsZero() {
		return nil
	}
	*of(&row.Value) = c.now()
	_, err := t.Update(ctx, row.Key, row.Value, row.Version)
	if errors.Is(err, authority.ErrConflict) { // another sweep was faster
		return nil
	}
	return err
}

// clockOff is how far our clock may be from the store's.
const clockOff = 5 * time.Minute

// checkClock refuses to go by a clock that would make everything look old, now or, if it
// dates by it, once it is right.
func (c *Catalog) checkClock(ctx context.Context) error {
	if c.config.Date == nil {
		return nil
	}
	date, err := c.config.Date(ctx)
	if err != nil || date.IsZero() {
		return err
	}
	off, where := c.now().Sub(date), "ahead of"
	if off < 0 {
		off, where = -off, "behind"
	}
	if off > clockOff {
		return fmt.Errorf("this clock is %v %s the object store's, so how old anything is cannot be told, and nothing is deleted: set it by NTP", off.Round(time.Second), where)
	}
	return nil
}
