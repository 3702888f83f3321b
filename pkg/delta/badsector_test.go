package delta_test

import (
	"strings"
	"syscall"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/delta"
)

// badFS cannot read the beginning of one segment.
type badFS struct {
	delta.FS
	name string
}

func (b badFS) Open(name string) (delta.File, error) {
	f, err := b.FS.Open(name)
	if err == nil && strings.HasSuffix(name, b.name) {
		f = badFile{f}
	}
	return f, err
}

type badFile struct{ delta.File }

func (f badFile) ReadDirectAt(p []byte, off int64) (int, error) {
	if off == 0 {
		return 0, syscall.EIO
	}
	return f.File.ReadDirectAt(p, off)
}

// A bad sector where the log is not keeps nobody from opening it.
func TestBadSectorOfAFreeSegment(t *testing.T) {
	n := newNode(t, 1)
	n.check(n.write(0, 1, 1))
	n.sync()
	n.check(n.j.Close())
	n.cfg.FS = badFS{n.fs, "segment.00007"}
	if err := n.restart(); err != nil || n.first(0) != 1 {
		t.Errorf("open: %v", err)
	}
}
