package image

import (
	"bytes"
	"context"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// lending is a store that notices when memory is lent to it again for which it gave
// an error: a read that was given up may still write into that.
type lending struct {
	swift.Store
	fails func() error
	lost  map[*byte]bool
	again int
}

func (l *lending) Get(ctx context.Context, container, name string, o swift.GetOptions) (swift.Object, error) {
	var memory *byte
	if cap(o.Buf) > 0 {
		memory = &o.Buf[:1][0]
		if l.lost[memory] {
			l.again++
		}
	}
	if err := l.fails(); err != nil {
		l.lost[memory] = memory != nil
		return swift.Object{}, err
	}
	return l.Store.Get(ctx, container, name, o)
}

func TestMemoryOfAFailedReadIsNotUsedAgain(t *testing.T) {
	w := newWorld(t)
	root, want := imported(t, w)
	lost := 0
	for _, failure := range []error{
		&swift.Error{Op: "get", Kind: swift.ErrUnavailable},
		&swift.Error{Op: "get", Kind: swift.ErrNotFound}, // asked again at once, of all replicas
	} {
		l := &lending{Store: w, lost: map[*byte]bool{}}
		v := NewVersion(l, root, 0, nil)
		buf := make([]byte, chunks.Size)
		for i := range 50 {
			calls := 0
			l.fails = func() error {
				if calls++; i%2 == 1 && calls == 1 {
					return failure
				}
				return nil
			}
			if err := v.ReadChunk(t.Context(), 0, buf); err == nil && !bytes.Equal(buf[:1<<20], want[:1<<20]) {
				t.Fatal("read other bytes")
			}
		}
		if l.again > 0 {
			t.Errorf("%v: memory was lent %d times after it was lost", failure, l.again)
		}
		delete(l.lost, nil)
		lost += len(l.lost)
	}
	if lost == 0 {
		t.Error("no memory was ever lost: the test shows nothing")
	}
}
