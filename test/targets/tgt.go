package targets

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// TgtConfig says how Debian's tgtd is to serve one thin LUN on a file.
type TgtConfig struct {
	Name string // of the server and of the file
	Dir  string // where the file is
	// Control is the number of tgtd's management socket. It is not 0, the default
	// one, so that a tgtd of the host is left alone.
	Control int
	// Store is the backing store; "" is tgtd's default, rdwr.
	Store string
	// Limits are parameters of the target's sessions, by their iSCSI keys.
	Limits map[string]string
}

// Tgt returns tgtd as a server.
func Tgt(c TgtConfig) (*Server, error) {
	const iqn = "iqn.2026-11.dev.swiftblock:tgt"
	portal, err := freePort()
	if err != nil {
		return nil, err
	}
	return &Server{
		Name: c.Name,
		command: func() *exec.Cmd {
			return exec.Command("tgtd", "-f", "-C", strconv.Itoa(c.Control), "--iscsi", "portal="+portal)
		},
		ready: func(ctx context.Context, _ *bufio.Reader) (string, error) {
			file := filepath.Join(c.Dir, c.Name+".img")
			if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, DeviceSize)); err != nil {
				return "", err
			}
			for _, args := range c.setup(iqn, file) {
				if err := c.admin(ctx, args); err != nil {
					return "", err
				}
			}
			return "iscsi://" + portal + "/" + iqn + "/1", nil
		},
	}, nil
}

// setup is the arguments of the calls of tgtadm that make the target.
func (c *TgtConfig) setup(iqn, file string) [][]string {
	lun := []string{"--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "-b", file}
	if c.Store != "" {
		lun = append(lun, "--bstype", c.Store)
	}
	calls := [][]string{
		{"--op", "new", "--mode", "target", "--tid", "1", "-T", iqn},
		lun,
		{"--op", "update", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "--params", "thin_provisioning=1"},
	}
	for key, value := range c.Limits {
		calls = append(calls, []string{"--op", "update", "--mode", "target", "--tid", "1", "-n", key, "-v", value})
	}
	return append(calls, []string{"--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL"})
}

// admin calls tgtadm, again until tgtd has come up.
func (c *TgtConfig) admin(ctx context.Context, args []string) error {
	args = append([]string{"-C", strconv.Itoa(c.Control), "--lld", "iscsi"}, args...)
	for {
		text, err := exec.CommandContext(ctx, "tgtadm", args...).CombinedOutput()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("tgtadm: %w: %s", err, text)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// freePort finds a loopback address to listen on.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
