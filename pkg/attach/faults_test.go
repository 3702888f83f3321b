package attach

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/target"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// publish brings to Swift what was written.
func (n *node) publish() {
	n.t.Helper()
	q := &wire.SealRequest{Volume: string(n.id), Snapshot: string(ident.NewSnapshot()), WaitMs: patience.Milliseconds()}
	cut, err := n.exports.Seal(n.t.Context(), q)
	if err != nil {
		n.t.Fatal(err)
	}
	n.cuts = append(n.cuts, cut.Root)
}

func (n *node) put(name string, body []byte) {
	n.t.Helper()
	if _, err := n.store.Put(n.t.Context(), container, name, body, swift.PutOptions{}); err != nil {
		n.t.Fatal(err)
	}
}

// segments are the files of the volume's journal.
func (n *node) segments() []string {
	n.t.Helper()
	names, err := filepath.Glob(filepath.Join(n.dir, "state", string(n.id), n.controller.epoch.String(), "segment.*"))
	if err != nil || len(names) == 0 {
		n.t.Fatalf("no journal: %v", err)
	}
	return names
}

// flip changes a bit of the journal, in a block that is all content.
func (n *node) flip(content byte) {
	n.t.Helper()
	f, err := os.OpenFile(n.segments()[0], os.O_RDWR, 0)
	if err != nil {
		n.t.Fatal(err)
	}
	defer f.Close()
	p := make([]byte, 1<<20)
	if _, err := f.ReadAt(p, 0); err != nil {
		n.t.Fatal(err)
	}
	at := bytes.Index(p, bytes.Repeat([]byte{content}, 4096))
	if at < 0 {
		n.t.Fatal("it is not in the journal")
	}
	if _, err := f.WriteAt([]byte{content ^ 1}, int64(at)); err != nil {
		n.t.Fatal(err)
	}
}

// injection is a fault of the disk, of Swift or of what is around, and what is told of it.
type injection struct {
	name   string
	reason string
	rpo    string            // of the volume; "": so long that only the fault itself counts
	before func(nodeInCloud) // the volume is attached
	inject func(nodeInCloud) // the volume is attached and was written to
	figure string            // a metric that an alert looks at, besides volume_condition,
	above  float64           // and what it is above then
	heal   func(nodeInCloud) // the fault ends, or what docs/operations.md says is done; nil: there is no remedy
}

