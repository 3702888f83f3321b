package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/swiftblock/csi-swiftblock/pkg/attach"
	"github.com/swiftblock/csi-swiftblock/pkg/durable"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
	"github.com/swiftblock/csi-swiftblock/pkg/target"
	"github.com/swiftblock/csi-swiftblock/pkg/trust"
	"github.com/swiftblock/csi-swiftblock/pkg/volume"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// spare is what it takes to serve a node's volumes in the place of an export process
// whose container has ended before the machine: what is in the page cache has to go
// somewhere. The export process leaves it in its directory on /run, where it does
// not survive the reboot, readable by root alone.
type spare struct {
	Process int               `json:"process"` // the export process, by the id that the host knows
	Node    string            `json:"node"`
	Portal  string            `json:"portal"`
	State   string            `json:"state"`
	Swift   swift.Credentials `json:"swift"`
	CA      []byte            `json:"ca,omitempty"` // content of Swift.CAFile, which is in the container
}

const (
	spareFile = "spare.json"
	spareCA   = "spare-ca.pem"
)

// leaveSpare leaves what takes the place of an export process when the machine goes
// down. Without it volumes are served all the same.
func leaveSpare(config attach.Config, portal string) {
	credentials, err := credentialsFromEnvironment()
	if err == nil {
		s := spare{Process: os.Getpid(), Node: config.Node, Portal: portal, Swift: credentials}
		if s.State, err = filepath.Abs(config.Dir); err == nil {
			err = s.leave(config.RunDir)
		}
	}
	if err != nil {
		slog.Warn("a reboot of this machine may lose what was not synced: nobody could serve the volumes in the place of this process", "error", err)
	}
}

// leave writes what a spare needs.
func (s spare) leave(run string) (err error) {
	if s.Swift.CAFile != "" {
		if s.CA, err = os.ReadFile(s.Swift.CAFile); err != nil {
			return err
		}
	}
	body, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return durable.Replace(filepath.Join(run, spareFile), body, 0o600)
}

// loadSpare reads what the export process has left.
func loadSpare(run string) (s spare, err error) {
	body, err := os.ReadFile(filepath.Join(run, spareFile))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(body, &s); err != nil {
		return s, fmt.Errorf("%s: %w", filepath.Join(run, spareFile), errors.New("not what an export process leaves")) // the error might quote a secret
	}
	if len(s.CA) > 0 {
		s.Swift.CAFile = filepath.Join(run, spareCA)
		err = durable.Replace(s.Swift.CAFile, s.CA, 0o600)
	}
	return s, err
}

// end ends the export process, if it is still there.
func (s spare) end() {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", s.Process))
	if err == nil && s.Process > 1 && strings.TrimSpace(string(name)) == "csi-swiftblock" {
		err = syscall.Kill(s.Process, syscall.SIGKILL)
	}
	slog.Info("whoever served the volumes is ended", "process", s.Process, "error", err)
}

// serve serves the volumes until ctx ends. It asks no controller and answers none:
// the machine is going down, and what is unfinished is taken up after that.
func (s spare) serve(ctx context.Context, run string) error {
	store, err := swift.New(s.Swift, swift.Options{})
	if err != nil {
		return err
	}
	conn, err := (*trust.Keys)(nil).Dial("unix://"+filepath.Join(run, "nobody.sock"), nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	portal, err := target.New(target.Config{Addr: s.Portal, Logger: slog.Default()})
	if err != nil {
		return err
	}
	exports, err := attach.New(attach.Config{
		Dir: s.State, RunDir: run, Node: s.Node, Store: store,
		Controller: wire.NewOpeningsClient(conn), Portal: portal,
		Cache: volume.NewCache(64 << 20), Traffic: volume.NewTraffic(1), Log: slog.Default(),
	})
	if err != nil {
		return err
	}
	return serveExports(ctx, exports, portal, []func(context.Context) error{
		func(ctx context.Context) error { <-ctx.Done(); return nil },
	})
}

func hostServeCommand() *cobra.Command {
	var run string
	c := &cobra.Command{
		Use:    "serve",
		Short:  "Serve this node's volumes in the place of an export process that is gone",
		Args:   cobra.NoArgs,
		Hidden: true, // `host stop` starts it
		RunE: func(c *cobra.Command, _ []string) error {
			if err := becomeFlusher(); err != nil {
				slog.Warn("this process may wait for pages that wait for it, when memory is short", "error", err)
			}
			s, err := loadSpare(run)
			if err != nil {
				return err
			}
			return s.serve(c.Context(), run)
		},
	}
	c.Flags().StringVar(&run, "run", defaultRun, "directory where the export process has left what is needed")
	return c
}
