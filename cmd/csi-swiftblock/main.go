// Command csi-swiftblock is block storage for Kubernetes on OpenStack Swift: the
// CSI driver's processes and the administrator's tools in one binary.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := traced(ctx, root())
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "csi-swiftblock:", explain(err))
		os.Exit(1)
	}
}

// traced runs a command and sends what it traced.
func traced(ctx context.Context, c *cobra.Command) error {
	stop, err := startTracing(ctx)
	if err != nil {
		return err
	}
	defer stop()
	return c.ExecuteContext(ctx)
}

// group is a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short,
		Args: cobra.NoArgs, // says that a command is unknown
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(commands...)
	return c
}

// heedMemoryLimit makes garbage go before the process meets the memory limit of its
// container, at which the kernel would end it. A tenth is left for what is not the
// heap's. GOMEMLIMIT, where it is set, counts instead.
func heedMemoryLimit() {
	if limit, err := memlimit.SetGoMemLimitWithOpts(memlimit.WithRatio(0.9)); err == nil {
		slog.Debug("memory limit", "heap", limit)
	}
}

func root() *cobra.Command {
	c := &cobra.Command{
		Use:   "csi-swiftblock",
		Short: "Block storage for Kubernetes on OpenStack Swift",
		Long: `Block storage for Kubernetes on OpenStack Swift.

On a node, "export" serves volumes as iSCSI targets on the loopback address and
"node" logs in to them and mounts for pods; "controller" makes volumes and
snapshots. Where Swift is and who we are comes from the environment: ST_AUTH,
ST_USER and ST_KEY, or OS_* variables, or OS_CLOUD with a clouds.yaml.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	level := c.PersistentFlags().String("log-level", "info", "least level to log: debug, info, warn or error")
	c.PersistentPreRunE = func(*cobra.Command, []string) error {
		var l slog.Level
		if err := l.UnmarshalText([]byte(*level)); err != nil {
			return fmt.Errorf("--log-level %q: want debug, info, warn or error", *level)
		}
		slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: l})))
		heedMemoryLimit()
		return nil
	}
	c.AddCommand(controllerCommand(), nodeCommand(), exportCommand())
	c.AddCommand(registerCommand(), probeCommand(), hostCommand())
	c.AddCommand(volumeCommand(), snapshotCommand(), imageCommand(), journalCommand(), nodesCommand())
	c.AddCommand(keysCommand(), checkCommand(), gcCommand(), preflightCommand())
	c.AddCommand(demoCommand(), swiftServerCommand(), certificatesCommand(), bundleCommand())
	return c
}
