package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/time/rate"

	"github.com/swiftblock/csi-swiftblock/pkg/trust"
)

func addCertificates(c *cobra.Command, dir *string) {
	c.Flags().StringVar(dir, "certificates", "", "directory of tls.crt, tls.key and ca.crt, for other machines; without it there are unix sockets only")
	c.MarkFlagDirname("certificates")
}

// openKeys reads the certificates of a directory; "" has none.
func openKeys(dir string) (*trust.Keys, error) {
	if dir == "" {
		return nil, nil
	}
	sometimes := rate.Sometimes{First: 10, Interval: time.Second} // any stranger can make us log
	return trust.Open(dir, func(err error) {
		sometimes.Do(func() { slog.Warn("TLS", "error", err) })
	})
}

func certificatesCommand() *cobra.Command {
	var valid time.Duration
	c := &cobra.Command{
		Use:   "certificates DIRECTORY NODE...",
		Short: "Make certificates for a trial on several machines",
		Long: `Make certificates for a trial on several machines.

DIRECTORY/controller and DIRECTORY/NODE get a certificate each, for --certificates
of the controller and of that node's export. The authority that issues them is
DIRECTORY/authority: keep its key to yourself. A later run has it issue anew.`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			dir, nodes := args[0], args[1:]
			authority, err := loadAuthority(filepath.Join(dir, "authority"))
			if err != nil {
				return err
			}
			holders := map[string]trust.Identity{"controller": trust.Controller}
			for _, node := range nodes {
				if node == "controller" || node == "authority" || !filepath.IsLocal(node) {
					return fmt.Errorf("node %q: not a name for a directory beside those of controller and authority", node)
				}
				holders[node] = trust.Node(node)
			}
			for name, id := range holders {
				if err := authority.Issue(filepath.Join(dir, name), id, valid); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().DurationVar(&valid, "valid", 90*24*time.Hour, "how long the certificates are good")
	return c
}

// authorityValid is how long a trial's authority is good.
const authorityValid = 10 * 365 * 24 * time.Hour

// loadAuthority makes an authority where there is none.
func loadAuthority(dir string) (*trust.Authority, error) {
	if _, err := os.Stat(dir); err == nil || !os.IsNotExist(err) {
		return trust.LoadAuthority(dir)
	}
	authority, err := trust.NewAuthority(authorityValid)
	if err != nil {
		return nil, err
	}
	return authority, authority.Save(dir)
}
