package attach

import (
	"context"
	"errors"
	"math"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// A reader's volume is that of a root, over a scratch journal: what the recovery
// of a file system writes stays there, and goes with the attach. It has no epoch,
// so nobody waits for it to be closed.

// errReader refuses what only a writer may do.
var errReader = errors.New("the volume is only read here")

// newScratch names a scratch journal. Its number is that of no epoch that is ever
// reached, so nothing of a reader can pass for a writer's.
func newScratch() ident.Epoch { return ident.NewEpoch(math.MaxInt64) }

// reads reports whether a root is the one that is served to a reader.
func (e *export) reads(root *wire.Root) (bool, error) {
	want, err := root.Record()
	if err != nil {
		return false, err
	}
	have, err := e.folder.loadHead()
	if err != nil || have == nil || want == nil {
		return have == nil && want == nil, err
	}
	return have.Recorded() == *want, nil
}

// discard ends a reader's attach: nothing of it is kept, and nobody waits for it.
func (e *export) discard(ctx context.Context, r *record) error {
	err := e.stop(ctx, r)
	if err == nil {
		e.record, e.failed = nil, nil
		err = errors.Join(e.folder.forget(r), e.forgetKeys(), e.forgetWitness(r))
	}
	return err
}
