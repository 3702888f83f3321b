package attach

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/swiftblock/csi-swiftblock/pkg/chunks"
	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/target"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

func TestRestartNeedsNeitherSwiftNorController(t *testing.T) {
	n := newNode(t)
	before := n.attach()
	n.write(7)
	if _, err := n.exports.Seal(t.Context(), &wire.SealRequest{Volume: string(n.id), Snapshot: string(ident.NewSnapshot())}); err != nil {
		t.Fatal(err)
	}
	n.write(8)
	if err := n.exports.Close(); err != nil {
		t.Fatal(err)
	}
	n.store.set(false)
	n.controller.set(false)
	n.start()
	n.expect(8)
	n.store.set(true)
	n.controller.set(true)
	if after := n.attach(); after.Iqn != before.Iqn || after.ChapSecret != before.ChapSecret || after.Serial != before.Serial {
		t.Errorf("the target changed over the restart: %v, was %v", after, before)
	}
}

func TestDetachHandsOverAndTheNextAttachGoesOn(t *testing.T) {
	n := newNode(t)
	first := n.attach()
	if _, err := n.exports.SetFormatted(t.Context(), &wire.SetFormattedRequest{Volume: string(n.id), Formatted: wire.Formatted_FORMATTED_DONE}); err != nil {
		t.Fatal(err)
	}
	n.write(9)
	rest := filepath.Join(n.dir, "state", string(n.id), ".new-123") // of a killed process
	if err := os.WriteFile(rest, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := n.detach(); err != nil {
		t.Fatal(err)
	}
	if n.controller.open || n.controller.head == nil {
		t.Fatalf("after Detach the controller has open=%v head=%v", n.controller.open, n.controller.head)
	}
	if left, err := os.ReadDir(filepath.Join(n.dir, "state")); err != nil || len(left) != 1 || left[0].Name() != ballastName {
		t.Errorf("left on the node: %v, %v", left, err)
	}
	if err := n.detach(); err != nil {
		t.Errorf("detaching again: %v", err)
	}
	second := n.attach()
	if second.Iqn == first.Iqn {
		t.Error("two epochs have the same target name")
	}
	if second.Formatted != wire.Formatted_FORMATTED_DONE {
		t.Errorf("formatted mark %v", second.Formatted)
	}
	n.expect(9)
}

func TestDetachFailsWhileSwiftIsAwayAndContinues(t *testing.T) {
	n := newNode(t)
	n.attach()
	n.write(5)
	n.store.set(false)
	n.detachInVain()
	// The process dies, too; the next one closes by itself once Swift is back.
	n.exports.Close()
	n.start()
	n.store.set(true)
	n.await("the closing was not continued", func() bool { return !n.controller.isOpen() })
	for n.detach() != nil { // until the background has let go of the volume
		time.Sleep(10 * time.Millisecond)
	}
	n.attach()
	n.expect(5)
}

func TestAttachTakesBackAClosing(t *testing.T) {
	n := newNode(t)
	first := n.attach()
	n.write(5)
	n.store.set(false)
	n.detachInVain()
	if again := n.attach(); again.Iqn != first.Iqn {
		t.Errorf("a new epoch %s although %s is not closed", again.Iqn, first.Iqn)
	}
	n.expect(5)
	n.write(6)
	n.expect(6)
}

func TestAttachTakesBackAClosingThatANewProcessGoesOnWith(t *testing.T) {
	n := newNode(t)
	first := n.attach()
	n.write(5)
	n.store.set(false)
	n.detachInVain()
	n.exports.Close()
	n.start() // closes in the background, which cannot end: Swift stays away
	var again *wire.Attachment
	for limit := time.Now().Add(patience); again == nil; time.Sleep(50 * time.Millisecond) {
		a, err := n.exports.Attach(t.Context(), &wire.AttachRequest{Volume: string(n.id)})
		if status.Code(err) != codes.Aborted && err != nil || time.Now().After(limit) {
			t.Fatalf("the volume cannot be had back: %v", err)
		}
		again = a
	}
	if again.Iqn != first.Iqn {
		t.Errorf("a new epoch %s although %s is not closed", again.Iqn, first.Iqn)
	}
	n.expect(5)
}

func TestALostEpochIsSetAside(t *testing.T) {
	n := newNode(t)
	n.attach()
	n.write(3)
	lost := n.controller.epoch
	n.controller.lose()
	_, err := n.exports.Attach(t.Context(), &wire.AttachRequest{Volume: string(n.id)})
	if status.Code(err) != codes.Aborted {
		t.Fatalf("attach with a lost epoch: %v, want ABORTED", err)
	}
	n.attach()
	n.expect(0)
	if _, err := os.Stat(filepath.Join(n.dir, "state", string(n.id), "lost-"+lost.String())); err != nil {
		t.Errorf("the lost journal is not kept: %v", err)
	}
}

// Persistent reservations outlive the process, and end with the export or its epoch.
func TestReservationsEndWithTheExport(t *testing.T) {
	n := newNode(t)
	kept := func(what, want string) {
		t.Helper()
		n.device()
		if text, err := n.portal.lun().Keeper.Kept(); err != nil || string(text) != want {
			t.Errorf("%s: %q, %v; want %q", what, text, err, want)
		}
	}
	keep := func(text string) {
		t.Helper()
		if err := n.portal.lun().Keeper.Keep([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	n.attach()
	kept("at first", "")
	keep("one")
	keep("two")
	if err := n.exports.Close(); err != nil {
		t.Fatal(err)
	}
	n.start()
	kept("in the next process", "two")
	if err := n.detach(); err != nil {
		t.Fatal(err)
	}
	n.attach()
	kept("of the next export", "")
	keep("three")
	n.controller.lose()
	if _, err := n.exports.Attach(t.Context(), &wire.AttachRequest{Volume: string(n.id)}); err == nil {
		t.Fatal("attached with a lost epoch")
	}
	n.attach()
	kept("in the next epoch", "")
}

// After a reboot nobody may come to stage or unstage the volume here (R6).
func TestARebootedNodeClosesByItself(t *testing.T) {
	n := newNode(t)
	n.attach()
	n.write(5)
	n.store.set(false)
	n.controller.set(false)
	n.reboot()
	if len(n.portal.targets) > 0 {
		t.Error("a target is offered to initiators that the reboot has ended")
	}
	n.store.set(true)
	n.controller.set(true)
	n.await("the volume was not closed", func() bool { return len(n.left()) == 0 })
	if n.controller.isOpen() || n.controller.head == nil {
		t.Errorf("open %v, head %v", n.controller.isOpen(), n.controller.head)
	}
	n.attach()
	n.expect(5)
}

func TestAttachAfterARebootGoesOn(t *testing.T) {
	n := newNode(t)
	first := n.attach()
	n.write(5)
	n.store.set(false) // so that nothing can be closed meanwhile
	n.reboot()
	var again *wire.Attachment
	n.await("the volume cannot be had back", func() (ok bool) {
		a, err := n.exports.Attach(t.Context(), &wire.AttachRequest{Volume: string(n.id)})
		again = a
		return err == nil
	})
	if again.Iqn != first.Iqn {
		t.Errorf("a new epoch %s although %s is not closed", again.Iqn, first.Iqn)
	}
	n.expect(5)
	n.exports.Close()
	n.start() // the same boot: initiators wait for the target
	n.expect(5)
}

// What a node finds of a volume that went on without it, it keeps and leaves alone.
func TestANodeLetsGoOfWhatWentOnWithoutIt(t *testing.T) {
	for name, lose := range map[string]func(*node){
		"lost":    func(n *node) { n.controller.lose() },
		"deleted": func(n *node) { n.controller.remove() },
		"fenced": func(n *node) {
			n.controller.set(false)
			e := n.controller.epoch
			if _, err := n.store.Put(t.Context(), container, chunks.FenceName(e.Number), []byte(e.String()), swift.PutOptions{}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		for _, rebooted := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", rebooted ", rebooted), func(t *testing.T) {
				n := newNode(t)
				n.attach()
				n.write(3)
				lost := "lost-" + n.controller.epoch.String()
				if lose(n); rebooted {
					n.reboot()
				} else if err := n.detach(); err != nil {
					t.Errorf("detach: %v", err)
				}
				n.await("the journal is not set aside", func() bool { return slices.Equal(n.left(), []string{lost}) })
				n.await("nothing can be detached", func() bool { return n.detach() == nil })
			})
		}
	}
}

// A zombie's process that starts again acknowledges nothing: what its pod writes
// would be in no version of the volume (R7).
func TestARestartedZombieFailsIO(t *testing.T) {
	n := newNode(t)
	n.attach()
	n.write(3)
	n.controller.set(false)
	e := n.controller.epoch
	if _, err := n.store.Put(t.Context(), container, chunks.FenceName(e.Number), []byte(e.String()), swift.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	n.exports.Close()
	n.start()
	if err := n.device().WriteAt(t.Context(), make([]byte, 512), 0, true); !errors.Is(err, target.ErrGone) {
		t.Errorf("write: %v, want ErrGone", err)
	}
	n.await("the journal is not set aside", func() bool {
		return n.detach() == nil && slices.Equal(n.left(), []string{"lost-" + e.String()})
	})
}

// A volume that is taken from its pod fails what the pod does, over a restart of
// the process too, until the initiator has logged out.
func TestATakenVolumeFailsIO(t *testing.T) {
	n := newNode(t)
	first := n.attach()
	n.write(5)
	revoke := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := n.exports.Detach(ctx, &wire.DetachRequest{Volume: string(n.id), Revoke: true})
		return err
	}
	failing := func() {
		t.Helper()
		for what, err := range map[string]error{
			"read":  n.device().ReadAt(t.Context(), make([]byte, 512), 0),
			"write": n.device().WriteAt(t.Context(), make([]byte, 512), 0, false),
			"flush": n.device().Flush(t.Context()),
		} {
			if !errors.Is(err, target.ErrGone) {
				t.Errorf("%s: %v, want ErrGone", what, err)
			}
		}
	}
	n.store.set(false)
	if err := revoke(); err == nil {
		t.Fatal("handed over what is nowhere but here")
	}
	failing()
	n.exports.Close()
	n.start()
	failing()
	n.store.set(true)
	n.await("the volume is not handed over", func() bool { return revoke() == nil })
	if n.controller.isOpen() || n.controller.head == nil {
		t.Fatalf("handed over: open=%v head=%v", n.controller.isOpen(), n.controller.head)
	}
	failing()
	n.exports.Close()
	n.start()
	failing()
	n.await("the volume is not detached", func() bool { return n.detach() == nil })
	if len(n.left()) > 0 || len(n.portal.targets) > 0 {
		t.Errorf("left: %v, targets %v", n.left(), n.portal.targets)
	}
	if second := n.attach(); second.Iqn == first.Iqn {
		t.Error("the epoch goes on")
	}
	n.expect(5)
	n.await("the volume is not handed over", func() bool { return revoke() == nil })
	n.reboot()
	n.await("what was for an initiator of the last boot stays", func() bool { return len(n.left()) == 0 })
}

func TestSealIsOneCutPerSnapshot(t *testing.T) {
	n := newNode(t)
	n.attach()
	n.write(1)
	q := &wire.SealRequest{Volume: string(n.id), Snapshot: string(ident.NewSnapshot())}
	first, err := n.exports.Seal(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if first.Size != volumeSize {
		t.Errorf("size at the cut %d", first.Size)
	}
	q2 := &wire.SealRequest{Volume: string(n.id), Snapshot: string(ident.NewSnapshot())}
	second, err := n.exports.Seal(t.Context(), q2)
	if err != nil {
		t.Fatal(err)
	}
	if second.Root.Generation <= first.Root.Generation {
		t.Errorf("generation %d after %d", second.Root.Generation, first.Root.Generation)
	}
}

func TestCodes(t *testing.T) {
	n := newNode(t)
	use := func(id string) error {
		_, err := n.exports.Status(t.Context(), &wire.StatusRequest{Volume: id})
		return err
	}
	for id, want := range map[string]codes.Code{
		string(ident.NewVolume()): codes.NotFound, "../../etc": codes.InvalidArgument, "": codes.InvalidArgument,
	} {
		if got := status.Code(use(id)); got != want {
			t.Errorf("status of %q: %v, want %v", id, got, want)
		}
	}
	n.attach()
	e := n.exports.export(n.id)
	e.lock.Lock()
	err, look := n.modify(nil), use(string(n.id))
	e.lock.Unlock()
	if s := status.Convert(err); s.Code() != codes.Aborted || !strings.HasPrefix(s.Message(), "volume "+string(n.id)+": modify: ") {
		t.Errorf("a call beside a change of stage: %v, want ABORTED of a volume and an operation", err)
	}
	if look != nil {
		t.Errorf("status beside a change of stage: %v", look)
	}
}

// Who drains a node wants to know how much is left.
func TestStatusOfAClosing(t *testing.T) {
	n := newNode(t)
	n.attach()
	n.write(5)
	n.store.set(false)
	ended := make(chan error, 1)
	ctx, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	go func() {
		_, err := n.exports.Detach(ctx, &wire.DetachRequest{Volume: string(n.id)})
		ended <- err
	}()
	n.await("it is not being closed", func() bool {
		n.portal.mu.Lock()
		defer n.portal.mu.Unlock()
		return len(n.portal.targets) == 0
	})
	if a, err := n.exports.Status(t.Context(), &wire.StatusRequest{Volume: string(n.id)}); err != nil || a.GetDirtyBytes() != 8192 {
		t.Errorf("status: %v, %v", a, err)
	}
	giveUp()
	if <-ended == nil {
		t.Error("closed although Swift is away")
	}
}

func TestSecretsAreNotReadableByOthers(t *testing.T) {
	n := newNode(t)
	secret := n.attach().ChapSecret
	err := filepath.WalkDir(n.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		body, err := os.ReadFile(path)
		if err == nil && bytes.Contains(body, []byte(secret)) && info.Mode().Perm() != 0o600 {
			t.Errorf("%s holds the CHAP secret and has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestMarksHaveTheSameNumbersEverywhere(t *testing.T) {
	for _, m := range []struct {
		wire  wire.Formatted
		delta delta.Mark
		root  snapshots.Mark
	}{
		{wire.Formatted_FORMATTED_NEVER, delta.Blank, snapshots.NeverFormatted},
		{wire.Formatted_FORMATTED_BEGUN, delta.Formatting, snapshots.Formatting},
		{wire.Formatted_FORMATTED_DONE, delta.Formatted, snapshots.Formatted},
	} {
		if uint8(m.wire) != uint8(m.delta) || uint8(m.delta) != uint8(m.root) {
			t.Errorf("marks %d %d %d", m.wire, m.delta, m.root)
		}
	}
}

// A directory on /run is memory: what has ended leaves nothing there.
func TestRunDirDoesNotGrow(t *testing.T) {
	n := newNode(t)
	for i := range 3 {
		n.attach()
		n.write(byte(i))
		if err := n.detach(); err != nil {
			t.Fatal(err)
		}
	}
	left, err := filepath.Glob(filepath.Join(n.dir, "run", string(n.id)+".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("%d pages are left of attaches that have ended: %v", len(left), err)
	}
}

// A snapshot that waits for its upload keeps nobody from the volume.
func TestNobodyWaitsForASnapshot(t *testing.T) {
	n := newNode(t)
	n.attach()
	n.write(5)
	n.store.set(false)
	q := &wire.SealRequest{Volume: string(n.id), Snapshot: string(ident.NewSnapshot())}
	cut := make(chan error, 1)
	go func() {
		_, err := n.exports.Seal(t.Context(), q)
		cut <- err
	}()
	n.await("nothing is sealed", func() bool { return !n.exports.export(n.id).volume.Stats().Waiting.IsZero() })
	if err := n.modify(map[string]string{"uploadBandwidth": "100Mi"}); err != nil {
		t.Errorf("modify: %v", err)
	}
	if _, err := n.exports.Attach(t.Context(), &wire.AttachRequest{Volume: string(n.id)}); err != nil {
		t.Errorf("attach: %v", err)
	}
	n.store.set(true)
	if err := n.detach(); err != nil {
		t.Errorf("detach: %v", err)
	}
	if err := <-cut; err != nil && status.Code(err) != codes.Unavailable { // a repetition finds it in Swift
		t.Errorf("seal: %v", err)
	}
}
