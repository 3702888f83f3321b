// Package attach is what one node exports: for each volume that is staged here a
// journal, an engine and a LUN, recorded on disk and taken up again after the
// death of the process.
//
// It runs in `export`, the process that serves blocks (R1): nothing in here ever
// touches a file system or a device that we serve. The life of an export:
//
//	          Attach                 Attach              Detach             Detach
//	(none) ──────────▶ confirming ──────────▶ open ──────────▶ closing ──────────▶ closed ──▶ (none)
//	         J synced             controller   ▲     LUN gone   │     last root      controller
//	                              gave epoch   └────────────────┘      published     knows it
//	                                                 Attach
//
// Each arrow first records the stage it leads to, so a process that dies on the
// way, or a call that is cut off, is continued by the next call or the next
// start. Volumes fail singly.
package attach

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/accounts"
	"github.com/swiftblock/csi-swiftblock/pkg/ballast"
	"github.com/swiftblock/csi-swiftblock/pkg/delta"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/target"
	"github.com/swiftblock/csi-swiftblock/pkg/volume"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// IQNPrefix begins the name of every target: IQNPrefix:<volume>.<epoch number>.
const IQNPrefix = "iqn.2026-11.dev.swiftblock"

// lunNumber is the only LUN of each target.
const lunNumber = 0

// Config is what the exports of a node stand on.
type Config struct {
	// Dir holds one folder per volume; it must be on a disk that survives the
	// node's reboot.
	Dir string
	// RunDir survives the process and not the node, such as /run/csi-swiftblock.
	RunDir string
	// Budget is how many bytes all journals in Dir may have together; 0: no limit.
	Budget int64
	// Node is this node's CSI id; Endpoint is where the controller reaches the
	// Exports service of this process.
	Node, Endpoint string

	Store      swift.Store // of the process's own account
	Controller wire.OpeningsClient
	Portal     Portal
	Cache      *volume.Cache
	Traffic    *volume.Traffic
	Log        *slog.Logger

	// Boot tells this boot of the node from all others; "" asks the kernel.
	Boot string
	// AllowAnyFS lets tests keep journals on tmpfs.
	AllowAnyFS bool

	accounts *accounts.Accounts
	keys     keys.Store // of volumes, by id
	metrics  *metrics
	ballast  *ballast.File
}

// What is set aside of the disk for records of the exports. Each publication of a
// volume replaces two, of some KiB.
const (
	ballastName = ".ballast"
	ballastSize = 64 << 20
)

// Portal is the iSCSI server, as far as exports need it; see [target.Server].
type Portal interface {
	Addr() net.Addr
	AddTarget(target.Target) error
	SetReady(iqn string, luns ...target.LUN) error
	RemoveTarget(ctx context.Context, iqn string) error
	Resize(iqn string, lun uint8, size int64) error // to size bytes
	// Vacant is how long a target that is ready has had no session.
	Vacant(iqn string) time.Duration
}

// Exports is the Exports service of a node.
type Exports struct {
	wire.UnimplementedExportsServer
	config Config

	// background is what Resume started; it ends with Close.
	background sync.WaitGroup
	stop       context.Context
	cancel     context.CancelFunc

	mu   sync.Mutex
	byID map[ident.Volume]*export
}

