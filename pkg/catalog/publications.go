package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// Access is what a node has a volume for.
type Access int

const (
	// Write: the node's journal gets an epoch, and no other node has the volume.
	Write Access = iota
	// ReadAlone: it is only read, and no other node has it.
	ReadAlone
	// ReadShared: it is only read, by any number of nodes.
	ReadShared
)

func (a Access) String() string {
	return [...]string{"to be written", "to be read by one node", "to be read by many nodes"}[a]
}

// accessOf returns what a node has a volume for.
func accessOf(v authority.Volume, node string) (a Access, published bool) {
	if v.Binding != nil && v.Binding.Node == node {
		return Write, true
	}
	i := slices.IndexFunc(v.Readers, func(r authority.Reader) bool { return r.Node == node })
	switch {
	case i < 0:
		return 0, false
	case v.Readers[i].Alone:
		return ReadAlone, true
	}
	return ReadShared, true
}

// Publish gives a volume to a node: ErrInUse if a node has it that cannot have it
// beside this one, ErrConflict if this one has it for something else.
func (c *Catalog) Publish(ctx context.Context, id ident.Volume, node string, access Access) (authority.Volume, error) {
	v, err := c.publish(ctx, id, node, access)
	return v, failed(err, "publish", "volume", id)
}

func (c *Catalog) publish(ctx context.Context, id ident.Volume, node string, access Access) (authority.Volume, error) {
	if node == "" {
		return authority.Volume{}, fmt.Errorf("%w: no node", ErrInvalid)
	}
	if _, err := c.readyVolume(ctx, id); err != nil {
		return authority.Volume{}, err
	}
	return c.changeVolume(ctx, id, func(v *authority.Volume) error {
		switch has, published := accessOf(*v, node); {
		case published && has == access:
			return errKeep
		case published:
			return fmt.Errorf("%w: node %q has it %v", ErrConflict, node, has)
		case v.Binding != nil:
			return inUse(v.Binding.Node)
		case len(v.Readers) > 0 && (access != ReadShared || v.Readers[0].Alone):
			return inUse(v.Readers[0].Node)
		case access == Write:
			v.Binding = &authority.Binding{Node: node}
			return nil
		}
		v.Readers = append(v.Readers, authority.Reader{Node: node, Alone: access == ReadAlone, Root: v.Head})
		return nil
	})
}

func inUse(node string) error { return fmt.Errorf("%w: it is published to node %q", ErrInUse, node) }

// Unpublish takes a volume from a node ("" for all that have it). One that writes
// must have closed its epoch: while that is open it is ErrBusy, unstage first.
// One that reads has nothing that could be lost.
func (c *Catalog) Unpublish(ctx context.Context, id ident.Volume, node string) error {
	return failed(c.unbind(ctx, id, node), "unpublish", "volume", id)
}

func (c *Catalog) unbind(ctx context.Context, id ident.Volume, node string) error {
	if _, err := ident.ParseVolume(string(id)); err != nil {
		return nil // nothing can have this id
	}
	_, err := c.changeVolume(ctx, id, func(v *authority.Volume) error {
		had := len(v.Readers)
		v.Readers = slices.DeleteFunc(v.Readers, func(r authority.Reader) bool { return node == "" || r.Node == node })
		switch {
		case v.Binding == nil || node != "" && v.Binding.Node != node:
			if len(v.Readers) == had {
				return errKeep
			}
			return nil
		case v.Opening.Open:
			return fmt.Errorf("%w: node %q has not closed epoch %d", ErrBusy, v.Opening.Node, v.Opening.Epoch.Number)
		}
		v.Binding = nil
		return nil
	})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// reading is what a node that is a reader opens; nil if it is none.
func reading(v authority.Volume, node string) *Opening {
	i := slices.IndexFunc(v.Readers, func(r authority.Reader) bool { return r.Node == node })
	if i < 0 {
		return nil
	}
	return &Opening{Container: v.Container, Head: v.Readers[i].Root, Size: v.Size, Parameters: Parameters(v), Account: v.Account, Keys: v.Keys}
}
