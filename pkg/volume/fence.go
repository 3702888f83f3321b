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
// rolled-back authority gave the same number is not ours. What cannot be read is.
func fencedBy(store swift.Store, container string, e ident.Epoch) func(context.Context) (bool, error) {
	return func(ctx context.Context) (bool, error) {
		obj, err := store.Get(ctx, container, chunks.FenceName(e.Number), swift.GetOptions{Newest: true})
		if errors.Is(err, swift.ErrNotFound) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		other, err := ident.ParseEpoch(string(bytes.TrimSpace(obj.Body)))
		return err != nil || other == e, nil
	}
}