// New returns the exports of config.Dir. Nothing is served before [Exports.Resume].
func New(config Config) (*Exports, error) {
	for _, dir := range []string{config.Dir, config.RunDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	// The secrets are kept where they do not survive the node: whoever finds its
	// disk finds none.
	vault := accounts.Directory(filepath.Join(config.RunDir, "accounts"))
	config.metrics = newMetrics()
	config.keys = keysIn(config.RunDir)
	config.accounts = accounts.New(config.Store, vault, swift.Options{})
	if config.Boot == "" {
		boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		if err != nil {
			return nil, err
		}
		config.Boot = strings.TrimSpace(string(boot))
	}
	var err error
	if config.ballast, err = ballast.Open(filepath.Join(config.Dir, ballastName), ballastSize); err != nil {
		return nil, err
	}
	if missing := config.ballast.Missing(); missing > 0 {
		config.Log.Warn("the disk of the journals is full: once what is set aside is used up, publishing and closing will wait for room",
			"directory", config.Dir, "aside", ballastSize-missing)
	}
	stop, cancel := context.WithCancel(context.Background())
	return &Exports{config: config, stop: stop, cancel: cancel, byID: make(map[ident.Volume]*export)}, nil
}

// Resume takes up what an earlier process left. When it returns, every recorded
// target is registered, so the portal may open: an initiator that logs in too
// early hears "service unavailable, retry" instead of "not found", after which
// Linux would give up. The journals are recovered behind that, each by itself.
//
// After a reboot of the node no initiator is left that would log in again, and
// perhaps nobody stages the volume here any more: what was open is closed (R6),
// unless Attach takes it back meanwhile.
func (x *Exports) Resume() error {
	entries, err := os.ReadDir(x.config.Dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		id, err := ident.ParseVolume(entry.Name())
		if err != nil {
			continue // not ours
		}
		e := x.export(id)
		err = x.resume(e)
		if errors.Is(err, errNewer) {
			// A downgrade. Without its target the initiator would give the volume up;
			// as long as nobody listens it waits.
			return fmt.Errorf("volume %s: %w", id, err)
		}
		if err != nil {
			x.config.Log.Error("export not resumed", "volume", id, "error", err)
			e.failed = err // nobody calls yet
		}
	}
	return nil
}

// resume registers e's target, if an earlier process has promised it, and takes it up.
func (x *Exports) resume(e *export) error {
	r, err := e.folder.load()
	if err != nil || r == nil {
		return err
	}
	if r.Stage == confirming {
		// It was promised to nobody. NodeStage comes again; after a reboot, perhaps not.
		if r.Boot == x.config.Boot {
			return nil
		}
		return e.scrap(r)
	}
	switch {
	case r.Boot != x.config.Boot:
		err = e.rebooted(r)
	case r.Stage == open:
		err = e.announce(r)
	case r.Revoke:
		err = e.offerNothing(r)
	}
	if err != nil {
		return err
	}
	e.lock.Lock() // until the first attempt is over, so that calls answer ABORTED
	x.background.Go(func() { x.takeUp(e) })
	return nil
}

// closeAttempt bounds how long the background tries to close an export before a
// call gets its turn: with Swift away a closing cannot end, but NodeStage may
// take it back.
const closeAttempt = 10 * time.Second

// takeUp serves an open volume again, or goes on closing one, until that is done
// or cannot be, or until the process ends. It is called with the export's lock
// held, and lets go of it between attempts.
func (x *Exports) takeUp(e *export) {
	log := x.config.Log.With("volume", e.id)
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		began := time.Now()
		err := x.attempt(e)
		e.failed = err
		e.lock.Unlock()
		if err == nil {
			log.Info("export resumed", "took", time.Since(began))
			return
		}
		if x.stop.Err() != nil {
			return
		}
		log.Error("export not resumed", "error", err)
		if errors.Is(err, delta.ErrDamaged) || errors.Is(err, delta.ErrForeign) || errors.Is(err, delta.ErrUnfit) {
			return // waiting does not help: the journal is kept for the administrator
		}
		select {
		case <-time.After(pause):
		case <-x.stop.Done():
			return
		}
		e.lock.Lock()
	}
}

// attempt goes on from whatever stage the export is in by now: a call may have
// taken it further between two attempts.
func (x *Exports) attempt(e *export) error {
	r, err := e.folder.load()
	switch {
	case err != nil:
		return err
	case r == nil || r.Stage == confirming || r.Stage == open && e.volume != nil || r.Stage == revoked && r.Revoke:
		return nil
	case r.Stage == open:
		return e.serve(x.stop, r)
	}
	ctx, cancel := context.WithTimeout(x.stop, closeAttempt)
	defer cancel()
	if !r.Reader && r.Stage != revoked && e.over(ctx, r) {
		return e.abandon(ctx, r)
	}
	return e.close(ctx, r)
}

// Close ends the process's part: volumes stop, nothing is uploaded, everything
// is resumed by the next start. The portal must have been shut down before.
func (x *Exports) Close() error {
	x.cancel()
	x.background.Wait()
	x.mu.Lock()
	defer x.mu.Unlock()
	var errs []error
	for _, e := range x.byID {
		e.lock.Lock()
		if e.volume != nil {
			errs = append(errs, e.volume.Stop())
			e.show(nil)
		}
		e.lock.Unlock()
	}
	return errors.Join(append(errs, x.config.ballast.Close())...)
}

// export returns the slot of a volume, which stays for the life of the process.
func (x *Exports) export(id ident.Volume) *export {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := x.byID[id]
	if e == nil {
		e = &export{config: &x.config, id: id, folder: x.config.folder(id), limits: newLimits()}
		x.byID[id] = e
	}
	return e
}

// folder is where what a volume has on this node is.
func (c *Config) folder(id ident.Volume) folder {
	return folder{filepath.Join(c.Dir, string(id)), c.ballast}
}
