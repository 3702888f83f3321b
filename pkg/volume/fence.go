package volume

import (
	"bytes"
	"context"
	"errors"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// fencedBy returns the question whether epoch e is fenced, asked of the store
// (R7). The object's body is the epoch: a fence for another epoch that a
// rolled-back authority gave the same number is not ours, so the body is held to its
// ETag: with a bit flipped on the way it would be for such an epoch. A body that
// arrived whole and is no epoch is ours.
func fencedBy(store swift.Store, container string, e ident.Epoch) func(context.Context) (bool, error) {
	return func(ctx context.Context) (bool, error) {
		obj, err := store.Get(ctx, container, chunks.FenceName(e.Number), swift.GetOptions{Newest: true})
		if errors.Is(err, swift.ErrNotFound) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if err := obj.Verify(); err != nil {
			return false, damaged(container, obj.Name, err)
		}
		other, err := ident.ParseEpoch(string(bytes.TrimSpace(obj.Body)))
		return err != nil || other == e, nil
	}
}
