package main

import (
	"context"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/swiftblock/csi-swiftblock/pkg/swift/embedded"
)

func swiftServerCommand() *cobra.Command {
	var dir, listen string
	c := &cobra.Command{
		Use:   "swift-server",
		Short: "Serve a directory as a Swift-compatible object store (for trial)",
		Long: `Serve a directory as a Swift-compatible object store.

It is durable but a single process without replicas: for the demo, for tests and
for trying csi-swiftblock out, not for data that matters. Log in to
http://ADDRESS/auth/v1.0 as test:tester with the key "testing".`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := embedded.Start(dir, listen, embedded.Options{})
			if err != nil {
				return err
			}
			slog.Info("serving", "url", s.URL, "dir", dir)
			context.AfterFunc(c.Context(), func() { s.Close() })
			return s.Wait()
		},
	}
	c.Flags().StringVar(&dir, "dir", "", "directory that holds the objects")
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:8080", "address and port")
	c.MarkFlagRequired("dir")
	return c
}
