package targets

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// policy is what Debian's package scripts ask before they start a daemon.
const policy = "/usr/sbin/policy-rc.d"

// Install installs Debian's packages where a tool of theirs is missing: tools are
// patterns of paths, or names that are on PATH.
func Install(ctx context.Context, tools, packages []string) error {
	if os.Geteuid() != 0 {
		return errors.New("tgtd needs root: run as root")
	}
	missing := slices.DeleteFunc(slices.Clone(tools), func(tool string) bool {
		if filepath.IsAbs(tool) {
			found, err := filepath.Glob(tool)
			return err == nil && len(found) > 0
		}
		_, err := exec.LookPath(tool)
		return err == nil
	})
	if len(missing) == 0 {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("missing: %s, and there is no apt-get: install what Debian calls %s",
			strings.Join(missing, ", "), strings.Join(packages, ", "))
	}
	fmt.Fprintln(os.Stderr, "installing", strings.Join(packages, ", "))
	// The packages' daemons must not start.
	if _, err := os.Stat(policy); errors.Is(err, os.ErrNotExist) {
		if err := os.WriteFile(policy, []byte("#!/bin/sh\nexit 101\n"), 0o755); err != nil {
			return err
		}
		defer os.Remove(policy)
	}
	for _, args := range [][]string{{"update"}, append([]string{"install", "-y", "--no-install-recommends"}, packages...)} {
		cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-q"}, args...)...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s: %w\n%s", args[0], err, text)
		}
	}
	return nil
}
