package catalog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// The catalog's own objects are text, so that an administrator can read them with
// any Swift client: descriptors and names of snapshots in JSON, the marks of epochs
// and fences. They have no checksum inside; whatever reads one holds it to its ETag,
// or a bit that flips on the way makes an epoch another one's, and a recovery passes
// over its roots.

// read reads an object whole, as its newest version is.
func (c *Catalog) read(ctx context.Context, container, name string) ([]byte, error) {
	o, err := c.store.Get(ctx, container, name, swift.GetOptions{Newest: true})
	if err != nil {
		return nil, err
	}
	if err := o.Verify(); err != nil {
		return nil, fmt.Errorf("%s/%s: %w: %w", container, name, chunks.ErrDamaged, err)
	}
	return o.Body, nil
}

// putOnce puts an object that has the same bytes whoever puts it; if there is
// another one already, it returns other.
func (c *Catalog) putOnce(ctx context.Context, container, name string, body []byte, other error) error {
	_, err := c.store.Put(ctx, container, name, body, swift.PutOptions{IfNoneMatch: true})
	if !errors.Is(err, swift.ErrExists) {
		return err
	}
	have, err := c.read(ctx, container, name)
	switch {
	case errors.Is(err, swift.ErrNotFound): // it has just been deleted
		return fmt.Errorf("%s/%s: %w", container, name, ErrBusy)
	case err == nil && !bytes.Equal(have, body):
		return fmt.Errorf("%s/%s: %w", container, name, other)
	}
	return err
}

// The formats of descriptors and names of snapshots.
const (
	jsonFormat = 1
	keysFormat = 2 // of a descriptor with keys
)

// decodeJSON reads an object of one of some formats. A field that this release does not know
// is an unknown format as well: what it says would be lost.
func decodeJSON(body []byte, v any, formats ...int) error {
	var header struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(body, &header); err != nil {
		return err
	}
	if !slices.Contains(formats, header.Format) {
		return fmt.Errorf("format %d, this release reads %d", header.Format, formats)
	}
	return authority.UnmarshalStrict(body, v)
}
