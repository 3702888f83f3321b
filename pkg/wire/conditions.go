package wire

// The reasons of the conditions of a volume that the export process tells of. What
// each means and what to do is in docs/operations.md.
const (
	ReasonFenced             = "Fenced"     // it has gone on without this node
	ReasonEpochEnded         = "EpochEnded" // so, too
	ReasonSecondWriter       = "SecondWriter"
	ReasonJournalStopped     = "JournalStopped"
	ReasonJournalDamaged     = "JournalDamaged"
	ReasonDataDamaged        = "DataDamaged"
	ReasonSwiftUnreachable   = "SwiftUnreachable"
	ReasonSwiftRefuses       = "SwiftRefusesCredentials"
	ReasonSwiftQuotaExceeded = "SwiftQuotaExceeded"
	ReasonUploadFailing      = "UploadFailing"
	ReasonUploadOverdue      = "UploadOverdue"
	ReasonJournalNearlyFull  = "JournalNearlyFull"
	ReasonNotServed          = "NotServed"
	ReasonNotLoggedIn        = "NotLoggedIn" // the node says it, too, as soon as it is asked
	ReasonEnded              = "Ended"
)

// Reasons are all of them.
var Reasons = []string{
	ReasonFenced, ReasonEpochEnded, ReasonSecondWriter, ReasonJournalStopped, ReasonJournalDamaged,
	ReasonDataDamaged, ReasonSwiftUnreachable, ReasonSwiftRefuses, ReasonSwiftQuotaExceeded,
	ReasonUploadFailing, ReasonUploadOverdue, ReasonJournalNearlyFull, ReasonNotServed, ReasonNotLoggedIn, ReasonEnded,
}
