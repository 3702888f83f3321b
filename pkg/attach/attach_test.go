package attach

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/snapshots"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/swifttest"
	"github.com/swiftblock/csi-swiftblock/pkg/target"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

const (
	volumeSize = 64 << 20
	container  = "attachtest"
)

// node is one node with its surroundings: the processes come and go, the disk,
// the controller and Swift stay.
type node struct {
	t          *testing.T
	dir        string
	store      *switched
	controller *controller
	portal     *portal
	exports    *Exports
	id         ident.Volume
}

func newNode(t *testing.T) *node {
	n := &node{t: t, dir: t.TempDir(), store: &switched{Store: swifttest.NewStore(t)}, controller: &controller{}, id: ident.NewVolume()}
	if err := n.store.CreateContainer(t.Context(), container); err != nil {
		t.Fatal(err)
	}
	n.start()
	t.Cleanup(func() { n.exports.Close() })
	return n
}

// start is a new export process.
func (n *node) start() {
	n.t.Helper()
	n.portal = &portal{targets: map[string]target.Target{}}
	var err error
	n.exports, err = New(Config{
		Dir: filepath.Join(n.dir, "state"), RunDir: filepath.Join(n.dir, "run"), Node: "n1", Endpoint: "unix:///nowhere", Store: n.store,
		Controller: n.controller, Portal: n.portal, Log: slog.New(slog.DiscardHandler), AllowAnyFS: true,
	})
	if err != nil {
		n.t.Fatal(err)
	}
	if err := n.exports.Resume(); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) attach() *wire.Attachment {
	n.t.Helper()
	a, err := n.exports.Attach(n.t.Context(), &wire.AttachRequest{Volume: string(n.id)})
	if err != nil {
		n.t.Fatal(err)
	}
	return a
}

func (n *node) detach() error {
	ctx, cancel := context.WithTimeout(n.t.Context(), time.Second)
	defer cancel()
	_, err := n.exports.Detach(ctx, &wire.DetachRequest{Volume: string(n.id)})
	return err
}

// device waits until the volume is served and returns what the initiator sees.
func (n *node) device() target.Device {
	n.t.Helper()
	for limit := time.Now().Add(10 * time.Second); time.Now().Before(limit); time.Sleep(5 * time.Millisecond) {
		if d := n.portal.device(); d != nil {
			return d
		}
	}
	n.t.Fatal("the volume is not served")
	return nil
}

func (n *node) write(content byte) {
	n.t.Helper()
	if err := n.device().WriteAt(n.t.Context(), bytes.Repeat([]byte{content}, 8192), 1<<20, false); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) expect(content byte) {
	n.t.Helper()
	p := make([]byte, 8192)
	if err := n.device().ReadAt(n.t.Context(), p, 1<<20); err != nil {
		n.t.Fatal(err)
	}
	if !bytes.Equal(p, bytes.Repeat([]byte{content}, len(p))) {
		n.t.Fatalf("read %x…, want %x", p[:4], content)
	}
}

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
	if left, err := os.ReadDir(filepath.Join(n.dir, "state")); err != nil || len(left) != 0 {
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
	if err := n.detach(); err == nil {
		t.Fatal("detached with data that is nowhere but here")
	}
	// The process dies, too; the next one closes by itself once Swift is back.
	n.exports.Close()
	n.start()
	n.store.set(true)
	for limit := time.Now().Add(20 * time.Second); n.controller.isOpen(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("the closing was not continued")
		}
	}
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
	if err := n.detach(); err == nil {
		t.Fatal("detached with data that is nowhere but here")
	}
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
	if err := n.detach(); err == nil {
		t.Fatal("detached with data that is nowhere but here")
	}
	n.exports.Close()
	n.start() // closes in the background, which cannot end: Swift stays away
	var again *wire.Attachment
	for limit := time.Now().Add(2 * closeAttempt); again == nil; time.Sleep(50 * time.Millisecond) {
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
	err := use(string(n.id))
	e.lock.Unlock()
	if status.Code(err) != codes.Aborted {
		t.Errorf("status beside a change of stage: %v, want ABORTED", err)
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

// switched is a store that can be taken away.
type switched struct {
	swift.Store
	mu   sync.Mutex
	away bool
}

func (s *switched) set(there bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = !there
}

func (s *switched) check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return fmt.Errorf("switched off: %w", swift.ErrUnavailable)
	}
	return nil
}

