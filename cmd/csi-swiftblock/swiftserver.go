package main

import (
	"context"
	"log/slog"
	"os"

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
for trying csi-swiftblock out, not for data that matters. Its account is that of
ST_USER and ST_KEY; without them the user is swiftblock:demo and the key is drawn
once and kept in the directory.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := embedded.Start(dir, listen, embedded.Options{User: os.Getenv("ST_USER"), Key: os.Getenv("ST_KEY")})
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
