package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/swiftblock/csi-swiftblock/pkg/attach"
	"github.com/swiftblock/csi-swiftblock/pkg/host"
)

// Where processes find each other and their files unless they are told.
const (
	defaultRun      = "/run/csi-swiftblock" // what export, node and the host share, on a tmpfs
	defaultExport   = "unix://" + defaultRun + "/export.sock"
	defaultOpenings = "unix://" + defaultRun + "/openings.sock"
	defaultPortal   = "127.0.0.1:13260"
	defaultState    = "/var/lib/csi-swiftblock" // on a real disk
	defaultJournals = defaultState + "/export"
)

func hostCommand() *cobra.Command {
	c := group("host", "What the host's systemd runs when the machine goes up and down", hostStartCommand(), hostStopCommand(), hostServeCommand())
	c.Hidden = true
	return c
}

func hostStartCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "start",
		Short: "Do nothing, which shows that the host can run this program",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return nil },
	}
}

func hostStopCommand() *cobra.Command {
	s := hostStop{run: host.Exec{}}
	var now bool
	c := &cobra.Command{
		Use:   "stop",
		Short: "Let go of all volumes, if the machine is going down",
		Long: `Let go of all volumes, if the machine is going down.

Who uses a volume is ended, its file system unmounted, its session logged out.
Meanwhile the volumes are served by this program, unless the export process still
does. What that does not let go of in time, because Swift is away and something
must be read, is given up: its I/O fails, so that the machine can go down. What
was synced is in the journal either way.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if !now {
				down, err := host.GoingDown(c.Context(), s.run)
				if err != nil {
					return err
				}
				if !down {
					slog.Info("the machine is not going down: nothing to do")
					return nil
				}
			}
			return s.do(c.Context())
		},
	}
	c.Flags().BoolVar(&now, "now", false, "also if the machine is not going down: pods with volumes are ended")
	c.Flags().StringVar(&s.dir, "run", defaultRun, "directory where the export process has left what is needed to serve its volumes")
	c.Flags().DurationVar(&s.grace, "grace", 20*time.Second, "how long processes that use volumes have to end by themselves")
	c.Flags().DurationVar(&s.patience, "patience", 90*time.Second, "how long volumes may take, before what is left is given up")
	c.Flags().DurationVar(&s.last, "last", 30*time.Second, "how long giving up may take")
	return c
}

// hostStop takes the volumes off a machine.
type hostStop struct {
	run                   host.Runner
	dir                   string
	grace, patience, last time.Duration
}

func (s *hostStop) do(ctx context.Context) error {
	initiator := &host.Initiator{Run: s.run}
	leave := &host.Leave{
		Initiator: initiator, Mounts: host.Mounts{Run: s.run}, Filesystems: host.Filesystems{Run: s.run},
		Targets: attach.IQNPrefix, Grace: s.grace, Log: slog.Default(),
	}
	volumes, err := initiator.Volumes(leave.Targets)
	if err != nil {
		return err
	}
	if len(volumes) == 0 {
		slog.Info("no volume is logged in")
		return nil
	}
	slog.Info("letting go of volumes", "volumes", len(volumes))
	word, err := loadSpare(s.dir)
	if err != nil {
		slog.Error("should the export process be gone, nobody can serve the volumes in its place", "error", err)
	}
	if err = s.served(ctx, word, leave.All); err == nil {
		return nil
	}
	slog.Error("what is left is given up: its I/O fails from now on", "error", err)
	ctx, cancel := context.WithTimeout(ctx, s.last)
	defer cancel()
	return leave.GiveUp(ctx, word.end)
}

// served does something while the volumes are served: by the export process, or by
// a child of ours (R1) where that one is gone.
func (s *hostStop) served(ctx context.Context, word spare, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.patience)
	var child sync.WaitGroup
	if word.Portal != "" {
		child.Go(func() { s.serve(ctx, word.Portal) })
	}
	err := do(ctx)
	cancel()
	child.Wait()
	return err
}

// serve looks, until ctx ends, whether somebody serves the volumes, and where nobody
// does it starts a child that does.
func (s *hostStop) serve(ctx context.Context, portal string) {
	for ; ctx.Err() == nil; pause(ctx, time.Second) {
		if answers(ctx, portal) {
			continue
		}
		slog.Info("nobody serves the volumes: serving them", "portal", portal)
		child := exec.CommandContext(ctx, "/proc/self/exe", "host", "serve", "--run="+s.dir)
		child.Stdout, child.Stderr = os.Stderr, os.Stderr
		child.Cancel = func() error { return child.Process.Signal(syscall.SIGTERM) }
		child.WaitDelay = 10 * time.Second
		if err := child.Run(); err != nil && ctx.Err() == nil {
			slog.Error("serving volumes ended early", "error", err)
		}
	}
}

// answers reports whether somebody listens, be it so slowly that we do not wait.
func answers(ctx context.Context, address string) bool {
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return !errors.Is(err, syscall.ECONNREFUSED)
	}
	conn.Close()
	return true
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
