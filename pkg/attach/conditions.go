package attach

import (
	"errors"
	"fmt"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/class"
	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/volume"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// When a condition is reported.
const (
	overdueAfter = 3   // times the RPO that a generation may wait for its publication
	nearlyFull   = 0.9 // of the journal; from 0.75 on writes are delayed

	// vacantAfter is how long a volume that is offered may have no session. Initiators come
	// back to a restarted target within seconds. And between two tries of NodeStage kubelet
	// waits for up to 2m2s: where one fails after its login, the pod's events say why.
	vacantAfter = 3 * time.Minute
)

// causes are the failures that have a name of their own. The first that matches
// counts.
var causes = []struct {
	is       error
	severity wire.Severity
	reason   string
}{
	{errLost, wire.Severity_SEVERITY_INACCESSIBLE, wire.ReasonEpochEnded},
	{volume.ErrFenced, wire.Severity_SEVERITY_INACCESSIBLE, wire.ReasonFenced},
	{volume.ErrSecondWriter, wire.Severity_SEVERITY_INACCESSIBLE, wire.ReasonSecondWriter},
	{delta.ErrStopped, wire.Severity_SEVERITY_INACCESSIBLE, wire.ReasonJournalStopped},
	{delta.ErrDamaged, wire.Severity_SEVERITY_DATA_LOSS, wire.ReasonJournalDamaged},
	{volume.ErrDamaged, wire.Severity_SEVERITY_DATA_LOSS, wire.ReasonDataDamaged},
	{swift.ErrUnavailable, wire.Severity_SEVERITY_DEGRADED, wire.ReasonSwiftUnreachable},
	{swift.ErrUnauthorized, wire.Severity_SEVERITY_DEGRADED, wire.ReasonSwiftRefuses},
	{swift.ErrQuota, wire.Severity_SEVERITY_DEGRADED, wire.ReasonSwiftQuotaExceeded},
}

// condition is what an administrator must know of a failure; of one without a
// name of its own it is otherwise.
func condition(err error, otherwise wire.Severity, reason string) *wire.Condition {
	for _, c := range causes {
		if errors.Is(err, c.is) {
			return &wire.Condition{Severity: c.severity, Reason: c.reason, Message: err.Error()}
		}
	}
	return &wire.Condition{Severity: otherwise, Reason: reason, Message: err.Error()}
}

// conditions are those of a volume that is served, and has had no session for a while.
func conditions(s volume.Stats, ended error, p class.Mutable, vacant time.Duration, now time.Time) []*wire.Condition {
	var all []*wire.Condition
	add := func(c *wire.Condition) {
		for _, other := range all {
			if other.Reason == c.Reason {
				return
			}
		}
		all = append(all, c)
	}
	if ended != nil {
		add(condition(ended, wire.Severity_SEVERITY_INACCESSIBLE, wire.ReasonEnded))
	}
	if s.Stopped != nil {
		add(condition(s.Stopped, wire.Severity_SEVERITY_INACCESSIBLE, wire.ReasonJournalStopped))
	}
	if s.Damaged != nil {
		add(condition(s.Damaged, wire.Severity_SEVERITY_DATA_LOSS, wire.ReasonDataDamaged))
	}
	if s.Failing != nil {
		add(condition(s.Failing, wire.Severity_SEVERITY_DEGRADED, wire.ReasonUploadFailing))
	}
	if late := now.Sub(s.Waiting); !s.Waiting.IsZero() && p.RPO > 0 && late > overdueAfter*p.RPO {
		add(&wire.Condition{
			Severity: wire.Severity_SEVERITY_DEGRADED, Reason: wire.ReasonUploadOverdue,
			Message: fmt.Sprintf("what was written %v ago is not in Swift yet; the class wants it there after %v", late.Round(time.Second), p.RPO),
		})
	}
	if s.Journal.Fill > nearlyFull {
		add(&wire.Condition{
			Severity: wire.Severity_SEVERITY_DEGRADED, Reason: wire.ReasonJournalNearlyFull,
			Message: fmt.Sprintf("the journal is %.0f %% full; until something is uploaded writes are delayed, and from %.0f %% on held", 100*s.Journal.Fill, 100*delta.HoldAt),
		})
	}
	if vacant > vacantAfter {
		add(&wire.Condition{
			Severity: wire.Severity_SEVERITY_INACCESSIBLE, Reason: wire.ReasonNotLoggedIn,
			Message: fmt.Sprintf("the node's initiator has had no session with the volume's target for %v", vacant.Round(time.Second)),
		})
	}
	return all
}
