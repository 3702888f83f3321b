package image

import (
	"context"
	"fmt"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// leftovers walks, ascending, through the chunk objects that earlier attempts at
// an import have stored. There is no list of what an attempt got done that could
// be wrong: an object is used again if it is, byte for byte, what this attempt
// would store under that name. For that the chunk is read from the image anew and
// coded under the object's full name, which gives the same bytes again, and their
// MD5 is compared with the ETag that Swift checked when the object arrived. So an
// image that has changed meanwhile, in whatever way, is as safe as one that has
// not; and a listing that lacks objects costs their upload, nothing else.
type leftovers struct {
	store  swift.Store
	target Target
	rows   []swift.Info
	marker string
	last   bool // rows are the last page
}

func newLeftovers(store swift.Store, target Target) *leftovers {
	return &leftovers{store: store, target: target, marker: chunks.ChunkPrefix}
}

// leftover is a chunk object of an earlier attempt.
type leftover struct {
	ref  snapshots.ChunkRef
	info swift.Info
}

// of returns those of a chunk. The chunks must be asked for in order.
func (l *leftovers) of(ctx context.Context, chunk uint64) ([]leftover, error) {
	var found []leftover
	for {
		for i, row := range l.rows {
			name, err := chunks.ParseName(row.Name)
			switch {
			case err != nil || name.Epoch != l.target.Epoch || name.Index < chunk:
				continue
			case name.Index > chunk:
				l.rows = l.rows[i:]
				return found, nil
			}
			origin := snapshots.Origin{Container: l.target.Container, Epoch: name.Epoch, Open: name.Open}
			found = append(found, leftover{snapshots.ChunkRef{Origin: origin, Gen: name.Gen}, row})
		}
		l.rows = nil
		if l.last {
			return found, nil
		}
		if err := l.page(ctx); err != nil {
			return nil, err
		}
	}
}

// page reads on in the listing.
func (l *leftovers) page(ctx context.Context) (err error) {
	l.rows, err = l.store.List(ctx, l.target.Container, chunks.ChunkPrefix, l.marker, swift.MaxListing)
	if err != nil {
		return fmt.Errorf("look for what an earlier import stored: %w", err)
	}
	l.last = len(l.rows) < swift.MaxListing
	if !l.last {
		l.marker = l.rows[len(l.rows)-1].Name
	}
	return nil
}

// reuse reports whether the object holds data, and is there: what is listed may
// have reached no object server.
func (l leftover) reuse(ctx context.Context, store swift.Store, chunk uint64, data []byte, o chunks.Options) (bool, error) {
	at := l.ref.Location(chunk)
	object, err := chunks.EncodeChunk(at, data, o)
	if err != nil {
		return false, err
	}
	etag := swift.ETag(object)
	if l.info.Size != int64(len(object)) || l.info.ETag != etag {
		return false, nil
	}
	there, err := store.Head(ctx, at.Container, at.Name, swift.HeadOptions{Newest: true})
	return err == nil && there.ETag == etag, ctx.Err()
}
