package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/swiftblock/csi-swiftblock/pkg/driver"
)

func registerCommand() *cobra.Command {
	var listen, socket string
	c := &cobra.Command{
		Use:   "register",
		Short: "Tell kubelet where the node process answers",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			registration := driver.NewRegistration(socket)
			return together(c.Context(),
				func(ctx context.Context) error {
					return driver.Server{Endpoint: "unix://" + listen, Log: slog.Default()}.Serve(ctx, registration.Register)
				},
				registration.Await,
			)
		},
	}
	c.Flags().StringVar(&listen, "listen", "/registration/"+driver.Name+"-reg.sock", "our socket in kubelet's directory of registrations")
	c.Flags().StringVar(&socket, "csi", "/var/lib/kubelet/plugins/"+driver.Name+"/csi.sock", "the node process' socket, by its path on the host")
	return c
}

// errNotReady is a node process that waits for the export process beside it.
var errNotReady = errors.New("not ready: on a node, the export process does not answer (see its log)")

func probeCommand() *cobra.Command {
	var endpoint string
	var timeout time.Duration
	var ready bool
	c := &cobra.Command{
		Use:   "probe",
		Short: "Succeed if a CSI endpoint answers (for liveness and readiness probes)",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), timeout)
			defer cancel()
			conn, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				return err
			}
			defer conn.Close()
			answer, err := csi.NewIdentityClient(conn).Probe(ctx, &csi.ProbeRequest{})
			if err != nil {
				return fmt.Errorf("%s: %w", endpoint, err)
			}
			if ready && !answer.GetReady().GetValue() {
				return fmt.Errorf("%s: %w", endpoint, errNotReady)
			}
			return nil
		},
	}
	c.Flags().StringVar(&endpoint, "csi", "", "CSI endpoint, such as unix:///csi/csi.sock")
	c.Flags().BoolVar(&ready, "ready", false, "fail, too, when it answers that it is not ready")
	c.Flags().DurationVar(&timeout, "timeout", 5*time.Second, "how long it may take to answer")
	c.MarkFlagRequired("csi")
	return c
}
