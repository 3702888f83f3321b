package volume

import "github.com/swiftblock/csi-swiftblock/pkg/chunks"

// slot is what one object holds of one 512 KiB region of one chunk: sorted,
// disjoint extents, with their data, verified.
type slot []chunks.Extent

// bytes returns the memory that s occupies.
func (s slot) bytes() int64 {
	n := int64(64)
	for _, e := range s {
		n += int64(len(e.Data)) + 48
	}
	return n
}
