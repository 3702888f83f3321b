package catalog_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
)

// listed is an authority that counts listings of pins: there is one each time that all
// records are read.
type listed struct {
	authority.Authority
	times atomic.Int64
}

func (l *listed) Pins() authority.Table[authority.Pin] { return listedPins{l.Authority.Pins(), l} }

type listedPins struct {
	authority.Table[authority.Pin]
	by *listed
}

func (t listedPins) List(ctx context.Context, from authority.Place, limit int) ([]authority.Row[authority.Pin], authority.Place, error) {
	t.by.times.Add(1)
	return t.Table.List(ctx, from, limit)
}

// TestCollectOfManyVolumes: all records are not read anew for each volume that has
// garbage, or a collection would take ten thousand times ten thousand records.
func TestCollectOfManyVolumes(t *testing.T) {
	w := newWorld(t)
	w.grace = time.Hour
	for i := range 20 {
		w.generations(w.volume(fmt.Sprint("v", i)).ID, 3)
	}
	w.later()
	counted := &listed{Authority: w.authority}
	done, err := w.controller(counted, w.store).Collect(w.ctx, catalog.CollectOptions{})
	w.check(err)
	if n := counted.times.Load(); done.Objects == 0 || n > 3 {
		t.Errorf("collected %+v, and read all records %d times", done, n)
	}
	w.lean()
}
