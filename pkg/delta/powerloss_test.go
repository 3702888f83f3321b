package delta_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/delta/crashfs"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// node is a journal of 64 KiB segments on a crash file system of its own.
type node struct {
	testing.TB
	fs  *crashfs.FS
	cfg delta.Config
	id  delta.Identity
	j   *delta.Journal
}

func newNode(t testing.TB, seed uint64, change ...func(*delta.Config)) *node {
	n := &node{TB: t, fs: crashfs.New(rand.New(rand.NewPCG(seed, 2)))}
	n.id = delta.Identity{Volume: ident.NewVolume(), Epoch: ident.NewEpoch(1)}
	n.cfg = delta.Config{Dir: "/journal", FS: n.fs, SegmentSize: 64 << 10, Quota: 16 * 64 << 10, IdleWatermark: time.Hour, Prewrite: -1}
	for _, c := range change {
		c(&n.cfg)
	}
	var err error
	n.j, err = delta.Create(n.cfg, n.id, delta.State{Size: 1 << 20})
	n.check(err)
	t.Cleanup(func() { n.j.Close() })
	return n
}

func (n *node) check(err error) {
	n.Helper()
	if err != nil {
		n.Fatal(err)
	}
}

// write writes blocks blocks at a block.
func (n *node) write(block int64, blocks int, value byte) error {
	return n.j.Write(context.Background(), block*delta.Block, bytes.Repeat([]byte{value}, blocks*delta.Block), false)
}

func (n *node) sync() { n.Helper(); n.check(n.j.Sync(context.Background())) }

// first returns the first byte of a block, or -1 if the journal has none.
func (n *node) first(block int64) int {
	n.Helper()
	p := make([]byte, delta.Block)
	holes, err := n.j.Read(context.Background(), p, block*delta.Block)
	n.check(err)
	if len(holes) > 0 {
		return -1
	}
	return int(p[0])
}

// restart opens the journal in the next process.
func (n *node) restart() error {
	n.fs.Kill()
	n.j.Close()
	n.fs.Restart()
	return n.open()
}

// reboot opens the journal after a power loss.
func (n *node) reboot() error {
	n.fs.Kill()
	n.j.Close()
	n.fs.PowerLoss()
	return n.open()
}

func (n *node) open() error {
	j, err := delta.Open(n.cfg, n.id)
	if err == nil {
		n.j = j
	}
	return err
}

// The log must keep a durable beginning: a segment whose first record may still
// be lost is not one (B17).
func TestRetireKeepsADurableBeginning(t *testing.T) {
	for seed := range uint64(20) {
		n := newNode(t, seed)
		n.check(n.write(0, 12, 1)) // OPEN, 13 blocks
		l, err := n.j.Seal(context.Background(), "", false)
		n.check(err)
		n.check(n.write(20, 1, 2)) // does not fit: the next segment, not synced
		n.check(n.j.Retire(context.Background(), l.Gen()))
		if err := n.reboot(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if n.j.Retired() != 1 || n.j.Active() != 2 {
			t.Fatalf("seed %d: retired %d, active %d", seed, n.j.Retired(), n.j.Active())
		}
	}
}

// A generation whose SEAL record is not durable is not given out for upload: after
// a power loss it would be cut elsewhere (R4).
func TestSealedMeansDurably(t *testing.T) {
	n := newNode(t, 1)
	n.check(n.write(0, 1, 1))
	n.fs.FailSyncs(1)
	if _, err := n.j.Seal(context.Background(), "", false); !errors.Is(err, delta.ErrStopped) {
		t.Errorf("seal with a sync that failed: %v", err)
	}
	if layers := n.j.Sealed(); len(layers) != 0 {
		t.Errorf("generation %d is given out", layers[0].Gen())
	}
}

// A broken record that a later one knows to have been durable is damage; the
// torn end of the log is not (R3).
func TestDamageIsToldFromATornEnd(t *testing.T) {
	segment := func(i int) string { return fmt.Sprintf("/journal/segment.%05x", i) }
	for _, c := range []struct {
		name  string
		after func(n *node) // what follows the flush of three records
		at    int64         // the damaged byte; OPEN is block 0, the records 1-2, 3-4, 5-6
		want  error
		keeps int // records found, by Inspect if there is an error; -1: it has nothing
	}{
		{"header, a later record claims it", func(n *node) { n.check(n.write(9, 1, 9)) }, 3 * delta.Block, delta.ErrDamaged, 1},
		{"data, a later record claims it", func(n *node) { n.check(n.write(9, 1, 9)) }, 4*delta.Block + 7, delta.ErrDamaged, 1},
		{"first record of all", func(*node) {}, 0, delta.ErrDamaged, -1},
		{"claim in the next segment only", func(n *node) { n.check(n.write(9, 9, 9)) }, 6 * delta.Block, delta.ErrDamaged, 2},
		{"nothing claims the last one", func(*node) {}, 6 * delta.Block, nil, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(t, 1)
			for i := range int64(3) {
				n.check(n.write(i, 1, byte(i+1)))
			}
			n.sync()
			c.after(n)
			n.sync()
			n.check(n.j.Close())
			n.check(n.fs.Damage(segment(0), c.at))
			err := n.restart()
			if !errors.Is(err, c.want) {
				t.Fatalf("open: %v, want %v", err, c.want)
			}
			for i := 0; err == nil && i < 3; i++ {
				if got, want := n.first(int64(i)), i+1; (got == want) != (i < c.keeps) {
					t.Errorf("record %d reads %d", i, got)
				}
			}
			n.j.Close()
			remains, err := delta.Inspect(n.cfg, n.id)
			if (err != nil) != (c.keeps < 0) || err != nil && !errors.Is(err, delta.ErrDamaged) {
				t.Fatalf("inspect: %v", err)
			}
			if err != nil {
				return
			}
			defer remains.Close()
			if !errors.Is(remains.Damage(), c.want) {
				t.Errorf("damage: %v, want %v", remains.Damage(), c.want)
			}
			for i := range 3 {
				p := make([]byte, delta.Block)
				holes, err := remains.Read(t.Context(), p, int64(i)*delta.Block)
				n.check(err)
				if found := len(holes) == 0 && int(p[0]) == i+1; found != (i < c.keeps) {
					t.Errorf("record %d reads %d", i, p[0])
				}
			}
		})
	}
}

