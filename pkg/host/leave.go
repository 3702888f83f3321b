package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// Leave takes every volume off a machine that is going down: who uses it is
// ended, its file system unmounted, its session logged out. Else the kernel would
// wait, in the last moment, for targets that are gone.
//
// The volumes must be served meanwhile, or what the page cache holds cannot be
// written.
type Leave struct {
	Initiator   *Initiator
	Mounts      Mounts
	Filesystems Filesystems
	Processes   Processes
	// Targets begins the names of our targets.
	Targets string
	// Grace is how long processes have between SIGTERM and SIGKILL.
	Grace time.Duration
	Log   *slog.Logger
}

// ErrLeft says that volumes are still logged in.
var ErrLeft = errors.New("not every volume could be let go of")

// attempt bounds one tool: what a volume waits for may have changed since.
const attempt = 30 * time.Second

// All lets go of all volumes, all at one time, and returns when none is left. When
// ctx ends with some left, it is an ErrLeft.
func (l *Leave) All(ctx context.Context) error {
	volumes, err := l.Initiator.Volumes(l.Targets)
	if err != nil {
		return err
	}
	began := time.Now()
	return each(volumes, func(v ident.Volume) error {
		return l.until(ctx, v, func(ctx context.Context) error { return l.try(ctx, v, began) })
	})
}

// GiveUp ends the sessions of all volumes as they are. What waits for them fails,
// also in the kernel, and what the page cache held is lost; what was synced is in
// the journals. end ends whoever serves them.
//
// A session that has lost its target takes no recovery_tmo any more (EBUSY), but
// iscsid logs it out. One that stands does not end while a command of it waits, so
// its target has to go; should iscsid be gone by then, recovery_tmo does the rest.
func (l *Leave) GiveUp(ctx context.Context, end func()) error {
	volumes, err := l.Initiator.Volumes(l.Targets)
	if err != nil {
		return err
	}
	for _, v := range volumes {
		if err := l.Initiator.FailSoon(v); err != nil {
			l.Log.Info("session without a target", "reason", err)
		}
	}
	end()
	return each(volumes, func(v ident.Volume) error {
		return l.until(ctx, v, func(ctx context.Context) error { return l.Initiator.Logout(ctx, v) })
	})
}

// each does something for all volumes at one time: they fail singly.
func each(volumes []ident.Volume, do func(ident.Volume) error) error {
	errs := make([]error, len(volumes))
	var all sync.WaitGroup
	for i, v := range volumes {
		all.Go(func() { errs[i] = do(v) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// until tries something again and again: systemd itself unmounts at the same time,
// and pods end.
func (l *Leave) until(ctx context.Context, v ident.Volume, try func(context.Context) error) error {
	log := l.Log.With("volume", v)
	began := time.Now()
	var told string
	for {
		err := func() error {
			ctx, cancel := context.WithTimeout(ctx, attempt)
			defer cancel()
			return try(ctx)
		}()
		if err == nil {
			log.Info("volume let go of", "took", time.Since(began).Round(time.Millisecond))
			return nil
		}
		if text := err.Error(); text != told {
			told = text
			log.Info("volume not let go of yet", "reason", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("volume %s: %w: %w", v, ErrLeft, err)
		case <-time.After(10 * pollInterval):
		}
	}
}

func (l *Leave) try(ctx context.Context, v ident.Volume, began time.Time) error {
	device, err := l.Initiator.Device(v)
	if errors.Is(err, ErrNotLoggedIn) { // perhaps a session without a device
		return l.Initiator.Logout(ctx, v)
	}
	if err != nil {
		return err
	}
	mounts, err := l.Mounts.Of(device.Path)
	if err != nil {
		return err
	}
	var busy error
	for _, m := range slices.Backward(mounts) { // what was mounted last is on top
		busy = errors.Join(busy, l.Mounts.Unmount(ctx, m.Point))
	}
	users, err := l.Processes.Using(device.Path)
	if err != nil {
		return err
	}
	if len(users) > 0 {
		return l.end(users, device.Path, time.Since(began) > l.Grace)
	}
	if err := errors.Join(busy, l.Mounts.Idle(device.Path)); err != nil {
		return err
	}
	if err := l.Filesystems.Flush(ctx, device.Path); err != nil {
		return err
	}
	return l.Initiator.Logout(ctx, v)
}

// end asks processes to end, and then makes them. It always returns an error: they
// are not gone yet.
func (l *Leave) end(users []int, device string, late bool) error {
	signal := unix.SIGTERM
	if late {
		signal = unix.SIGKILL
	}
	var errs []error
	for _, pid := range users {
		errs = append(errs, l.Processes.Signal(pid, device, signal))
	}
	return errors.Join(append(errs, fmt.Errorf("%s: %w by processes %v", device, ErrInUse, users))...)
}
