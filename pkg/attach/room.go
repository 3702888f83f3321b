package attach

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/swiftblock/csi-swiftblock/pkg/class"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// errNoRoom refuses a volume whose journal does not fit beside the others.
var errNoRoom = errors.New("no room for the journal")

// Room implements [wire.ExportsServer].
func (x *Exports) Room(context.Context, *wire.RoomRequest) (*wire.RoomResponse, error) {
	reserved, err := x.config.reserved("")
	return &wire.RoomResponse{Budget: x.config.Budget, Reserved: reserved}, err
}

// reserved sums what the journals in the directory may grow to, in bytes, except
// that of one volume.
func (c *Config) reserved(except ident.Volume) (sum int64, err error) {
	entries, err := os.ReadDir(c.Dir)
	if err != nil {
		return 0, err
	}
	for _, entry := range entries {
		id, err := ident.ParseVolume(entry.Name())
		if err != nil || id == except {
			continue
		}
		f := c.folder(id)
		r, err := f.load()
		if err != nil || r == nil || r.Stage == revoked {
			continue // no journal, or one that nobody can open
		}
		if r.Stage == confirming {
			if _, err := os.Stat(f.journal(r)); err != nil {
				continue // none yet
			}
		}
		if p, err := class.Parse(r.Parameters); err == nil {
			sum += p.JournalSize
		}
	}
	return sum, nil
}

// reserve makes sure that there is room for a journal of so many bytes. Two calls
// at one time may both find the last room: then the disk is the bound.
func (e *export) reserve(bytes int64) error {
	reserved, err := e.config.reserved(e.id)
	if err == nil && e.config.Budget > 0 && reserved+bytes > e.config.Budget {
		err = fmt.Errorf("%w: it takes %d bytes, and the journals of other volumes %d of %d", errNoRoom, bytes, reserved, e.config.Budget)
	}
	return err
}
