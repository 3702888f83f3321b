package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/swiftblock/csi-swiftblock/pkg/catalog"
	"github.com/swiftblock/csi-swiftblock/pkg/driver"
)

func controllerCommand() *cobra.Command {
	var flags catalogFlags
	var watched watched
	var csiEndpoint, openings, lease, holder, taint string
	var nodes []string
	var sweep, collect, look time.Duration
	c := &cobra.Command{
		Use:   "controller",
		Short: "Make and delete volumes and snapshots, and decide who may write",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			store, err := openStore()
			if err != nil {
				return err
			}
			s, err := flags.session(store)
			if err != nil {
				return err
			}
			exports, err := flags.nodes()
			if err != nil {
				return err
			}
			log := slog.Default()
			known, lead, err := surroundings(s, nodes, lease, holder)
			if err != nil {
				return err
			}
			board, err := noticeBoard(s, holder)
			if err != nil {
				return err
			}
			if board == nil {
				look = 0 // there is nothing to show it on
			}
			shown := driver.NewShown(board)
			controller := driver.NewController(driver.ControllerConfig{
				Catalog: s.catalog, Cluster: known, Account: store, Accounts: s.accounts, Keys: s.keys, Exports: exports,
			})
			admit, err := admission(s, taint)
			if err != nil {
				return err
			}
			chores := []func(context.Context) error{ // of one controller, which leads
				every(sweep, func(ctx context.Context) { sweepOnce(ctx, s.catalog) }),
				every(collect, func(ctx context.Context) { collectOnce(ctx, s.catalog) }),
				every(admissionPeriod, admit),
				every(look, func(ctx context.Context) {
					lookOnce(ctx, driver.Monitor{Catalog: s.catalog, Exports: exports, Board: shown})
				}),
			}
			go watchStore(c.Context(), store)
			return together(c.Context(),
				func(ctx context.Context) error {
					return driver.Server{Endpoint: csiEndpoint, Calls: watched.calls, Log: log}.
						Serve(ctx, identity().Register, controller.Register)
				},
				func(ctx context.Context) error {
					return driver.Server{Endpoint: openings, Keys: exports.Keys, Allow: driver.FromNode, Calls: watched.calls, Log: log}.
						Serve(ctx, driver.NewOpenings(s.catalog, s.accounts, s.keys).Register)
				},
				func(ctx context.Context) error {
					return watched.serve(ctx, store, shown, certificateMetric(exports.Keys))
				},
				func(ctx context.Context) error {
					return lead(ctx, func(ctx context.Context) error {
						defer shown.Forget()
						return together(ctx, chores...)
					})
				},
			)
		},
	}
	flags.add(c)
	watched.add(c)
	c.Flags().DurationVar(&flags.grace, "grace", 24*time.Hour, "how long what was deleted or superseded stays in Swift")
	c.Flags().DurationVar(&sweep, "sweep", time.Minute, "how often deleted volumes are looked for; 0: never")
	c.Flags().DurationVar(&collect, "collect", time.Hour, "how often old versions of living volumes are looked for; 0: never")
	c.Flags().DurationVar(&look, "look", time.Minute, "in Kubernetes: how often volumes are looked at, for the status of their resources and for events; 0: never")
	c.Flags().StringVar(&csiEndpoint, "csi", "unix://"+defaultRun+"/controller.sock", "CSI endpoint")
	c.Flags().StringVar(&openings, "openings", defaultOpenings, "where export processes reach the controller: a unix socket or HOST:PORT")
	c.Flags().StringSliceVar(&nodes, "nodes", nil, "ids of the nodes that volumes may be published to; default: any, in Kubernetes those of the cluster")
	c.Flags().StringVar(&taint, "startup-taint", "", "in Kubernetes: a taint that is taken from nodes once the driver answers there")
	c.Flags().StringVar(&lease, "lease", "csi-swiftblock", "in Kubernetes: the lease by which several controllers agree on who sweeps and collects")
	c.Flags().StringVar(&holder, "lease-holder", hostname(), "in Kubernetes: what tells this controller from others, such as the name of its pod")
	return c
}

// every returns a task that does something periodically; never, if the period is 0.
func every(period time.Duration, do func(context.Context)) func(context.Context) error {
	return func(ctx context.Context) error {
		if period <= 0 {
			<-ctx.Done()
			return nil
		}
		tick := time.NewTicker(period)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				do(ctx)
			}
		}
	}
}

// sweepOnce removes what deleted volumes left in Swift.
func sweepOnce(ctx context.Context, c *catalog.Catalog) {
	swept, err := c.Sweep(ctx)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		slog.Warn("sweep", "error", err)
	case swept.Objects > 0 || swept.Volumes > 0:
		slog.Info("swept", "volumes", swept.Volumes, "objects", swept.Objects)
	}
}

// collectOnce removes what living volumes do not need any more.
func collectOnce(ctx context.Context, c *catalog.Catalog) {
	done, err := c.Collect(ctx, catalog.CollectOptions{})
	switch {
	case ctx.Err() != nil:
	case err != nil:
		slog.Warn("collect", "error", err)
	case done.Objects > 0:
		slog.Info("collected", "objects", done.Objects, "bytes", done.Bytes)
	}
}

// lookOnce shows how volumes fare.
func lookOnce(ctx context.Context, m driver.Monitor) {
	if err := m.Round(ctx); err != nil && ctx.Err() == nil {
		slog.Warn("how volumes fare is not shown", "error", err)
	}
}

// together runs tasks until the first of them fails or ctx ends, then ends the
// others and returns all errors.
func together(ctx context.Context, tasks ...func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error)
	for _, task := range tasks {
		go func() { ended <- task(ctx) }()
	}
	var errs []error
	for range tasks {
		if err := <-ended; err != nil {
			errs = append(errs, err)
			cancel()
		}
	}
	return errors.Join(errs...)
}
