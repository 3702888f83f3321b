package catalog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// descriptor is the object volume.<n>: what a container is and whose. It is
// JSON, so that an administrator can read it with any Swift client.
type descriptor struct {
	Format    int           `json:"format"` // 1
	Volume    ident.Volume  `json:"volume"`
	Cluster   string        `json:"cluster"` // that owns the container
	ChunkSize int           `json:"chunkSize"`
	BlockSize int           `json:"blockSize"`
	Created   time.Time     `json:"created"`
	Origin    *originRecord `json:"origin,omitempty"`
}

type originRecord struct {
	Volume   ident.Volume   `json:"volume,omitempty"`
	Snapshot ident.Snapshot `json:"snapshot,omitempty"`
}

const (
	descriptorFormat = 1
	// sizeUnit is the unit of volume sizes, in bytes: the physical block.
	sizeUnit = 4096
	// firstDescriptor is its number; a later one would change keys or owner.
	firstDescriptor = 1
)

// makeContainer makes a volume's container with its descriptor, whose bytes
// follow from the record: a repetition puts the same.
func (c *Catalog) makeContainer(ctx context.Context, v authority.Volume) error {
	if err := c.store.CreateContainer(ctx, v.Container); err != nil {
		return err
	}
	d := descriptor{
		Format: descriptorFormat, Volume: v.ID, Cluster: c.config.Cluster,
		ChunkSize: chunks.Size, BlockSize: sizeUnit, Created: v.Created,
	}
	if v.Origin != nil {
		d.Origin = &originRecord{Volume: v.Origin.Volume, Snapshot: v.Origin.Snapshot}
	}
	body, err := json.Marshal(d)
	if err != nil {
		return err
	}
	err = c.putOnce(ctx, v.Container, chunks.DescriptorName(firstDescriptor), body, ErrForeign)
	if errors.Is(err, swift.ErrNotFound) { // the container, which was there
		return fmt.Errorf("%w: it was deleted meanwhile", ErrBusy)
	}
	return err
}

// putOnce puts an object that has the same bytes whoever puts it; if there is
// another one already, it returns other.
func (c *Catalog) putOnce(ctx context.Context, container, name string, body []byte, other error) error {
	_, err := c.store.Put(ctx, container, name, body, swift.PutOptions{IfNoneMatch: true})
	if !errors.Is(err, swift.ErrExists) {
		return err
	}
	have, err := c.store.Get(ctx, container, name, swift.GetOptions{Newest: true})
	if err == nil && !bytes.Equal(have.Body, body) {
		err = fmt.Errorf("%s/%s: %w", container, name, other)
	}
	return err
}

// checkOwner refuses a container that another cluster owns. One without a
// descriptor was never complete, or its deletion has got that far.
func (c *Catalog) checkOwner(ctx context.Context, v authority.Volume) error {
	o, err := c.store.Get(ctx, v.Container, chunks.DescriptorName(firstDescriptor), swift.GetOptions{Newest: true})
	if errors.Is(err, swift.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	var d descriptor
	if err := json.Unmarshal(o.Body, &d); err != nil || d.Format != descriptorFormat || d.Volume != v.ID || d.Cluster != c.config.Cluster {
		return fmt.Errorf("%s/%s names volume %.40q of cluster %.80q: %w", v.Container, o.Name, d.Volume, d.Cluster, ErrForeign)
	}
	return nil
}
