package attach

import (
	"errors"
	"fmt"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/target"
	"github.com/swiftblock/csi-swiftblock/pkg/volume"
)

func TestSenseTellsWhatPassesFromWhatDoesNot(t *testing.T) {
	for cause, want := range map[error]error{
		volume.ErrDamaged:      target.ErrMedium,
		delta.ErrDamaged:       target.ErrMedium,
		volume.ErrFenced:       target.ErrGone,
		volume.ErrSecondWriter: target.ErrGone,
		delta.ErrStopped:       target.ErrGone,
		swift.ErrUnavailable:   target.ErrUnavailable,
		errors.New("new"):      target.ErrUnavailable,
	} {
		got := sense(&volume.Error{Op: "read", Err: fmt.Errorf("deep inside: %w", cause)})
		if !errors.Is(got, want) || !errors.Is(got, cause) {
			t.Errorf("%v becomes %v, want %v", cause, got, want)
		}
	}
	if err := sense(nil); err != nil {
		t.Errorf("success becomes %v", err)
	}
}