func (s *switched) Put(ctx context.Context, c, name string, body []byte, o swift.PutOptions) (string, error) {
	if err := s.check(); err != nil {
		return "", err
	}
	return s.Store.Put(ctx, c, name, body, o)
}

func (s *switched) Get(ctx context.Context, c, name string, o swift.GetOptions) (swift.Object, error) {
	if err := s.check(); err != nil {
		return swift.Object{}, err
	}
	return s.Store.Get(ctx, c, name, o)
}

func (s *switched) Head(ctx context.Context, c, name string, o swift.HeadOptions) (swift.Info, error) {
	if err := s.check(); err != nil {
		return swift.Info{}, err
	}
	return s.Store.Head(ctx, c, name, o)
}

// controller keeps R5 for one volume.
type controller struct {
	mu      sync.Mutex
	away    bool
	open    bool
	lost    string // the journal whose epoch was ended without it
	journal string
	epoch   ident.Epoch
	head    *wire.Root
	rpo     string // "": an hour
	account string // of the volume, with its secrets
	secrets map[string]string
	readers int // how often one asked
}

func (c *controller) set(there bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away = !there
}

func (c *controller) isOpen() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}

// lose ends the epoch as the loss of its node would.
func (c *controller) lose() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open, c.lost = false, c.journal
}

func (c *controller) Confirm(_ context.Context, q *wire.ConfirmRequest, _ ...grpc.CallOption) (*wire.Opening, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away {
		return nil, status.Error(codes.Unavailable, "away")
	}
	answer := &wire.Opening{
		Container: container, Head: c.head, Size: volumeSize, Account: c.account, Secrets: c.secrets,
		Parameters: map[string]string{"journalSize": "512Mi", "rpo": cmp.Or(c.rpo, "1h")},
	}
	if q.Reader {
		c.readers++
		return answer, nil
	}
	if c.lost == q.Journal {
		return nil, status.Error(codes.DataLoss, "the epoch was ended without this journal")
	}
	if !c.open || c.journal != q.Journal {
		c.open, c.journal, c.epoch = true, q.Journal, ident.NewEpoch(c.epoch.Number+1)
	}
	answer.Epoch = wire.FromEpoch(c.epoch)
	return answer, nil
}

func (c *controller) report(journal string, root *wire.Root, open bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away {
		return status.Error(codes.Unavailable, "away")
	}
	if c.journal != journal || !c.open {
		return status.Error(codes.FailedPrecondition, "the epoch has ended")
	}
	if root != nil {
		c.head = root
	}
	c.open = open
	return nil
}

func (c *controller) Published(_ context.Context, q *wire.PublishedRequest, _ ...grpc.CallOption) (*wire.PublishedResponse, error) {
	return &wire.PublishedResponse{}, c.report(q.Journal, q.Root, true)
}

func (c *controller) Closed(_ context.Context, q *wire.ClosedRequest, _ ...grpc.CallOption) (*wire.ClosedResponse, error) {
	return &wire.ClosedResponse{}, c.report(q.Journal, q.Root, false)
}

// portal keeps targets as the iSCSI server would.
type portal struct {
	mu      sync.Mutex
	targets map[string]target.Target
}

func (p *portal) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 13260} }

func (p *portal) AddTarget(t target.Target) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, there := p.targets[t.IQN]; there {
		return target.ErrExists
	}
	if t.CHAP.Secret == "" || !strings.HasPrefix(t.IQN, IQNPrefix+":") {
		return errors.New("a target without a secret or a name of ours")
	}
	p.targets[t.IQN] = t
	return nil
}

func (p *portal) SetReady(iqn string, luns ...target.LUN) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	t, there := p.targets[iqn]
	if !there {
		return target.ErrNoTarget
	}
	t.NotReady, t.LUNs = false, luns
	p.targets[iqn] = t
	return nil
}

func (p *portal) RemoveTarget(_ context.Context, iqn string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, there := p.targets[iqn]; !there {
		return target.ErrNoTarget
	}
	delete(p.targets, iqn)
	return nil
}

func (p *portal) Resize(string, uint8, int64) error { return nil }

func (p *portal) device() target.Device { return p.lun().Device }

// lun is the LUN that is served; there may be none yet.
func (p *portal) lun() target.LUN {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.targets {
		if !t.NotReady {
			return t.LUNs[0]
		}
	}
	return target.LUN{}
}
