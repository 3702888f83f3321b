package attach

import (
	"context"
	"errors"
	"fmt"

	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/target"
	"github.com/swiftblock/csi-swiftblock/pkg/volume"
)

// lun offers a volume to the target. Its only work is to tell failures that end
// the volume from those that pass: Linux must not retry the first for ever, and
// must retry the second.
type lun struct{ *volume.Volume }

var _ target.Device = lun{}

func (l lun) ReadAt(ctx context.Context, p []byte, off int64) error {
	return sense(l.Volume.ReadAt(ctx, p, off))
}

func (l lun) WriteAt(ctx context.Context, p []byte, off int64, fua bool) error {
	return sense(l.Volume.WriteAt(ctx, p, off, fua))
}

func (l lun) Flush(ctx context.Context) error { return sense(l.Volume.Flush(ctx)) }

func (l lun) Discard(ctx context.Context, off, n int64) error {
	return sense(l.Volume.Discard(ctx, off, n))
}

func (l lun) WriteZeroes(ctx context.Context, off, n int64, fua bool) error {
	return sense(l.Volume.WriteZeroes(ctx, off, n, fua))
}

// final are the failures that no retry of the initiator can mend.
var final = []error{volume.ErrDamaged, volume.ErrFenced, volume.ErrSecondWriter, delta.ErrDamaged, delta.ErrStopped}

func sense(err error) error {
	if err == nil {
		return nil
	}
	for _, f := range final {
		if errors.Is(err, f) {
			return fmt.Errorf("%w: %w", target.ErrMedium, err)
		}
	}
	return fmt.Errorf("%w: %w", target.ErrUnavailable, err)
}
