package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/swiftblock/csi-swiftblock/pkg/attach"
	"github.com/swiftblock/csi-swiftblock/pkg/class"
	"github.com/swiftblock/csi-swiftblock/pkg/driver"
	"github.com/swiftblock/csi-swiftblock/pkg/target"
	"github.com/swiftblock/csi-swiftblock/pkg/trust"
	"github.com/swiftblock/csi-swiftblock/pkg/volume"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

func exportCommand() *cobra.Command {
	var config attach.Config
	var ways ways
	var watched watched
	var portal, budget string
	var cacheMiB, buffersMiB int64
	var background int
	c := &cobra.Command{
		Use:   "export",
		Short: "Serve volumes as iSCSI targets on this node",
		Long: `Serve volumes as iSCSI targets on this node.

Killed, upgraded or crashed it takes up every volume where it was when it starts
again; pods wait meanwhile. It never touches a device or file system that it
serves.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if err := becomeFlusher(); err != nil {
				slog.Warn("without CAP_SYS_RESOURCE this process may wait for pages that wait for it, when memory is short", "error", err)
			}
			ctx := c.Context()
			store, err := openStore()
			if err != nil {
				return err
			}
			config.Store = store
			keys, err := openKeys(ways.certificates)
			if err != nil {
				return err
			}
			conn, err := keys.Dial(ways.toController(), nil)
			if err != nil {
				return fmt.Errorf("--controller: %w", err)
			}
			defer conn.Close()
			server, err := target.New(target.Config{Addr: portal, Logger: slog.Default(), Buffers: buffersMiB << 20})
			if err != nil {
				return fmt.Errorf("%w; end what has it, or choose another --portal", err)
			}
			if config.Budget, err = journalBudget(budget, config.Dir); err != nil {
				return err
			}
			config.Controller = wire.NewOpeningsClient(conn)
			config.Endpoint = ways.fromController(config.Node)
			config.Portal = server
			config.Cache = volume.NewCache(cacheMiB << 20)
			config.Traffic = volume.NewTraffic(background)
			config.Log = slog.Default()
			exports, err := attach.New(config)
			if err != nil {
				return err
			}
			leave := func() { leaveSpare(config, portal) }
			leave()
			go watchStore(ctx, store, leave)
			tasks := []func(context.Context) error{
				func(ctx context.Context) error { return watched.serve(ctx, store, exports, certificateMetric(keys)) },
			}
			for _, s := range ways.servers(keys) {
				s.Calls, s.Log = watched.calls, config.Log
				tasks = append(tasks, func(ctx context.Context) error { return s.Serve(ctx, exports.Register) })
			}
			return serveExports(ctx, exports, server, tasks)
		},
	}
	c.Flags().StringVar(&config.Dir, "state", defaultJournals, "directory of the journals, on a real disk")
	c.Flags().StringVar(&budget, "journal-budget", "", "what all journals may take together, such as 200Gi; default: 90 % of their file system")
	c.Flags().StringVar(&config.RunDir, "run", defaultRun, "directory that survives the process and not the reboot")
	c.Flags().StringVar(&config.Node, "node", "", "id of this node, the same as of the node process")
	c.Flags().StringVar(&portal, "portal", defaultPortal, "loopback address and port of the iSCSI targets")
	c.Flags().Int64Var(&cacheMiB, "cache", 256, "MiB of memory for what was read from Swift")
	c.Flags().Int64Var(&buffersMiB, "buffers", 64, "MiB of memory for commands on their way, of all volumes together; each has up to 16 MiB besides")
	c.Flags().IntVar(&background, "background", 8, "uploads and reads ahead under way at one time, for all volumes; each may take 24 MiB of memory, 40 while Swift does not take what is uploaded")
	c.MarkFlagRequired("node")
	ways.add(c)
	watched.add(c)
	return c
}

// ways are how this process and the others reach each other: over unix sockets on
// one machine; between machines the controller is reached, and reaches this process,
// over the network with certificates.
type ways struct {
	listen, network, endpoint, controller, certificates string
}

func (w *ways) add(c *cobra.Command) {
	c.Flags().StringVar(&w.listen, "listen", defaultExport, "socket where node, and a controller on this machine, reach this process")
	c.Flags().StringVar(&w.network, "network", "", "HOST:PORT where a controller on another machine reaches this process")
	c.Flags().StringVar(&w.endpoint, "endpoint", "", "HOST:PORT that the controller is told; default: that of --network")
	c.Flags().StringVar(&w.controller, "controller", defaultOpenings, "where the controller answers: a unix socket or HOST:PORT")
	addCertificates(c, &w.certificates)
}

func (w *ways) toController() string {
	if strings.HasPrefix(w.controller, "unix:") {
		return w.controller
	}
	return trust.Endpoint(trust.Controller, w.controller)
}

func (w *ways) fromController(node string) string {
	if w.network == "" {
		return w.listen
	}
	return trust.Endpoint(trust.Node(node), cmp.Or(w.endpoint, w.network))
}

func (w *ways) servers(keys *trust.Keys) []driver.Server {
	servers := []driver.Server{{Endpoint: w.listen}}
	if w.network != "" {
		servers = append(servers, driver.Server{Endpoint: w.network, Keys: keys, Allow: driver.FromController})
	}
	return servers
}

// journalBudget is how many bytes of disk the journals in dir may have together.
func journalBudget(given, dir string) (int64, error) {
	if given != "" {
		q, err := resource.ParseQuantity(given)
		if err == nil && q.Value() < class.MinJournalSize {
			err = errors.New("it is less than one journal takes")
		}
		if err != nil {
			return 0, fmt.Errorf("--journal-budget %.32q: %w", given, err)
		}
		return q.Value(), nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, err
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(dir, &disk); err != nil {
		return 0, fmt.Errorf("statfs %s: %w", dir, err)
	}
	return int64(disk.Blocks) * disk.Bsize / 10 * 9, nil
}

// serveExports runs tasks until ctx ends. The portal accepts when every recorded target
// is registered, and is closed before the volumes below it stop.
func serveExports(ctx context.Context, exports *attach.Exports, portal *target.Server, tasks []func(context.Context) error) error {
	if err := exports.Resume(); err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- portal.Serve() }()
	err := together(ctx, tasks...)
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return errors.Join(err, portal.Shutdown(drain), <-served, exports.Close())
}
