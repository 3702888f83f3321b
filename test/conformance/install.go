package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// policy is what Debian's package scripts ask before they start a daemon.
const policy = "/usr/sbin/policy-rc.d"

// installTools installs iscsi-test-cu and tgtd where they are missing.
func installTools(ctx context.Context) error {
	missing := false
	for _, tool := range []string{"iscsi-test-cu", "tgtd", "tgtadm"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing = true
		}
	}
	if os.Geteuid() != 0 {
		return errors.New("tgtd needs root: run as root")
	}
	if !missing {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return errors.New("iscsi-test-cu and tgtd are missing, and there is no apt-get: install libiscsi's tools and tgt")
	}
	fmt.Println("installing libiscsi-bin and tgt")
	// The packages' daemons must not start.
	if _, err := os.Stat(policy); errors.Is(err, os.ErrNotExist) {
		if err := os.WriteFile(policy, []byte("#!/bin/sh\nexit 101\n"), 0o755); err != nil {
			return err
		}
		defer os.Remove(policy)
	}
	for _, args := range [][]string{{"update"}, {"install", "-y", "--no-install-recommends", "libiscsi-bin", "tgt"}} {
		cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-q"}, args...)...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s: %w\n%s", args[0], err, text)
		}
	}
	return nil
}
