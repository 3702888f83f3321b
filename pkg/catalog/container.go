package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// descriptor is the object volume.<n>: what a container is and whose. It is
// JSON, so that an administrator can read it with any Swift client. A volume is in
// Swift while it has one: it is put when everything else of the volume is there,
// and goes first when the volume is erased. What it says follows from the record,
// and is all of the record that no other object tells.
type descriptor struct {
	Format     int               `json:"format"` // 1; 2: with keys
	Volume     ident.Volume      `json:"volume"`
	Name       string            `json:"name"`    // the CSI name
	Cluster    string            `json:"cluster"` // that owns the container
	Size       int64             `json:"size"`    // bytes, when the volume was made
	ChunkSize  int               `json:"chunkSize"`
	BlockSize  int               `json:"blockSize"`
	Parameters map[string]string `json:"parameters,omitempty"`
	Mutable    map[string]string `json:"mutable,omitempty"`
	Created    time.Time         `json:"created"`
	Origin     *authority.Origin `json:"origin,omitempty"`
	Keys       *keys.Wrapped     `json:"keys,omitempty"`
}

const (
	// SizeUnit is the unit of volume sizes, in bytes: the physical block.
	SizeUnit = 4096
	// firstDescriptor is its number; each recovery and each rewrapping puts the next one.
	firstDescriptor = 1
)

// describe puts a volume's descriptor: the same bytes each time.
func (c *Catalog) describe(ctx context.Context, v authority.Volume) error {
	body, err := json.Marshal(descriptor{
		Format: authority.FormatOf(v), Volume: v.ID, Name: v.Name, Cluster: c.config.Cluster,
		Size: v.Size, ChunkSize: chunks.Size, BlockSize: SizeUnit,
		Parameters: v.Parameters, Mutable: v.Mutable, Created: v.Created, Origin: v.Origin, Keys: v.Keys,
	})
	if err != nil {
		return err
	}
	err = c.putOnce(ctx, v.Container, chunks.DescriptorName(v.Descriptor), body, ErrForeign)
	if errors.Is(err, swift.ErrNotFound) { // the container, which was there
		return fmt.Errorf("%w: it was deleted meanwhile", ErrBusy)
	}
	return err
}

// described returns the n-th descriptor of a volume, or [swift.ErrNotFound].
func (c *Catalog) described(ctx context.Context, id ident.Volume, n uint64) (descriptor, error) {
	container, name := c.container(id), chunks.DescriptorName(n)
	body, err := c.read(ctx, container, name)
	if err != nil {
		return descriptor{}, err
	}
	d, err := decodeDescriptor(body, id)
	if err != nil {
		return d, fmt.Errorf("%s/%s is not the descriptor of this volume: %w: %w", container, name, ErrForeign, err)
	}
	return d, nil
}

// decodeDescriptor reads what describe has written for a volume.
func decodeDescriptor(body []byte, id ident.Volume) (descriptor, error) {
	var d descriptor
	if err := decodeJSON(body, &d, jsonFormat, keysFormat); err != nil {
		return descriptor{}, err
	}
	switch {
	case (d.Format == keysFormat) != (d.Keys != nil):
		return descriptor{}, fmt.Errorf("format %d, with keys: %v", d.Format, d.Keys != nil)
	case d.Volume != id:
		return descriptor{}, fmt.Errorf("it is that of volume %.80q", d.Volume)
	case d.Size < 0 || d.Size > snapshots.MaxSize:
		return descriptor{}, fmt.Errorf("impossible size %d", d.Size)
	}
	return d, nil
}

// checkOwner refuses a container that another cluster owns, or that was recovered
// into another authority. One without a descriptor is not yet complete, or its
// deletion has got that far: present is false.
func (c *Catalog) checkOwner(ctx context.Context, v authority.Volume) (present bool, err error) {
	d, err := c.described(ctx, v.ID, v.Descriptor)
	switch {
	case errors.Is(err, swift.ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	case d.Cluster != c.config.Cluster:
		return false, fmt.Errorf("%s is of cluster %.80q: %w", v.Container, d.Cluster, ErrForeign)
	}
	next, n, err := c.following(ctx, v)
	switch {
	case errors.Is(err, swift.ErrNotFound):
		return true, nil
	case err != nil:
		return false, err
	case next.Cluster != c.config.Cluster:
		return false, fmt.Errorf("%s was taken over by cluster %.80q: %w", v.Container, next.Cluster, ErrForeign)
	}
	return false, c.outdated(ctx, v, fmt.Sprintf("descriptor %d exists, %d is recorded", n, v.Descriptor))
}

// outdated tells why a record, as it was read, is older than what is in Swift: it
// has changed since (ErrBusy), or the authority is an old copy.
func (c *Catalog) outdated(ctx context.Context, v authority.Volume, why string) error {
	now, _, err := c.volumes.Get(ctx, string(v.ID))
	switch {
	case err != nil:
		return absent(err)
	case now.Opening.Epoch != v.Opening.Epoch || now.Descriptor != v.Descriptor || now.State != v.State,
		(now.Rewrapping == nil) != (v.Rewrapping == nil):
		return ErrBusy
	}
	return fmt.Errorf("%w: %s", ErrRolledBack, why)
}
