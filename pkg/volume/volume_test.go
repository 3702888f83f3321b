package volume

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
)

const mib = 1 << 20

func TestThinPath(t *testing.T) {
	r := newRig(t, 64*mib, nil)
	r.want(0, make([]byte, mib)) // never written
	a, b := noise(1, 9*mib), noise(2, 4096)
	r.write(3*mib, a)
	r.publish("")
	r.want(3*mib, a)
	r.write(5*mib+512, b)
	r.want(5*mib+512, b)
	r.restart()
	copy(a[2*mib+512:], b)
	r.want(3*mib, a)
	root := r.close()
	if !root.State.Clean || root.State.Size != 64*mib {
		t.Fatalf("state of the closed root: %+v", root.State)
	}

	// Another node, and nothing but the root.
	loaded, err := snapshots.LoadRoot(r.ctx, r.store, root.Container, root.Ref)
	r.must(err)
	r.head = loaded
	r.nextEpoch()
	r.want(3*mib, a)
	r.want(0, make([]byte, 3*mib))
	r.want(12*mib, make([]byte, 52*mib))
	if second := r.close(); second.Parent.Ref != root.Ref || second.Parent.Container != root.Container {
		t.Fatalf("parent %+v, want %+v", second.Parent, root.Ref)
	}
}

func TestCloneSharesAndDiverges(t *testing.T) {
	parent := newRig(t, 32*mib, nil)
	old := noise(3, 20*mib)
	parent.write(0, old)
	snap := ident.NewSnapshot()
	root := parent.publish(snap)
	record, err := snapshots.GetRecord(parent.ctx, parent.store, parent.container, snap)
	parent.must(err)
	if record.Root != root.Ref || record.Size != 32*mib || record.Source != parent.id {
		t.Fatalf("record %+v", record)
	}
	parent.write(0, noise(4, mib))

	parent.store.reset()
	child := parent.clone(root)
	child.want(0, old[:4096])
	if gets := child.store.got(); len(gets) > 3 { // page, footer, slot
		t.Fatalf("the first read of a clone took %d GETs: %v", len(gets), gets)
	}
	child.want(0, old)
	mine := noise(5, 8192)
	child.write(mib, mine)
	grandchild := child.clone(child.publish(""))
	copy(old[mib:], mine)
	grandchild.want(0, old)
	names, total := child.store.put()
	if total > 64<<10 {
		t.Fatalf("two clones and 8 KiB stored %d bytes: %v", total, names)
	}
	child.close()
	grandchild.close()
	parent.want(0, noise(4, mib))
	parent.close()
}

// A small write uploads little, an empty generation one root, zeros nothing.
func TestUploadsAreSmall(t *testing.T) {
	r := newRig(t, 64*mib, nil)
	r.write(0, noise(1, 24*mib)) // less than half of the journal, which would be sealed at once
	r.publish("")

	cost := func(what string, most int64, prefixes string, do func()) {
		t.Helper()
		r.store.reset()
		do()
		r.publish("")
		names, total := r.store.put()
		var got []byte
		for _, n := range names {
			got = append(got, n[0])
		}
		slices.Sort(got)
		if total > most || string(got) != prefixes {
			t.Errorf("%s: stored %d bytes in %v, want at most %d in objects %q", what, total, names, most, prefixes)
		}
	}
	cost("nothing", 1024, "r", func() {})
	cost("4 KiB", 8192, "dr", func() { r.write(9*mib, noise(2, 4096)) })
	cost("one sector", 8192, "dr", func() { r.write(9*mib+512, noise(2, 512)) })
	cost("zeros over nothing", 1024, "r", func() {
		r.write(50*mib, make([]byte, mib))
		r.must(r.Discard(r.ctx, 48*mib, 16*mib))
	})
	cost("zeros over data", 4096, "dr", func() { r.must(r.Discard(r.ctx, 0, mib)) })
	r.want(0, append(make([]byte, mib), noise(1, 24*mib)[mib:2*mib]...))
	cost("a whole chunk discarded", 4096, "r", func() { r.must(r.Discard(r.ctx, 8*mib, 8*mib)) })
	cost("4 KiB in each of 4 chunks", 24<<10, "dr", func() {
		for i := range int64(4) {
			r.write(i*8*mib+4*mib, noise(9, 4096))
		}
	})
	cost("a whole chunk", 9*mib, "cr", func() { r.write(0, noise(4, 8*mib)) })
	cost("half a chunk", 9*mib, "cr", func() { r.write(16*mib, noise(3, 4*mib)) })
	r.want(8*mib, make([]byte, 4*mib))
	r.want(0, noise(4, 8*mib))
	r.want(16*mib, noise(3, 4*mib))
	r.want(21*mib, noise(1, 24*mib)[21*mib:])
}

