package attach

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// A process that is killed while it makes a journal, or before it has recorded that there is
// one, leaves what reserves the whole quota of the disk. It goes with the attach, whatever
// becomes of that.
func TestNoJournalIsLeftOfAnAttachThatDied(t *testing.T) {
	nothing := func(t *testing.T, n *node) {
		t.Helper()
		if left := n.left(); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
	for after, c := range map[string]struct {
		ends    func(t *testing.T, n *node, q *wire.AttachRequest)
		writers bool // only those have an epoch
	}{
		"detached": {ends: func(t *testing.T, n *node, _ *wire.AttachRequest) {
			n.start()
			if err := n.detach(); err != nil {
				t.Fatal(err)
			}
			nothing(t, n)
		}},
		"rebooted": {ends: func(t *testing.T, n *node, _ *wire.AttachRequest) {
			n.reboot()
			if left := n.left(); slices.ContainsFunc(left, func(name string) bool { return name != "record.json" && name != "head" }) {
				t.Errorf("left behind: %v", left)
			}
			if err := n.detach(); err != nil {
				t.Fatal(err)
			}
			nothing(t, n)
		}},
		"attached again": {ends: func(t *testing.T, n *node, q *wire.AttachRequest) {
			n.start()
			if _, err := n.exports.Attach(t.Context(), q); err != nil {
				t.Fatal(err)
			}
			n.write(2)
			n.expect(2)
		}},
		"lost": {writers: true, ends: func(t *testing.T, n *node, q *wire.AttachRequest) {
			n.start()
			n.controller.lose()
			if _, err := n.exports.Attach(t.Context(), q); status.Code(err) != codes.Aborted {
				t.Fatalf("attach with a lost epoch: %v, want ABORTED", err)
			}
			nothing(t, n)
		}},
		"closed without it": {writers: true, ends: func(t *testing.T, n *node, _ *wire.AttachRequest) {
			n.start()
			n.controller.lose()
			if err := n.detach(); err != nil {
				t.Fatal(err)
			}
			nothing(t, n)
		}},
	} {
		for _, reader := range []bool{false, true} {
			if reader && c.writers {
				continue
			}
			for what, dies := range map[string]func(*node, *wire.AttachRequest){"half": (*node).dieMaking, "whole": (*node).dieRecording} {
				t.Run(fmt.Sprintf("%s/%s/reader=%t", after, what, reader), func(t *testing.T) {
					n := written(t, 1)
					q := &wire.AttachRequest{Volume: string(n.id), Reader: reader}
					dies(n, q)
					c.ends(t, n, q)
					pages, err := filepath.Glob(filepath.Join(n.dir, "run", string(n.id)+".*"))
					if err != nil || after != "attached again" && len(pages) > 0 {
						t.Errorf("left on /run: %v, %v", pages, err)
					}
				})
			}
		}
	}
}

// dieMaking leaves the disk as a process does that is killed while it makes the journal:
// there is a directory, and no anchor in it.
func (n *node) dieMaking(q *wire.AttachRequest) {
	n.t.Helper()
	var lock *os.File
	n.exports.config.Controller = hindering{n.controller, func(o *wire.Opening) {
		dir := n.exports.config.folder(n.id).journal(&record{Reader: q.Reader, Epoch: o.Epoch.Ident()})
		err := os.Mkdir(dir, 0o700)
		if err == nil {
			lock, err = os.Create(filepath.Join(dir, "lock"))
		}
		if err == nil { // so delta.Create gets no further
			err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
		}
		if err != nil {
			n.t.Fatal(err)
		}
	}}
	_, err := n.exports.Attach(n.t.Context(), q)
	if lock == nil || err == nil {
		n.t.Fatalf("the journal was made: %v", err)
	}
	lock.Close()
	n.exports.Close()
}

// dieRecording leaves it as one that is killed when the journal is made.
func (n *node) dieRecording(q *wire.AttachRequest) {
	n.t.Helper()
	if _, err := n.exports.Attach(n.t.Context(), q); err != nil {
		n.t.Fatal(err)
	}
	n.exports.Close()
	f := n.exports.config.folder(n.id)
	r, err := f.load()
	if err == nil {
		r.Stage = confirming
		err = f.save(r)
	}
	if err != nil {
		n.t.Fatal(err)
	}
}

// hindering is a controller that does something before it confirms.
type hindering struct {
	*controller
	before func(*wire.Opening)
}

func (h hindering) Confirm(ctx context.Context, q *wire.ConfirmRequest, o ...grpc.CallOption) (*wire.Opening, error) {
	opening, err := h.controller.Confirm(ctx, q, o...)
	if err == nil {
		h.before(opening)
	}
	return opening, err
}

// A journal that is there counts for the budget, though no record says yet that it is open.
func TestRoomOfAnAttachThatDied(t *testing.T) {
	n := newNode(t)
	n.dieRecording(&wire.AttachRequest{Volume: string(n.id)})
	n.start()
	for _, want := range []int64{512 << 20, 0} {
		if reserved, err := n.exports.config.reserved(""); err != nil || reserved != want {
			t.Errorf("%d bytes reserved, %v, want %d", reserved, err, want)
		}
		if err := n.detach(); err != nil {
			t.Fatal(err)
		}
	}
}