// diskFS takes its time as a disk does: some for a write, more for a sync.
type diskFS struct{ delta.FS }

func (d diskFS) Create(name string) (delta.File, error) {
	f, err := d.FS.Create(name)
	return diskFile{f}, err
}

func (d diskFS) Open(name string) (delta.File, error) {
	f, err := d.FS.Open(name)
	return diskFile{f}, err
}

type diskFile struct{ delta.File }

func (f diskFile) WriteAt(p []byte, off int64) (int, error) {
	time.Sleep(300 * time.Microsecond)
	return f.File.WriteAt(p, off)
}

func (f diskFile) Sync() error {
	time.Sleep(10 * time.Millisecond)
	return f.File.Sync()
}

// A segment that was written without a flush, and the beginning of the next one, say
// nothing of the segment's first record: what claims it may be in the middle of the
// segment after that only.
func TestFirstRecordOfASegmentIsClaimed(t *testing.T) {
	n := newNode(t, 1, func(c *delta.Config) { c.FS, c.IdleWatermark = diskFS{c.FS}, 20*time.Millisecond })
	for i := range int64(8) { // segments 0, 1, and a part of 2
		n.check(n.write(4*i, 4, byte(i+1)))
	}
	n.sync()
	for marked := n.j.Stats().Sequence + 1; n.j.Stats().Durable < marked; {
		time.Sleep(time.Millisecond)
	}
	n.check(n.j.Close())
	n.check(n.fs.Damage("/journal/segment.00001", 3*delta.Block))
	if err := n.restart(); !errors.Is(err, delta.ErrDamaged) {
		t.Errorf("open: %v, with %d of 8 flushed writes", err, n.j.Stats().Sequence-2)
	}
}

// Damage of what is read is an error, never data (P7).
func TestReadVerifies(t *testing.T) {
	n := newNode(t, 1)
	n.check(n.write(0, 2, 1))
	n.check(n.fs.Damage("/journal/segment.00000", 3*delta.Block+5)) // second block's data
	p := make([]byte, delta.Sector)
	if _, err := n.j.Read(context.Background(), p, 0); err != nil {
		t.Errorf("whole block: %v", err)
	}
	if _, err := n.j.Read(context.Background(), p, delta.Block+3*delta.Sector); !errors.Is(err, delta.ErrDamaged) {
		t.Errorf("damaged block: %v", err)
	}
}

// After a failed sync nothing is promised any more, and the next process of the
// same boot refuses a log that lost what was acknowledged: pages that read well
// then may be gone (R3). After a reboot nobody remembers, and what was flushed
// is there.
func TestFailedSyncStopsDurably(t *testing.T) {
	ctx := context.Background()
	refused := 0
	for seed := range uint64(30) {
		n := newNode(t, seed)
		n.check(n.write(0, 1, 1))
		n.sync()
		n.check(n.write(1, 1, 2))
		n.fs.FailSyncs(1)
		if err := n.j.Sync(ctx); !errors.Is(err, delta.ErrStopped) || !errors.Is(err, crashfs.ErrInjected) {
			t.Fatalf("sync: %v", err)
		}
		if err := n.write(2, 1, 3); !errors.Is(err, delta.ErrStopped) {
			t.Fatalf("write to a stopped journal: %v", err)
		}
		if _, err := n.j.Seal(ctx, "", false); !errors.Is(err, delta.ErrStopped) {
			t.Fatalf("seal of a stopped journal: %v", err)
		}
		if n.first(0) != 1 || n.first(1) != 2 {
			t.Fatal("a stopped journal lost what it could still read")
		}
		n.j.Close()
		switch err := n.restart(); {
		case err == nil:
			if n.first(0) != 1 || n.first(1) != 2 {
				t.Fatalf("seed %d: served a log without an acknowledged write", seed)
			}
		case errors.Is(err, delta.ErrDamaged):
			refused++
			n.check(n.reboot())
			if n.first(0) != 1 {
				t.Fatalf("seed %d: a flushed write is lost", seed)
			}
		default:
			t.Fatal(err)
		}
	}
	if refused == 0 || refused == 30 {
		t.Errorf("%d of 30 refused: the test does not see both ends", refused)
	}
}

// What is damaged in the log is no loss if it is published.
func TestDamageOfWhatIsPublishedIsNone(t *testing.T) {
	n := newNode(t, 1)
	n.check(n.write(0, 2, 1)) // blocks 1-3, after OPEN
	l, err := n.j.Seal(context.Background(), "", false)
	n.check(err)
	n.check(n.write(8, 2, 2))
	n.sync()
	n.check(n.j.Retire(context.Background(), l.Gen()))
	n.check(n.write(16, 1, 3))
	n.sync()
	n.check(n.j.Close())
	n.check(n.fs.Damage("/journal/segment.00000", 3*delta.Block))
	n.check(n.restart())
	if n.first(0) != -1 || n.first(8) != 2 || n.first(16) != 3 {
		t.Errorf("blocks read %d, %d, %d", n.first(0), n.first(8), n.first(16))
	}
}
