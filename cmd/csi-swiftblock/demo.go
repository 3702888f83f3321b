package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/swiftblock/csi-swiftblock/cmd/csi-swiftblock/demo"
)

func demoCommand() *cobra.Command {
	var config demo.Config
	c := &cobra.Command{
		Use:   "demo",
		Short: "Do the main job once with real parts and print what each step cost",
		Long: `Do the main job once with real parts and print what each step cost.

It needs root, a kernel with an iSCSI initiator and a running iscsid; "make demo"
provides both in a throw-away guest. With ST_AUTH, ST_USER and ST_KEY set it uses
that Swift, else the embedded server.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if os.Getenv("ST_AUTH") != "" {
				credentials, err := credentialsFromEnvironment()
				if err != nil {
					return err
				}
				if credentials.Version != 1 {
					return errors.New("the demo measures traffic by a proxy, which needs version 1 authentication (ST_AUTH)")
				}
				config.Swift = &credentials
			}
			config.Out = c.OutOrStdout()
			return demo.Run(c.Context(), config)
		},
	}
	c.Flags().StringVar(&config.State, "state", defaultState, "directory on a real disk for what the demo makes")
	c.Flags().BoolVar(&config.Keep, "keep", false, "leave the demo's directory for inspection")
	return c
}
