package wire

// The reasons of the conditions that say that a volume has gone on without its
// node.
const (
	ReasonFenced     = "Fenced"
	ReasonEpochEnded = "EpochEnded"
)
