package authority

import "time"

// Fare is how a volume fares, for people to see. Nothing is decided by it, and it may
// be a minute old.
type Fare struct {
	// Figures are nil if nobody knows them at present.
	Figures *Figures
	// Conditions are what an administrator must know; none when all is well.
	Conditions []Condition
}

// Figures are those of a volume's journal.
type Figures struct {
	Dirty     int64     // bytes that are in the journal of a node only
	Published time.Time // the newest data in Swift is as of then; zero: not known
}

// Severity says what a condition means for who uses the volume, from least to worst.
type Severity int

// The severities.
const (
	Degraded     Severity = iota + 1 // it is served, with less than what is promised
	Inaccessible                     // it is not served on its node
	DataLoss                         // something that was written cannot be read any more
)

func (s Severity) String() string {
	switch s {
	case Degraded:
		return "Degraded"
	case Inaccessible:
		return "Inaccessible"
	case DataLoss:
		return "DataLoss"
	}
	return "Unknown"
}

// Condition is something that an administrator must know of a volume.
type Condition struct {
	Severity Severity
	Reason   string // one CamelCase word for each cause
	Message  string
	Remedy   string
}
