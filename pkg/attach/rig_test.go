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

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/swift/swifttest"
	"github.com/swiftblock/csi-swiftblock/pkg/target"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

const (
	volumeSize = 64 << 20
	container  = "attachtest"
	patience   = 90 * time.Second // with a busy machine and a slow disk
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
	boot       string
	cuts       []*wire.Root // that publish made
}

func newNode(t *testing.T) *node { return newNodeWith(t, swifttest.NewStore(t)) }

func newNodeWith(t *testing.T, store swift.Store) *node {
	n := &node{t: t, dir: t.TempDir(), store: &switched{Store: store}, controller: &controller{}, id: ident.NewVolume(), boot: "first boot"}
	if err := n.store.CreateContainer(t.Context(), container); err != nil {
		t.Fatal(err)
	}
	n.start()
	t.Cleanup(func() { n.exports.Close() })
	return n
}

// reboot is a new export process in another boot of the node.
func (n *node) reboot() {
	n.t.Helper()
	n.exports.Close()
	n.boot += "+1"
	n.start()
}

// keepsNothingOf looks for secrets in all files that survive a reboot.
func (n *node) keepsNothingOf(secrets ...[]byte) {
	n.t.Helper()
	files := 0
	err := filepath.WalkDir(filepath.Join(n.dir, "state"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := os.ReadFile(path)
		for i, secret := range secrets {
			if bytes.Contains(body, secret) {
				n.t.Errorf("%s, which survives the node, has secret %d", path, i)
			}
		}
		files++
		return err
	})
	if err != nil || files == 0 {
		n.t.Errorf("%d files were looked at: %v", files, err)
	}
}

// outlives starts the process again without the controller, and again after a reboot, which
// takes what is in RunDir, with it: what was written is there each time.
func (n *node) outlives(content byte) {
	n.t.Helper()
	for _, reboot := range []bool{false, true} {
		if err := n.exports.Close(); err != nil {
			n.t.Fatal(err)
		}
		if reboot {
			if err := os.RemoveAll(filepath.Join(n.dir, "run")); err != nil {
				n.t.Fatal(err)
			}
		}
		n.controller.set(reboot)
		n.start()
		n.expect(content)
	}
}

// await waits until something comes about behind the calls.
func (n *node) await(what string, done func() bool) {
	n.t.Helper()
	for limit := time.Now().Add(patience); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			n.t.Fatal(what)
		}
	}
}

// left are the names in the volume's folder on the disk.
func (n *node) left() []string {
	entries, err := os.ReadDir(filepath.Join(n.dir, "state", string(n.id)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		n.t.Fatal(err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names
}

// start is a new export process.
func (n *node) start() {
	n.t.Helper()
	if err := n.begin(); err != nil {
		n.t.Fatal(err)
	}
}

// begin is start, which may fail.
func (n *node) begin() error {
	n.t.Helper()
	n.portal = &portal{targets: map[string]target.Target{}}
	var err error
	n.exports, err = New(Config{
		Dir: filepath.Join(n.dir, "state"), RunDir: filepath.Join(n.dir, "run"), Node: "n1", Endpoint: "unix:///nowhere", Store: n.store,
		Controller: n.controller, Portal: n.portal, Log: slog.New(slog.DiscardHandler), Boot: n.boot, AllowAnyFS: true,
	})
	if err != nil {
		return err
	}
	return n.exports.Resume()
}

func (n *node) attach() *wire.Attachment {
	n.t.Helper()
	var a *wire.Attachment
	n.await("the volume is not attached", func() bool {
		var err error
		a, err = n.exports.Attach(n.t.Context(), &wire.AttachRequest{Volume: string(n.id)})
		if err != nil && status.Code(err) != codes.Aborted { // beside what goes on in the background
			n.t.Fatal(err)
		}
		return err == nil
	})
	return a
}

func (n *node) detach() error { return n.detachWithin(patience) }

// detachInVain is detach of what cannot be uploaded.
func (n *node) detachInVain() {
	n.t.Helper()
	if err := n.detachWithin(time.Second); err == nil {
		n.t.Fatal("detached with data that is nowhere but here")
	}
}

func (n *node) detachWithin(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(n.t.Context(), limit)
	defer cancel()
	_, err := n.exports.Detach(ctx, &wire.DetachRequest{Volume: string(n.id)})
	return err
}

// device waits until the volume is served and returns what the initiator sees.
func (n *node) device() target.Device {
	n.t.Helper()
	for limit := time.Now().Add(patience); time.Now().Before(limit); time.Sleep(5 * time.Millisecond) {
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
	gone    bool   // the volume was deleted
	lost    string // the journal whose epoch was ended without it
	journal string
	epoch   ident.Epoch
	head    *wire.Root
	rpo     string // "": an hour
	account string // of the volume, with its secrets
	secrets map[string]string
	readers int // how often one asked
	keys    keys.Set
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

// remove deletes the volume.
func (c *controller) remove() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
}

// answer is what all calls answer that do not get further.
func (c *controller) answer() error {
	switch {
	case c.away:
		return status.Error(codes.Unavailable, "away")
	case c.gone:
		return status.Error(codes.NotFound, "no such volume")
	}
	return nil
}

func (c *controller) Confirm(_ context.Context, q *wire.ConfirmRequest, _ ...grpc.CallOption) (*wire.Opening, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.answer(); err != nil {
		return nil, err
	}
	answer := &wire.Opening{
		Container: container, Head: c.head, Size: volumeSize, Account: c.account, Secrets: c.secrets,
		Parameters: map[string]string{"journalSize": "512Mi", "rpo": cmp.Or(c.rpo, "1h")},
	}
	if !c.keys.IsZero() {
		answer.Parameters["encryption"] = "aes-256-gcm"
		answer.Keys, answer.Key, answer.WrappedBy = c.keys.Bytes(), c.keys.Own, "class"
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
	if err := c.answer(); err != nil {
		return err
	}
	if c.journal != journal || !c.open {
		return status.Error(codes.DataLoss, "the epoch has ended")
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
	vacant  time.Duration // of all that are ready
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

func (p *portal) Vacant(iqn string) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t, there := p.targets[iqn]; !there || t.NotReady {
		return 0
	}
	return p.vacant
}

// leave is for how long no initiator has been there.
func (p *portal) leave(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.vacant = d
}

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
