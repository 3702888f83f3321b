package attach

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/target"
	"github.com/swiftblock/csi-swiftblock/pkg/volume"
)

// lun offers a volume to the target, within the volume's limits. It tells failures
// that end the volume from those that pass: Linux must not retry the first for
// ever, and must retry the second.
type lun struct {
	*volume.Volume
	limits *limits
	meters meters
}

var (
	_ target.Device = lun{}
	_ target.Mapper = lun{}
)

func (l lun) ReadAt(ctx context.Context, p []byte, off int64) error {
	defer observe(l.meters.read, time.Now())
	if err := l.limits.command(ctx, len(p)); err != nil {
		return sense(err)
	}
	return sense(l.Volume.ReadAt(ctx, p, off))
}

func (l lun) WriteAt(ctx context.Context, p []byte, off int64, fua bool) error {
	defer observe(l.meters.write, time.Now())
	if err := l.limits.command(ctx, len(p)); err != nil {
		return sense(err)
	}
	return sense(l.Volume.WriteAt(ctx, p, off, fua))
}

func (l lun) Flush(ctx context.Context) error {
	defer observe(l.meters.flush, time.Now())
	return sense(l.Volume.Flush(ctx))
}

func (l lun) Discard(ctx context.Context, off, n int64) error {
	defer observe(l.meters.discard, time.Now())
	if err := l.limits.command(ctx, 0); err != nil {
		return sense(err)
	}
	return sense(l.Volume.Discard(ctx, off, n))
}

func (l lun) WriteZeroes(ctx context.Context, off, n int64, fua bool) error {
	defer observe(l.meters.zero, time.Now())
	if err := l.limits.command(ctx, 0); err != nil {
		return sense(err)
	}
	return sense(l.Volume.WriteZeroes(ctx, off, n, fua))
}

func (l lun) Mapped(ctx context.Context, off, n int64) (bool, int64, error) {
	stored, length, err := l.Volume.Mapped(ctx, off, n)
	return stored, length, sense(err)
}

// gone are the failures that end the volume on this node though no data is bad.
var gone = []error{volume.ErrFenced, volume.ErrSecondWriter, delta.ErrStopped}

func sense(err error) error {
	is := func(kind error) bool { return errors.Is(err, kind) }
	switch {
	case err == nil:
		return nil
	case is(volume.ErrDamaged), is(delta.ErrDamaged):
		return fmt.Errorf("%w: %w", target.ErrMedium, err)
	case slices.ContainsFunc(gone, is):
		return fmt.Errorf("%w: %w", target.ErrGone, err)
	}
	return fmt.Errorf("%w: %w", target.ErrUnavailable, err)
}
