package snapshots

import (
	"context"
	"errors"
	"fmt"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// ErrRootTaken says that a root was published under the name of another.
var ErrRootTaken = errors.New("another root has this name")

// PutRoot publishes a root (R2). If its name is taken by the same bytes, it was this very
// PUT, repeated or answered too late; by others, it fails with [ErrRootTaken]. After any
// other error it may be there or not.
func PutRoot(ctx context.Context, store swift.Store, root Object) error {
	_, err := store.Put(ctx, root.Container, root.Name, root.Body, swift.PutOptions{IfNoneMatch: true})
	if !errors.Is(err, swift.ErrExists) {
		return err
	}
	there, err := store.Head(ctx, root.Container, root.Name, swift.HeadOptions{Newest: true})
	if err == nil && there.ETag != swift.ETag(root.Body) {
		err = fmt.Errorf("%s: %w", root.Location, ErrRootTaken)
	}
	return err
}

// Fetch reads an object that was written once. A replica may not have heard of
// it yet, so all are asked before it counts as absent.
func Fetch(ctx context.Context, store swift.Store, at Location, o swift.GetOptions) (swift.Object, error) {
	object, err := store.Get(ctx, at.Container, at.Name, o)
	if errors.Is(err, swift.ErrNotFound) && !o.Newest {
		o.Newest, o.Buf = true, nil // the memory is lost, see [swift.GetOptions]
		object, err = store.Get(ctx, at.Container, at.Name, o)
	}
	return object, err
}

// LoadRoot fetches the root that ref names in container and verifies its hash.
func LoadRoot(ctx context.Context, store swift.Store, container string, ref Ref) (*Root, error) {
	at := Location{Container: container, Name: ref.Name()}
	object, err := Fetch(ctx, store, at, swift.GetOptions{})
	if err != nil {
		return nil, err
	}
	root, err := DecodeRoot(at, object.Body)
	if err != nil {
		return nil, err
	}
	if root.Ref.Hash != ref.Hash {
		return nil, damaged(at, fmt.Errorf("its hash is %s instead of %s", root.Ref.Hash, ref.Hash))
	}
	return root, nil
}

// ReadIndex fetches and verifies the footer of the chunk or pack at, in one GET
// as a rule.
func ReadIndex(ctx context.Context, store swift.Store, at Location, keys chunks.Keys) (*chunks.Index, error) {
	x, _, err := readTail(ctx, store, at, keys)
	return x, err
}

// readTail fetches as much of the end of a chunk or pack as its footer needs.
func readTail(ctx context.Context, store swift.Store, at Location, keys chunks.Keys) (*chunks.Index, swift.Object, error) {
	need := int64(chunks.TailGuess)
	for {
		object, err := Fetch(ctx, store, at, swift.GetOptions{Off: -need})
		if err != nil {
			return nil, object, err
		}
		x, err := chunks.ParseIndex(at, object.Size, object.Body, keys)
		short, ok := errors.AsType[*chunks.ShortTailError](err)
		if !ok || short.Need <= need {
			return x, object, err
		}
		need = short.Need
	}
}

// readWhole fetches a chunk or pack.
func readWhole(ctx context.Context, store swift.Store, at Location, keys chunks.Keys) (*chunks.Index, swift.Object, error) {
	object, err := Fetch(ctx, store, at, swift.GetOptions{})
	if err != nil {
		return nil, object, err
	}
	x, err := chunks.ParseIndex(at, object.Size, object.Body, keys)
	return x, object, err
}