// Each patch of a chunk is one object to read: more than MaxPatches are merged.
func TestPatchesMerge(t *testing.T) {
	r := newRig(t, 16*mib, nil)
	want := noise(1, 8*mib)
	r.write(0, want)
	r.publish("")
	for i := range 3 * snapshots.MaxPatches {
		off := int64(i%11) * 64 << 10
		if i%5 == 4 {
			clear(want[off : off+8192])
			r.must(r.Discard(r.ctx, off, 8192))
		} else {
			p := noise(uint64(i+100), 4096+512*i)
			copy(want[off:], p)
			r.write(off, p)
		}
		r.publish("")
		r.want(0, want)
	}
	e, err := r.publisher.head.Load().table.Entry(r.ctx, 0)
	r.must(err)
	if len(e.Patches) > snapshots.MaxPatches || e.Base.Gen != 1 {
		t.Fatalf("entry %+v", e)
	}
}

func TestBadInput(t *testing.T) {
	r := newRig(t, mib, nil)
	p := make([]byte, 4096)
	wantIs(t, r.ReadAt(r.ctx, p[:100], 0), ErrUnaligned)
	wantIs(t, r.WriteAt(r.ctx, p, 100, false), ErrUnaligned)
	wantIs(t, r.WriteAt(r.ctx, p, mib-512, false), ErrOutOfRange)
	wantIs(t, r.ReadAt(r.ctx, p, -4096), ErrOutOfRange)
	wantIs(t, r.Discard(r.ctx, 1<<62, 1<<62), ErrOutOfRange)
	wantIs(t, r.Resize(r.ctx, 512), ErrShrink)
	wantIs(t, r.Resize(r.ctx, mib+1), ErrOutOfRange)
	wantIs(t, r.Resize(r.ctx, snapshots.MaxSize+512), ErrOutOfRange)
	if _, err := r.Published(r.ctx, 7); err == nil {
		t.Error("a generation that was never sealed is published")
	}
	if err := r.ReadAt(r.ctx, nil, mib); err != nil {
		t.Error("an empty read at the end:", err)
	}
	if _, err := Open(r.ctx, Config{}); err == nil {
		t.Error("opened without anything")
	}
	if err := r.WriteAt(r.ctx, p, mib-512, false); !strings.Contains(err.Error(), string(r.id)) {
		t.Errorf("%q does not name the volume", err)
	}
}

func TestResizeAndMark(t *testing.T) {
	r := newRig(t, mib+512, nil)
	r.write(mib, noise(1, 512))
	r.must(r.SetFormatted(r.ctx, delta.Formatting))
	r.store.set(func(s *spy) { s.before = func(string, string) error { return errAway } })
	gen, err := r.Seal(r.ctx, "")
	r.must(err)
	r.must(r.Resize(r.ctx, 16*mib)) // after the cut, before its root
	r.must(r.SetFormatted(r.ctx, delta.Formatted))
	r.store.set(func(s *spy) { s.before = nil })
	before, err := r.Published(r.ctx, gen)
	r.must(err)
	r.want(mib, append(noise(1, 512), make([]byte, 15*mib-512)...))
	r.write(16*mib-512, noise(2, 512))
	r.restart()
	if r.Size() != 16*mib || r.Formatted() != delta.Formatted {
		t.Fatalf("size %d, mark %v after a restart", r.Size(), r.Formatted())
	}
	after := r.close()
	if before.State.Size != mib+512 || before.State.Mark != snapshots.Formatting {
		t.Errorf("state before: %+v", before.State)
	}
	if after.State.Size != 16*mib || after.State.Mark != snapshots.Formatted {
		t.Errorf("state after: %+v", after.State)
	}
	// The authority has grown it while it was closed.
	r.head, r.size = after, 0
	r.tune = func(c *Config) { c.Size = 32 * mib }
	r.nextEpoch()
	if r.Size() != 32*mib || r.Formatted() != delta.Formatted {
		t.Fatalf("size %d, mark %v in the next epoch", r.Size(), r.Formatted())
	}
	r.want(16*mib-512, append(noise(2, 512), make([]byte, 512)...))
}

