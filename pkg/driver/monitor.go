package driver

import (
	"context"
	"sync"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sync/errgroup"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// Board shows people how volumes fare.
type Board interface {
	// Show takes in how all volumes fare.
	Show(ctx context.Context, fares map[ident.Volume]authority.Fare) error
}

// Monitor looks at the volumes, so that people see how they fare without asking:
// the nodes themselves write nothing to the board.
type Monitor struct {
	Catalog Catalog
	Exports Exports
	Board   Board
}

// monitorPage is how many volumes are listed at a time.
const monitorPage = 500

// Round looks at each volume once.
func (m Monitor) Round(ctx context.Context) error {
	fares := make(map[ident.Volume]authority.Fare)
	var mu sync.Mutex // guards fares
	m.Exports = &sparing{Exports: m.Exports}
	for from := authority.Beginning; ; {
		volumes, next, err := m.Catalog.ListVolumes(ctx, from, monitorPage)
		if err != nil {
			return err
		}
		var asked errgroup.Group
		asked.SetLimit(healthAsked)
		for _, v := range volumes {
			asked.Go(func() error {
				fare := m.fare(ctx, v)
				mu.Lock()
				defer mu.Unlock()
				fares[v.ID] = fare
				return nil
			})
		}
		asked.Wait()
		if err := ctx.Err(); err != nil {
			return err // what was seen of nodes since then is not true
		}
		if from = next; from == authority.Beginning {
			return m.Board.Show(ctx, fares)
		}
	}
}

var severityOf = map[csi.VolumeHealthErrorType]authority.Severity{
	csi.VolumeHealthErrorType_DEGRADED:     authority.Degraded,
	csi.VolumeHealthErrorType_INACCESSIBLE: authority.Inaccessible,
	csi.VolumeHealthErrorType_DATA_LOSS:    authority.DataLoss,
}

func (m Monitor) fare(ctx context.Context, v authority.Volume) (fare authority.Fare) {
	health, answer := lookAt(ctx, m.Exports, v)
	switch {
	case !v.Opening.Open:
		fare.Figures = &authority.Figures{}
	case answer != nil && answer.GetEpoch() != nil: // it is served
		fare.Figures = figures(answer)
	}
	for _, h := range health.HealthStatuses {
		fare.Conditions = append(fare.Conditions, authority.Condition{
			Severity: severityOf[h.GetStatus()], Reason: h.GetReason(), Message: h.GetMessage(), Remedy: Remedy(h.GetReason()),
		})
	}
	return fare
}

func figures(answer *wire.StatusResponse) *authority.Figures {
	f := &authority.Figures{Dirty: answer.GetDirtyBytes()}
	if ms := answer.GetPublishedMs(); ms > 0 {
		f.Published = time.UnixMilli(ms).UTC()
	}
	return f
}

// Remedy says what to do about a condition, by its reason.
func Remedy(reason string) string { return remedies[reason] }

// remedies say for each reason what to do; docs/operations.md says more.
var remedies = map[string]string{
	wire.ReasonFenced:             "the volume goes on elsewhere; what this node had not uploaded is kept: csi-swiftblock journal ls there",
	wire.ReasonEpochEnded:         "the volume goes on elsewhere; what this node had not uploaded is kept: csi-swiftblock journal ls there",
	wire.ReasonSecondWriter:       "two nodes believed they may write: restart neither, keep both journals, report it",
	wire.ReasonJournalStopped:     "the disk of the journal failed a write: look at the kernel's log of the node, and keep the directory",
	wire.ReasonJournalDamaged:     "look at the disk; where the volume is not served, move its directory out of export --state, keep it, restart export, then csi-swiftblock volume unpublish --force: it goes on as last published",
	wire.ReasonDataDamaged:        "csi-swiftblock check --data names the object; restore a snapshot from before it; keep the container",
	wire.ReasonSwiftUnreachable:   "bring Swift back, or the network from that node to it: writes go on until the journal is full, then wait",
	wire.ReasonSwiftRefuses:       "put good credentials into the Secret: they are taken up without a restart",
	wire.ReasonSwiftQuotaExceeded: "raise the quota of the Swift account, or delete volumes and snapshots",
	wire.ReasonUploadFailing:      "the message says why; csi-swiftblock check names what Swift does not have; the volume is served until its journal is full",
	wire.ReasonUploadOverdue:      "Swift takes less than is written: look at its load and at the limits uploadBandwidth and --background",
	wire.ReasonJournalNearlyFull:  "let uploads catch up, or stop the writer; a larger journalSize holds for new volumes",
	wire.ReasonNotServed:          "the message says why, and the journal is kept; what waits for a controller is tried again by itself; where record.json or head is torn, rescue by csi-swiftblock journal export --damaged, move the volume's directory out of export --state, restart export, then csi-swiftblock volume unpublish --force",
	wire.ReasonNotLoggedIn:        "look at iscsid on the node, which makes the session again; where somebody has logged out, restart the pod that uses the volume",
	wire.ReasonEnded:              "the message says why; the journal is kept: restart the pod that uses the volume",
	reasonNodeAway:                "bring the node or its export back; if it is gone for good, taint it node.kubernetes.io/out-of-service or delete it (csi-swiftblock nodes give-up without Kubernetes)",
	reasonRolledBack:              "what was lost is in the journal of that node, if its disk lives: csi-swiftblock journal ls, then journal export",
	reasonExportAway:              "look at the export container of the node: I/O goes on when it is back",
}
