package host

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Units is a [Runner] that runs each tool in a transient unit of the host's
// systemd, so that the death of our container, with all that is in its cgroup,
// ends none halfway. The unit is named after the command line: where one that an
// earlier process started still runs, the same command waits for it and then runs
// again. For what we run that is harmless, as it is without units.
type Units struct{ systemd Runner }

// NewUnits returns a runner that reaches the host's systemd with run.
func NewUnits(run Runner) Units { return Units{run} }

// HasUnits reports whether the host, whose file system is seen at root, runs
// systemd (sd_booted(3)) with the message bus that `systemd-run --wait` needs.
func HasUnits(root string) bool {
	for _, path := range []string{"run/systemd/system", "run/dbus/system_bus_socket"} {
		if _, err := os.Stat(filepath.Join("/", root, path)); err != nil {
			return false
		}
	}
	return true
}

// unitName is the name of the unit for a command line.
func unitName(tool string, args []string) string {
	sum := sha256.Sum256([]byte(strings.Join(append([]string{tool}, args...), "\x00")))
	return fmt.Sprintf("csi-swiftblock-%s-%x.service", filepath.Base(tool), sum[:8])
}

// Run implements [Runner]. When ctx ends the unit goes on.
func (u Units) Run(ctx context.Context, tool string, args ...string) ([]byte, error) {
	unit := unitName(tool, args)
	if err := poll(ctx, func() (bool, error) { return u.over(ctx, unit) }); err != nil {
		return nil, fmt.Errorf("unit %s: %w", unit, err)
	}
	// --collect forgets a unit that failed; --pipe connects the output.
	line := append([]string{"--unit=" + unit, "--wait", "--pipe", "--collect", "--", tool}, args...)
	out, err := u.systemd.Run(ctx, "systemd-run", line...)
	var failed *ToolError
	if !errors.As(err, &failed) {
		return out, err
	}
	failed = &ToolError{Tool: tool, Args: args, Code: failed.Code, Stderr: failed.Stderr, Err: failed.Err}
	own, exited := toolStderr(failed.Stderr)
	switch {
	case exited:
		failed.Stderr = own
	case failed.Err == nil: // the code is systemd-run's own
		failed.Code, failed.Err = -1, errors.New("systemd-run did not bring it to its end")
	}
	return out, failed
}

// over reports whether a unit does not run, or not any more.
func (u Units) over(ctx context.Context, unit string) (bool, error) {
	out, err := u.systemd.Run(ctx, "systemctl", "show", "--property=ActiveState", "--value", unit)
	if err != nil {
		return false, err
	}
	state := strings.TrimSpace(string(out))
	return state == "inactive" || state == "failed", nil
}

// What systemd-run says on its standard error before and after the tool's own.
const (
	saysStarted = "Running as unit:"
	saysResult  = "Finished with result:"
	saysExited  = "Main processes terminated with: code=exited"
)

// toolStderr returns what of systemd-run's standard error the tool wrote, and
// whether the tool exited, so that the exit code is its own: systemd-run itself
// fails with 1, which says something else when fsck does.
func toolStderr(text string) (own string, exited bool) {
	before, after, _ := strings.Cut(text, saysResult)
	if strings.HasPrefix(before, saysStarted) {
		_, before, _ = strings.Cut(before, "\n")
	}
	return strings.TrimSpace(before), strings.Contains(after, saysExited)
}
