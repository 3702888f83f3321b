package main

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/swiftblock/csi-swiftblock/pkg/driver"
	"github.com/swiftblock/csi-swiftblock/pkg/host"
	"github.com/swiftblock/csi-swiftblock/pkg/trust"
	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// version is set when a release is built.
var version = "0.0.0-dev"

func identity() *driver.Identity { return &driver.Identity{Version: version} }

// hostTools runs the host's tools. Behind a prefix, that is in a container, they
// run in units of the host where it has any: else they would end with the container.
func hostTools(prefix, root string) host.Runner {
	run := host.Exec{Prefix: strings.Fields(prefix)}
	if prefix != "" && host.HasUnits(root) {
		return host.NewUnits(run)
	}
	return run
}

func nodeCommand() *cobra.Command {
	var config driver.NodeConfig
	var watched watched
	var csiEndpoint, export, prefix, root string
	c := &cobra.Command{
		Use:   "node",
		Short: "Log in to volumes with the host's initiator and mount them for pods",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			conn, err := (*trust.Keys)(nil).Dial(export, nil) // on this machine
			if err != nil {
				return err
			}
			defer conn.Close()
			run := hostTools(prefix, root)
			config.Exports = wire.NewExportsClient(conn)
			config.Initiator = &host.Initiator{Run: run, Root: root}
			lasting := host.NewLasting(run)
			config.Filesystems = host.Filesystems{Run: lasting}
			mounts := host.Mounts{Run: lasting}
			if prefix != "" { // the tools, and so the mounts, are in the host's namespace
				mounts.MountInfo = "/proc/1/mountinfo"
			}
			config.Mounts = mounts
			config.Usage = host.NewStatfs(8, 5*time.Second)
			server := driver.Server{Endpoint: csiEndpoint, Calls: watched.calls, Log: slog.Default()}
			return together(c.Context(),
				func(ctx context.Context) error {
					return server.Serve(ctx, identity().Register, driver.NewNode(config).Register)
				},
				func(ctx context.Context) error { return watched.serve(ctx) },
			)
		},
	}
	watched.add(c)
	c.Flags().StringVar(&config.ID, "node", "", "id of this node")
	c.Flags().Int64Var(&config.MaxVolumes, "max-volumes", 0, "how many volumes this node may have; 0: as many journals of the default size as export has room for")
	c.Flags().StringVar(&csiEndpoint, "csi", "unix:///run/csi-swiftblock/node.sock", "CSI endpoint")
	c.Flags().StringVar(&export, "export", "unix:///run/csi-swiftblock/export.sock", "where the export process answers")
	c.Flags().StringVar(&prefix, "host-prefix", "", `command to run the host's tools with, such as "nsenter --target 1 --mount --"`)
	c.Flags().StringVar(&root, "host-root", "", `the host's file system as seen from here, such as "/proc/1/root"`)
	c.MarkFlagRequired("node")
	return c
}
