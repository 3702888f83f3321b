package wire

import (
	"fmt"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// FromEpoch returns e as it is on the wire.
func FromEpoch(e ident.Epoch) *Epoch { return &Epoch{Number: e.Number, Tag: e.Tag} }

// Ident returns the epoch; the zero epoch for nil.
func (x *Epoch) Ident() ident.Epoch { return ident.Epoch{Number: x.GetNumber(), Tag: x.GetTag()} }

// FromRoot returns r as it is on the wire; nil for nil.
func FromRoot(r *authority.Root) *Root {
	if r == nil {
		return nil
	}
	return &Root{Container: r.Container, Epoch: FromEpoch(r.Epoch), Generation: r.Generation, Hash: r.Hash[:]}
}

// Record returns the root as it is recorded; nil for nil. An error says that the
// other side did not send a whole one.
func (x *Root) Record() (*authority.Root, error) {
	if x == nil {
		return nil, nil
	}
	r := &authority.Root{Container: x.Container, Epoch: x.Epoch.Ident(), Generation: x.Generation}
	if len(x.Hash) != len(r.Hash) {
		return nil, fmt.Errorf("root hash has %d bytes, want %d", len(x.Hash), len(r.Hash))
	}
	copy(r.Hash[:], x.Hash)
	return r, nil
}