var injections = []injection{
	{
		name: "Swift is silent", reason: wire.ReasonSwiftUnreachable,
		inject: func(n nodeInCloud) { n.cloud.fails(silence) },
		figure: "volume_publication_failing", heal: func(n nodeInCloud) { n.cloud.recovers() },
	},
	{
		name: "Swift refuses token and key", reason: wire.ReasonSwiftRefuses,
		inject: func(n nodeInCloud) { n.cloud.fails(refuseAll) },
		figure: "volume_publication_failing", heal: func(n nodeInCloud) { n.cloud.recovers() },
	},
	{
		name: "Swift has no room", reason: wire.ReasonSwiftQuotaExceeded,
		inject: func(n nodeInCloud) { n.cloud.fails(noQuota) },
		figure: "volume_publication_failing", heal: func(n nodeInCloud) { n.cloud.recovers() },
	},
	{
		name: "the container is gone", reason: wire.ReasonUploadFailing,
		inject: func(n nodeInCloud) {
			if err := n.store.DeleteContainer(n.t.Context(), container); err != nil {
				n.t.Fatal(err)
			}
		},
		figure: "volume_publication_failing",
		heal: func(n nodeInCloud) {
			if err := n.store.CreateContainer(n.t.Context(), container); err != nil {
				n.t.Fatal(err)
			}
		},
	},
	{
		name: "Swift does not get on", reason: wire.ReasonUploadOverdue,
		inject: func(n nodeInCloud) { n.cloud.fails(n.cloud.stall) },
		heal:   func(n nodeInCloud) { n.cloud.recovers() },
	},
	{
		name: "Swift does not get on, and pods do", reason: wire.ReasonJournalNearlyFull,
		inject: func(n nodeInCloud) {
			n.cloud.fails(n.cloud.stall)
			ctx, cancel := context.WithTimeout(n.t.Context(), patience)
			defer cancel()
			for p := bytes.Repeat([]byte{9}, 4<<20); n.gathered()["volume_journal_fill_ratio"] <= nearlyFull; {
				if err := n.device().WriteAt(ctx, p, 8<<20, false); err != nil {
					n.t.Fatal(err)
				}
			}
		},
		figure: "volume_journal_fill_ratio", above: 0.75, heal: func(n nodeInCloud) { n.cloud.recovers() },
	},
	{
		name: "a fence", reason: wire.ReasonFenced,
		inject: func(n nodeInCloud) {
			n.put(chunks.FenceName(n.controller.epoch.Number), []byte(n.controller.epoch.String()))
		},
		heal: func(n nodeInCloud) { n.goElsewhere(); n.expect(0) },
	},
	{
		name: "the controller has ended the epoch", reason: wire.ReasonEpochEnded,
		inject: func(n nodeInCloud) {
			n.controller.lose()
			if _, err := n.exports.Attach(n.t.Context(), &wire.AttachRequest{Volume: string(n.id)}); err == nil {
				n.t.Fatal("attached though the epoch was ended")
			}
		},
		heal: func(n nodeInCloud) { lost := n.controller.epoch; n.attach(); n.kept(lost) },
	},
	{
		name: "another root of the epoch", reason: wire.ReasonSecondWriter,
		inject: func(n nodeInCloud) {
			n.put(chunks.RootName(n.controller.epoch, 1), []byte("of another node"))
		},
		// No remedy: two nodes wrote, and only people can tell whose data count.
	},
	{
		name: "the disk fails a write", reason: wire.ReasonJournalStopped, rpo: "snapshot-only",
		before: func(n nodeInCloud) { n.onSmallDisk() },
		inject: func(n nodeInCloud) {
			// What the journal has reserved is taken from it.
			for _, name := range n.segments() {
				f, err := os.OpenFile(name, os.O_RDWR, 0)
				if err != nil {
					n.t.Fatal(err)
				}
				defer f.Close()
				const from = 1 << 20
				if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, 1<<30); err != nil {
					n.t.Fatalf("punch a hole: %v", err)
				}
			}
			n.fillDisk()
			var err error
			for range 128 {
				if err = n.device().WriteAt(n.t.Context(), make([]byte, 4<<20), 8<<20, false); err != nil {
					break
				}
			}
			if !errors.Is(err, target.ErrGone) {
				n.t.Errorf("write to a disk that fails: %v, want ErrGone", err)
			}
		},
		heal: func(n nodeInCloud) { // the disk works again, and the node is rebooted
			for _, path := range []string{filepath.Join("state", "filler"), "run"} {
				if err := os.RemoveAll(filepath.Join(n.dir, path)); err != nil {
					n.t.Fatal(err)
				}
			}
			n.reboot()
			n.attach()
			n.expect(7)
			n.write(8)
		},
	},
	{
		name: "the journal is damaged, found at the start", reason: wire.ReasonJournalDamaged, rpo: "1h",
		inject: func(n nodeInCloud) {
			if err := n.device().Flush(n.t.Context()); err != nil {
				n.t.Fatal(err)
			}
			n.write(8) // which says of the one before that it is durable
			n.exports.Close()
			n.flip(7)
			n.start()
		},
		heal: func(n nodeInCloud) { n.moveAway() },
	},
	{
		name: "the journal is damaged, found by a read", reason: wire.ReasonJournalDamaged, rpo: "1h",
		inject: func(n nodeInCloud) {
			if err := n.device().WriteAt(n.t.Context(), bytes.Repeat([]byte{9}, 8192), 16<<20, false); err != nil {
				n.t.Fatal(err)
			}
			n.flip(7)
			if err := n.device().ReadAt(n.t.Context(), make([]byte, 8192), 1<<20); !errors.Is(err, target.ErrMedium) {
				n.t.Errorf("read: %v, want ErrMedium", err)
			}
		},
		figure: "volume_damaged",
		heal: func(n nodeInCloud) {
			p := make([]byte, 8192)
			if err := n.device().ReadAt(n.t.Context(), p, 16<<20); err != nil || !bytes.Equal(p, bytes.Repeat([]byte{9}, len(p))) {
				n.t.Errorf("what is not damaged cannot be saved: %v", err)
			}
			n.putAside()
		},
	},
	{
		name: "an object is damaged", reason: wire.ReasonDataDamaged,
		inject: func(n nodeInCloud) {
			n.publish()
			before := n.objects()
			n.write(8)
			n.publish()
			for _, name := range n.objects() {
				if !slices.Contains(before, name) && (strings.HasPrefix(name, chunks.PackPrefix) || strings.HasPrefix(name, chunks.ChunkPrefix)) {
					o, err := n.store.Get(n.t.Context(), container, name, swift.GetOptions{})
					if err != nil {
						n.t.Fatal(err)
					}
					o.Body[len(o.Body)/2] ^= 1
					n.put(name, o.Body)
				}
			}
			n.exports.Close() // with all that was cached
			n.start()
			if err := n.device().ReadAt(n.t.Context(), make([]byte, 8192), 1<<20); !errors.Is(err, target.ErrMedium) {
				n.t.Errorf("read: %v, want ErrMedium", err)
			}
		},
		figure: "volume_damaged",
		heal:   func(n nodeInCloud) { n.restore(); n.expect(7) },
	},
	{
		name: "the initiator has gone", reason: wire.ReasonNotLoggedIn,
		inject: func(n nodeInCloud) { n.portal.leave(vacantAfter + time.Second) },
		heal:   func(n nodeInCloud) { n.portal.leave(0) },
	},
	{
		name: "the record is torn", reason: wire.ReasonNotServed,
		inject: func(n nodeInCloud) {
			n.exports.Close()
			record := filepath.Join(n.dir, "state", string(n.id), "record.json")
			if err := os.Truncate(record, 100); err != nil {
				n.t.Fatal(err)
			}
			n.start()
			if !strings.Contains(n.conditions()[0].GetMessage(), record) {
				n.t.Errorf("%v does not name %s", n.conditions(), record)
			}
		},
		heal: func(n nodeInCloud) { n.moveAway() },
	},
	{
		name: "the copy of the root is torn", reason: wire.ReasonNotServed,
		inject: func(n nodeInCloud) {
			n.publish()
			n.exports.Close()
			head := filepath.Join(n.dir, "state", string(n.id), "head")
			if err := os.Truncate(head, 100); err != nil {
				n.t.Fatal(err)
			}
			n.start()
			n.await("served with a torn "+head, func() bool {
				have := n.conditions()
				return len(have) > 0 && strings.Contains(have[0].GetMessage(), head)
			})
		},
		heal: func(n nodeInCloud) { n.moveAway(); n.expect(7) },
	},
	{
		name: "nobody knows the keys after a reboot", reason: wire.ReasonNotServed,
		before: func(n nodeInCloud) { n.controller.keys = keys.New(keys.New(keys.Set{})) },
		inject: func(n nodeInCloud) {
			n.controller.set(false)
			if err := os.RemoveAll(filepath.Join(n.dir, "run")); err != nil {
				n.t.Fatal(err)
			}
			n.reboot()
		},
		heal: func(n nodeInCloud) { n.controller.set(true); n.attach() },
	},
}

