package attach

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/swiftblock/csi-swiftblock/pkg/class"
	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/volume"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

func TestConditions(t *testing.T) {
	now := time.Now()
	minute := class.Mutable{RPO: time.Minute}
	failing := func(err error) volume.Stats { return volume.Stats{Failing: fmt.Errorf("put: %w", err)} }
	for _, c := range []struct {
		name    string
		stats   volume.Stats
		ended   error
		mutable class.Mutable
		want    []string
	}{
		{"nothing", volume.Stats{Waiting: now.Add(-2 * time.Minute)}, nil, minute, nil},
		{"overdue", volume.Stats{Waiting: now.Add(-4 * time.Minute)}, nil, minute, []string{"UploadOverdue"}},
		{"a snapshot is late", volume.Stats{Waiting: now.Add(-4 * time.Minute)}, nil, class.Mutable{}, nil},
		{"nearly full", volume.Stats{Journal: delta.Stats{Fill: 0.91}}, nil, minute, []string{"JournalNearlyFull"}},
		{"Swift away", failing(swift.ErrUnavailable), nil, minute, []string{"SwiftUnreachable"}},
		{"no quota", failing(swift.ErrQuota), nil, minute, []string{"SwiftQuotaExceeded"}},
		{"wrong key", failing(swift.ErrUnauthorized), nil, minute, []string{"SwiftRefusesCredentials"}},
		{"something else", failing(errors.New("?")), nil, minute, []string{"UploadFailing"}},
		{"damage", volume.Stats{Damaged: volume.ErrDamaged, Failing: volume.ErrDamaged}, nil, minute, []string{"DataDamaged"}},
		{"fenced", volume.Stats{}, volume.ErrFenced, minute, []string{"Fenced"}},
		{"a cause without a name", volume.Stats{}, errors.New("?"), minute, []string{"Ended"}},
		{"a second writer", volume.Stats{}, volume.ErrSecondWriter, minute, []string{"SecondWriter"}},
		{"all at once", volume.Stats{
			Failing: swift.ErrUnavailable, Waiting: now.Add(-time.Hour), Journal: delta.Stats{Fill: 1},
		}, volume.ErrFenced, minute, []string{"Fenced", "SwiftUnreachable", "UploadOverdue", "JournalNearlyFull"}},
	} {
		var have []string
		for _, condition := range conditions(c.stats, c.ended, c.mutable, 0, now) {
			if condition.Message == "" || condition.Severity == wire.Severity_SEVERITY_UNKNOWN {
				t.Errorf("%s: %v does not say what it means", c.name, condition)
			}
			have = append(have, condition.Reason)
		}
		if !slices.Equal(have, c.want) {
			t.Errorf("%s: %v, want %v", c.name, have, c.want)
		}
	}
}

// conditions are those of the volume; none while another call has its turn.
func (n *node) conditions() []*wire.Condition {
	n.t.Helper()
	answer, err := n.exports.Status(n.t.Context(), &wire.StatusRequest{Volume: string(n.id)})
	if err != nil && status.Code(err) != codes.Aborted {
		n.t.Fatal(err)
	}
	return answer.GetConditions()
}

func (n *node) reasons() (reasons []string) {
	n.t.Helper()
	for _, c := range n.conditions() {
		reasons = append(reasons, c.GetReason())
	}
	return reasons
}