func TestSealIsIdempotentPerSnapshot(t *testing.T) {
	r := newRig(t, mib, nil)
	r.write(0, noise(1, 4096))
	s := ident.NewSnapshot()
	first, err := r.Seal(r.ctx, s)
	r.must(err)
	r.write(0, noise(2, 4096))
	again, err := r.Seal(r.ctx, s)
	r.must(err)
	root, err := r.Published(r.ctx, first)
	r.must(err)
	late, err := r.Seal(r.ctx, s)
	r.must(err)
	if again != first || late != first || root.Snapshot != s {
		t.Fatalf("one snapshot, generations %d, %d, %d; root for %q", first, again, late, root.Snapshot)
	}
	c := r.clone(root)
	c.want(0, noise(1, 4096))
}

func TestCloseCanBeCancelledAndRepeated(t *testing.T) {
	r := newRig(t, 16*mib, nil)
	r.write(0, noise(1, 4096))
	r.store.set(func(s *spy) {
		s.before = func(op, _ string) error {
			if op == "put" {
				return errAway
			}
			return nil
		}
	})
	ctx, cancel := context.WithCancel(r.ctx)
	closing := make(chan error, 1)
	go func() { _, err := r.Close(ctx); closing <- err }()
	waitFor(t, func() bool { return r.Stats().Failing != nil })
	short, cancelShort := context.WithTimeout(r.ctx, 50*time.Millisecond)
	defer cancelShort()
	wantIs(t, r.WriteAt(short, make([]byte, 512), mib, false), context.DeadlineExceeded) // held
	r.want(0, noise(1, 4096))
	cancel()
	wantIs(t, <-closing, context.Canceled)
	r.write(4096, noise(2, 4096)) // it goes on
	r.want(0, noise(1, 4096))
	r.store.set(func(s *spy) { s.before = nil })
	root := r.close()
	if again := r.close(); again.Ref != root.Ref {
		t.Errorf("closed twice: %v and %v", root.Ref, again.Ref)
	}
	wantIs(t, r.WriteAt(r.ctx, make([]byte, 512), 0, false), ErrClosed)
	wantIs(t, r.ReadAt(r.ctx, make([]byte, 512), 0), ErrClosed)
	r.head = root
	r.nextEpoch()
	r.want(0, slices.Concat(noise(1, 4096), noise(2, 4096)))
}

// before runs f before each look at the journal.
type before struct {
	layers
	f func()
}

func (b before) Read(ctx context.Context, p []byte, off int64) ([]delta.Span, error) {
	b.f()
	return b.layers.Read(ctx, p, off)
}

// A layer that leaves the journal while a read begins is found in the table.
func TestReadWhileALayerLeaves(t *testing.T) {
	r := newRig(t, mib, nil)
	r.publish("")
	real := r.layers
	for i := range 3 {
		p := noise(uint64(i), 4096)
		r.write(0, p)
		r.layers = before{real, func() { r.publish("") }}
		r.want(0, p)
		r.layers = real
	}
}

// Data that only looks like nothing: blocks of zeros in the middle of a write.
func TestZeroBlocksInsideData(t *testing.T) {
	r := newRig(t, 16*mib, nil)
	p := noise(1, 64<<10)
	r.write(0, p)
	r.publish("")
	q := noise(2, 64<<10)
	clear(q[4096:20000])
	clear(q[40000:40960])
	r.write(512, q)
	r.publish("")
	want := append(bytes.Clone(p[:512]), q...)
	r.want(0, want)
	r.write(1024, make([]byte, 32<<10))
	clear(want[1024 : 1024+32<<10])
	r.publish("")
	r.want(0, want)
	if chunks.IsZero(want) {
		t.Fatal("the test checks nothing")
	}
}