// Each fault is told by its condition, of the health that docs/operations.md says, with
// a message, and by the metrics that alerts look at; where it is of Swift, writes go on.
// All that goes with the fault, or once the remedy of docs/operations.md is done.
func TestFaults(t *testing.T) {
	table, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	health := map[wire.Severity]string{
		wire.Severity_SEVERITY_DEGRADED: "Degraded", wire.Severity_SEVERITY_INACCESSIBLE: "Inaccessible", wire.Severity_SEVERITY_DATA_LOSS: "DataLoss",
	}
	for _, s := range injections {
		t.Run(s.name, func(t *testing.T) {
			n := newNodeInCloud(t)
			n.controller.rpo = cmp.Or(s.rpo, "1s")
			if s.before != nil {
				s.before(n)
			}
			n.attach()
			n.write(7)
			if have := n.reasons(); len(have) > 0 {
				t.Fatalf("conditions %v of a volume in order", have)
			}
			s.inject(n)
			n.await("no "+s.reason, func() bool { return slices.Contains(n.reasons(), s.reason) })
			if s.figure != "" && n.gathered()[s.figure] <= s.above {
				t.Errorf("%s is %v", s.figure, n.gathered()[s.figure])
			}
			shown := n.monitored()
			for _, c := range n.conditions() {
				if row := "\n| `" + c.Reason + "` | " + health[c.Severity] + " |"; c.Message == "" || !bytes.Contains(table, []byte(row)) {
					t.Errorf("%v, and docs/operations.md has no%s", c, row)
				}
				if metric := "volume_condition " + c.Reason + " " + health[c.Severity]; c.Reason == s.reason && shown[metric] != 1 {
					t.Errorf("the controller shows no %s: %v", metric, shown)
				}
				if c.Reason == s.reason && c.Severity == wire.Severity_SEVERITY_DEGRADED {
					n.write(8)
					n.expect(8)
				}
			}
			if s.heal != nil {
				s.heal(n)
				n.await(s.reason+" stays", func() bool { return len(n.reasons()) == 0 })
				n.await(s.figure+" stays", func() bool { return n.gathered()[s.figure] <= s.above })
				n.await("volume_condition stays", func() bool { return len(n.monitored()) == 0 })
			}
		})
	}
}

// No condition of a node goes without a fault that makes it, but Ended: it is for
// what nobody has thought of.
func TestEachConditionHasAFault(t *testing.T) {
	for _, reason := range wire.Reasons {
		if reason != wire.ReasonEnded && !slices.ContainsFunc(injections, func(i injection) bool { return i.reason == reason }) {
			t.Errorf("no fault of TestFaults makes %s", reason)
		}
	}
}
