package main

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/swiftblock/csi-swiftblock/pkg/preflight"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// errUnfit says that a check failed; which one was printed.
var errUnfit = errors.New("this node is not fit for volumes yet: see what failed, and its remedy")

// How long Swift may take to answer.
const (
	preflightWait = 15 * time.Second
	initialWait   = 5 * time.Second // a node starts without Swift, and not late for that
)

func preflightCommand() *cobra.Command {
	var node preflight.Node
	var out output
	var initial bool
	var journal string
	c := &cobra.Command{
		Use:   "preflight",
		Short: "Check that this node has what volumes need, and say what to do",
		Long: `Check that this node has what volumes need, and say what to do.

Each check is ok, a warning (it works until something else goes wrong) or a
failure; the exit code is 1 if any failed. Nothing is changed.`,
		Example: `  csi-swiftblock preflight
  csi-swiftblock preflight --json | jq '.[] | select(.verdict != "ok")'`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if node.JournalSize, err = parseSize(journal); err != nil {
				return err
			}
			node.Running = !initial && node.Begun()
			results := node.Check()
			switch {
			case !initial:
				results = append(results, preflightStore(c.Context(), preflightWait)...)
			case !node.Used(): // pods may wait for the rest, and export says how Swift fares
				results = append(results, preflight.Warnings(preflightStore(c.Context(), initialWait))...)
			}
			if err := out.print(c, results, func(w io.Writer) { printResults(w, results) }); err != nil {
				return err
			}
			// Pods wait for the export process of a node that has volumes: whatever is
			// wrong, it must not be kept from starting.
			if preflight.Failed(results) && !(initial && node.Used()) {
				return errUnfit
			}
			return nil
		},
	}
	out.add(c)
	c.Flags().StringVar(&node.Root, "host-root", "", `the host's file system as seen from here, such as "/proc/1/root"`)
	c.Flags().StringVar(&node.StateDir, "state", defaultState, "the host's directory of journals")
	c.Flags().StringVar(&node.KubeletDir, "kubelet", "/var/lib/kubelet", "the host's directory of kubelet")
	c.Flags().StringVar(&node.KubeletConfig, "kubelet-config", "", "kubelet's configuration file; default: config.yaml in --kubelet")
	c.Flags().StringVar(&node.Portal, "portal", defaultPortal, "address and port of the iSCSI targets")
	c.Flags().StringVar(&node.Network, "network", "", "HOST:PORT where the controller reaches export")
	c.Flags().StringVar(&journal, "journal-size", "", "what one journal may take, such as 1Gi; default: 10Gi, as in a StorageClass")
	c.Flags().BoolVar(&initial, "init", false, "before export and node start: fail only for what the host lacks, and only where there are no volumes yet")
	return c
}

func preflightStore(ctx context.Context, wait time.Duration) []preflight.Result {
	credentials, err := credentialsFromEnvironment()
	if err != nil {
		return preflight.Unconfigured(err)
	}
	store, err := swift.New(credentials, swift.Options{Patience: wait / 3, Stall: wait / 3})
	if err != nil {
		return preflight.Unconfigured(err)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	return preflight.CheckStore(ctx, store, time.Now)
}

func printResults(w io.Writer, results []preflight.Result) {
	row(w, "CHECK", "VERDICT", "FOUND")
	for _, r := range results {
		row(w, r.Check, r.Verdict, printable(r.Found))
		if r.Remedy != "" {
			row(w, "", "remedy:", r.Remedy)
		}
	}
}
