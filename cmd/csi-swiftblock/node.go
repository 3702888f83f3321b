package main

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/swiftblock/csi-swiftblock/pkg/attach"
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
	var csiEndpoint, export, prefix, root, unit string
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
			initiator := &host.Initiator{Run: run, Root: root}
			config.Initiator = initiator
			lasting := host.NewLasting(run)
			config.Filesystems = host.Filesystems{Run: lasting}
			mounts := host.Mounts{Run: lasting}
			if prefix != "" { // the tools, and so the mounts, are in the host's namespace
				mounts.MountInfo, mounts.Root = "/proc/1/mountinfo", "/proc/1/root"
			}
			config.Mounts = mounts
			config.Usage = host.NewStatfs(5 * time.Second)
			node, identity := driver.NewNode(config), identity()
			identity.Ready = node.Ready
			server := driver.Server{Endpoint: csiEndpoint, Calls: watched.calls, Log: slog.Default()}
			return together(c.Context(),
				func(ctx context.Context) error {
					return server.Serve(ctx, identity.Register, node.Register)
				},
				func(ctx context.Context) error { return watched.serve(ctx) },
				func(ctx context.Context) error {
					keepUnit(ctx, host.Unit{Run: host.Exec{Prefix: strings.Fields(prefix)}, Root: root, Dir: unit, RunDir: defaultRun}, initiator)
					return nil
				},
			)
		},
	}
	watched.add(c)
	c.Flags().StringVar(&unit, "host-unit", "", "the host's directory for the program of a unit that lets go of volumes when the host goes down; none: no unit")
	c.Flags().StringVar(&config.ID, "node", "", "id of this node")
	c.Flags().Int64Var(&config.MaxVolumes, "max-volumes", 0, "how many volumes this node may have; 0: as many journals of the default size as export has room for")
	c.Flags().StringVar(&csiEndpoint, "csi", "unix://"+defaultRun+"/node.sock", "CSI endpoint")
	c.Flags().StringVar(&export, "export", defaultExport, "where the export process answers")
	c.Flags().StringVar(&prefix, "host-prefix", "", `command to run the host's tools with, such as "nsenter --target 1 --mount --"`)
	c.Flags().StringVar(&root, "host-root", "", `the host's file system as seen from here, such as "/proc/1/root"`)
	c.MarkFlagRequired("node")
	return c
}

// keepUnit keeps our unit of the host's systemd while this process lives; after that
// it stays as long as there are volumes.
func keepUnit(ctx context.Context, unit host.Unit, initiator *host.Initiator) {
	switch {
	case unit.Dir == "":
		return
	case !unit.Supported():
		slog.Info("the host has no systemd: before a reboot, unmount volumes or drain the node")
		return
	}
	if err := unit.Install(ctx); err != nil {
		slog.Warn("before a reboot, unmount volumes or drain the node: else the reboot may not end", "error", err)
	}
	<-ctx.Done()
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), unitWait)
	defer cancel()
	volumes, err := initiator.Volumes(attach.IQNPrefix)
	if err == nil && len(volumes) == 0 {
		err = unit.Remove(late)
	}
	if err != nil {
		slog.Warn("the host's unit stays until the next reboot", "error", err)
	}
}

// unitWait is how long systemd may take to forget our unit.
const unitWait = 10 * time.Second
