package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// trail is what Swift tells of a volume's epochs. Listings give hints, where rows
// may be missing or stale; what counts was read with X-Newest, and whatever comes
// after it was looked for.
type trail struct {
	epoch ident.Epoch     // the last one that was given out; zero: none
	root  *snapshots.Root // the newest one; nil: none
	// fenced is when the epoch was fenced; zero: it was not.
	fenced time.Time
}

// follow looks at a volume's container until so many looks have found nothing new.
func (c *Catalog) follow(ctx context.Context, container string, looks int) (trail, error) {
	var t trail
	for look := 0; look < looks; look++ {
		if look > 0 {
			if err := c.pause(ctx); err != nil {
				return t, err
			}
		}
		before := t
		if err := c.followEpochs(ctx, container, &t); err != nil {
			return t, err
		}
		if err := c.followRoots(ctx, container, &t); err != nil {
			return t, err
		}
		if t != before {
			look = 0
		}
	}
	return t, nil
}

// followEpochs moves to the last epoch that was given out.
func (c *Catalog) followEpochs(ctx context.Context, container string, t *trail) error {
	numbers, err := c.epochNumbers(ctx, container)
	if err != nil {
		return err
	}
	for _, n := range numbers {
		if n <= t.epoch.Number {
			break
		}
		e, err := c.givenOut(ctx, container, n)
		if err != nil {
			return err
		}
		if !e.IsZero() {
			t.epoch = e
			break
		}
	}
	for n := t.epoch.Number + 1; n <= t.epoch.Number+epochsAhead; n++ {
		e, err := c.givenOut(ctx, container, n)
		if err != nil {
			return err
		}
		if !e.IsZero() {
			t.epoch = e
		}
	}
	return nil
}

// epochNumbers lists the numbers of the epochs that were given out, highest first.
func (c *Catalog) epochNumbers(ctx context.Context, container string) ([]uint64, error) {
	var numbers []uint64
	for row, err := range swift.Rows(ctx, c.store, container, chunks.EpochPrefix) {
		if err != nil {
			return nil, err
		}
		n, err := strconv.ParseUint(strings.TrimPrefix(row.Name, chunks.EpochPrefix), 16, 64)
		if err == nil && chunks.EpochName(n) == row.Name {
			numbers = append(numbers, n)
		}
	}
	slices.SortFunc(numbers, func(a, b uint64) int { return cmp.Compare(b, a) })
	return numbers, nil
}

// givenOut returns the epoch that was given out under a number, zero if none was.
func (c *Catalog) givenOut(ctx context.Context, container string, n uint64) (ident.Epoch, error) {
	name := chunks.EpochName(n)
	body, err := c.read(ctx, container, name)
	if errors.Is(err, swift.ErrNotFound) {
		return ident.Epoch{}, nil
	}
	if err != nil {
		return ident.Epoch{}, err
	}
	e, err := ident.ParseEpoch(string(body))
	if err == nil && e.Number != n {
		err = fmt.Errorf("it is that of epoch %d", e.Number)
	}
	if err != nil {
		return ident.Epoch{}, fmt.Errorf("%s/%s: %w: %w", container, name, chunks.ErrDamaged, err)
	}
	return e, nil
}

// followRoots moves to the newest root: of the last epoch that has any, that of the
// highest generation.
func (c *Catalog) followRoots(ctx context.Context, container string, t *trail) error {
	var listed []chunks.ParsedName
	for row, err := range swift.Rows(ctx, c.store, container, chunks.RootPrefix) {
		if err != nil {
			return err
		}
		if name, err := chunks.ParseName(row.Name); err == nil && t.before(name) {
			listed = append(listed, name)
		}
	}
	for _, name := range slices.Backward(listed) { // rows are in the order of generations
		e, err := c.givenOut(ctx, container, name.Epoch.Number)
		if err != nil {
			return err
		}
		if e != name.Epoch {
			continue // of an epoch that nobody gave out
		}
		if found, err := c.rootAt(ctx, container, e, name.Gen); err != nil {
			return err
		} else if found != nil {
			t.root = found
			break
		}
	}
	if t.root != nil {
		if err := c.climb(ctx, container, t, t.root.Ref.Epoch); err != nil {
			return err
		}
	}
	if t.root == nil || t.root.Ref.Epoch.Number < t.epoch.Number {
		return c.climb(ctx, container, t, t.epoch)
	}
	return nil
}

// before reports whether a listed root may be newer than the newest one known.
func (t *trail) before(name chunks.ParsedName) bool {
	if t.root == nil || name.Epoch.Number != t.root.Ref.Epoch.Number {
		return t.root == nil || name.Epoch.Number > t.root.Ref.Epoch.Number
	}
	return name.Gen > t.root.Ref.Gen
}

// climb looks for roots of an epoch above the newest one known.
func (c *Catalog) climb(ctx context.Context, container string, t *trail, e ident.Epoch) error {
	if e.IsZero() {
		return nil
	}
	last := uint64(0)
	if t.root != nil && t.root.Ref.Epoch == e {
		last = t.root.Ref.Gen
	}
	for gen := last + 1; gen <= last+searchAhead; gen++ {
		found, err := c.rootAt(ctx, container, e, gen)
		if err != nil {
			return err
		}
		if found != nil {
			t.root, last = found, gen
		}
	}
	return nil
}

// rootAt reads the root of a generation; nil if there is none.
func (c *Catalog) rootAt(ctx context.Context, container string, e ident.Epoch, gen uint64) (*snapshots.Root, error) {
	at := chunks.Location{Container: container, Name: chunks.RootName(e, gen)}
	o, err := c.store.Get(ctx, at.Container, at.Name, swift.GetOptions{Newest: true})
	if errors.Is(err, swift.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return snapshots.DecodeRoot(at, o.Body)
}
