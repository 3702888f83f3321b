package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/swiftblock/csi-swiftblock/pkg/attach"
	"github.com/swiftblock/csi-swiftblock/pkg/class"
	"github.com/swiftblock/csi-swiftblock/pkg/driver"
	"github.com/swiftblock/csi-swiftblock/pkg/target"
	"github.com/swiftblock/csi-swiftblock/pkg/volume"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

func exportCommand() *cobra.Command {
	var config attach.Config
	var listen, controller, portal, budget string
	var cacheMiB int64
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
			ctx := c.Context()
			store, err := openStore()
			if err != nil {
				return err
			}
			go watchStore(ctx, store)
			config.Store = store
			conn, err := grpc.NewClient(controller, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				return err
			}
			defer conn.Close()
			server, err := target.New(target.Config{Addr: portal, Logger: slog.Default()})
			if err != nil {
				return fmt.Errorf("%w; end what has it, or choose another --portal", err)
			}
			if config.Budget, err = journalBudget(budget, config.Dir); err != nil {
				return err
			}
			config.Controller = wire.NewOpeningsClient(conn)
			config.Endpoint = listen
			config.Portal = server
			config.Cache = volume.NewCache(cacheMiB << 20)
			config.Traffic = volume.NewTraffic(background)
			config.Log = slog.Default()
			return serveExports(ctx, config, server, listen)
		},
	}
	c.Flags().StringVar(&config.Dir, "state", "/var/lib/csi-swiftblock/export", "directory of the journals, on a real disk")
	c.Flags().StringVar(&budget, "journal-budget", "", "what all journals may take together, such as 200Gi; default: 90 % of their file system")
	c.Flags().StringVar(&config.RunDir, "run", "/run/csi-swiftblock", "directory that survives the process and not the reboot")
	c.Flags().StringVar(&config.Node, "node", "", "id of this node, the same as of the node process")
	c.Flags().StringVar(&listen, "listen", "unix:///run/csi-swiftblock/export.sock", "where node and controller reach this process")
	c.Flags().StringVar(&controller, "controller", "unix:///run/csi-swiftblock/openings.sock", "where the controller answers")
	c.Flags().StringVar(&portal, "portal", "127.0.0.1:13260", "loopback address and port of the iSCSI targets")
	c.Flags().Int64Var(&cacheMiB, "cache", 256, "MiB of memory for what was read from Swift")
	c.Flags().IntVar(&background, "background", 8, "uploads and reads ahead under way at one time, for all volumes; each may take 24 MiB of memory")
	c.MarkFlagRequired("node")
	return c
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

// serveExports runs until ctx ends. The portal accepts when every recorded target
// is registered, and is closed before the volumes below it stop.
func serveExports(ctx context.Context, config attach.Config, server *target.Server, listen string) error {
	exports, err := attach.New(config)
	if err != nil {
		return err
	}
	if err := exports.Resume(); err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve() }()
	err = driver.Serve(ctx, listen, config.Log, exports.Register)
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return errors.Join(err, server.Shutdown(drain), <-served, exports.Close())
}
