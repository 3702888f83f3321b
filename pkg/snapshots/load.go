package snapshots

import (
	"context"
	"errors"
	"fmt"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// fetch reads an object that was written once. A replica may not have heard of
// it yet, so all are asked before it counts as absent.
func fetch(ctx context.Context, store swift.Store, at Location) ([]byte, error) {
	object, err := store.Get(ctx, at.Container, at.Name, swift.GetOptions{})
	if errors.Is(err, swift.ErrNotFound) {
		object, err = store.Get(ctx, at.Container, at.Name, swift.GetOptions{Newest: true})
	}
	return object.Body, err
}

// LoadRoot fetches the root that ref names in container and verifies its hash.
func LoadRoot(ctx context.Context, store swift.Store, container string, ref Ref) (*Root, error) {
	at := Location{Container: container, Name: ref.Name()}
	object, err := fetch(ctx, store, at)
	if err != nil {
		return nil, err
	}
	root, err := DecodeRoot(at, object)
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
func ReadIndex(ctx context.Context, store swift.Store, at Location) (*chunks.Index, error) {
	need := int64(chunks.TailGuess)
	for {
		object, err := store.Get(ctx, at.Container, at.Name, swift.GetOptions{Off: -need})
		if err != nil {
			return nil, err
		}
		index, err := chunks.ParseIndex(at, object.Size, object.Body)
		short, ok := errors.AsType[*chunks.ShortTailError](err)
		if !ok || short.Need <= need {
			return index, err
		}
		need = short.Need
	}
}

// Reach calls visit for every object that root needs: itself, its pages, and
// the chunks and packs that these name, each once. It does not follow Parent: a
// table needs no other root.
func Reach(ctx context.Context, store swift.Store, root *Root, visit func(Location) error) error {
	if err := visit(root.Location()); err != nil {
		return err
	}
	for _, p := range root.pages {
		if err := visit(p.location()); err != nil {
			return err
		}
	}
	packs := make(map[PackRef]bool)
	for e, err := range OpenTable(store, root).Entries(ctx) {
		if err != nil {
			return err
		}
		if !e.Base.IsZero() {
			if err := visit(e.Base.Location(e.Chunk)); err != nil {
				return err
			}
		}
		for _, p := range e.Patches {
			if packs[p] {
				continue
			}
			packs[p] = true
			if err := visit(p.Location()); err != nil {
				return err
			}
		}
	}
	return nil
}
