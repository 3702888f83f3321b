package host

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// systemd plays systemd-run and systemctl, with what systemd 252 says.
type systemd struct {
	states []string // that systemctl answers, the last one for ever
	stdout string
	stderr string
	code   int
	lines  []string
}

func (s *systemd) Run(_ context.Context, tool string, args ...string) ([]byte, error) {
	s.lines = append(s.lines, tool+" "+strings.Join(args, " "))
	if tool == "systemctl" {
		state := s.states[0]
		s.states = s.states[min(1, len(s.states)-1):]
		return []byte(state + "\n"), nil
	}
	if s.code == 0 {
		return []byte(s.stdout), nil
	}
	return []byte(s.stdout), &ToolError{Tool: tool, Args: args, Code: s.code, Stderr: s.stderr}
}

func ended(result, code string) string {
	return "Running as unit: u.service\nown words\nFinished with result: " + result +
		"\nMain processes terminated with: code=" + code + "\nService runtime: 3ms"
}

func TestUnits(t *testing.T) {
	s := &systemd{states: []string{"inactive"}, stdout: "ext4\n"}
	out, err := Units{s}.Run(t.Context(), "blkid", "-p", "/dev/sdb")
	if err != nil || string(out) != "ext4\n" {
		t.Errorf("%q, %v", out, err)
	}
	unit := unitName("blkid", []string{"-p", "/dev/sdb"})
	want := []string{
		"systemctl show --property=ActiveState --value " + unit,
		"systemd-run --unit=" + unit + " --wait --pipe --collect -- blkid -p /dev/sdb",
	}
	if !slices.Equal(s.lines, want) {
		t.Errorf("ran %q, want %q", s.lines, want)
	}
	if other := unitName("blkid", []string{"-p", "/dev/sdc"}); other == unit || !strings.HasPrefix(other, "csi-swiftblock-blkid-") {
		t.Errorf("units %s and %s", unit, other)
	}
}

// The exit codes of fsck mean something: systemd-run's own must not pass for them.
func TestUnitsTellWhoFailed(t *testing.T) {
	for name, c := range map[string]struct {
		stderr   string
		code     int
		exitCode int
		own      string
	}{
		"the tool":    {ended("exit-code", "exited/status=1"), 1, 1, "own words"},
		"a signal":    {ended("signal", "killed/status=9"), 137, -1, ""},
		"systemd-run": {"Failed to connect to bus: No such file or directory", 1, -1, ""},
		"no such unit": {
			"Failed to start transient service unit: Unit u.service was already loaded or has a fragment file.", 1, -1, "",
		},
	} {
		s := &systemd{states: []string{"inactive"}, stderr: c.stderr, code: c.code}
		_, err := Units{s}.Run(t.Context(), "fsck.ext4", "-p", "/dev/sdb")
		var failed *ToolError
		if !errors.As(err, &failed) || exitCode(err) != c.exitCode || failed.Tool != "fsck.ext4" || c.own != "" && failed.Stderr != c.own {
			t.Errorf("%s: %v with exit code %d, want %d", name, err, exitCode(err), c.exitCode)
		}
	}
}

// What an earlier process started is waited for, as long as the caller waits.
func TestUnitsWaitForTheirLike(t *testing.T) {
	s := &systemd{states: []string{"active", "deactivating", "failed"}}
	if _, err := (Units{s}).Run(t.Context(), "fsck.ext4", "-p", "/dev/sdb"); err != nil {
		t.Fatal(err)
	}
	if len(s.lines) != 4 || !strings.HasPrefix(s.lines[3], "systemd-run") {
		t.Errorf("ran %q", s.lines)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	s = &systemd{states: []string{"active"}}
	if _, err := (Units{s}).Run(ctx, "fsck.ext4", "-p", "/dev/sdb"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a unit that does not end: %v", err)
	}
	if slices.ContainsFunc(s.lines, func(line string) bool { return strings.HasPrefix(line, "systemd-run") }) {
		t.Error("a second one was started")
	}
}

func TestHasUnits(t *testing.T) {
	root := t.TempDir()
	for _, path := range []string{"run/systemd/system", "run/dbus/system_bus_socket"} {
		if HasUnits(root) {
			t.Errorf("without %s", path)
		}
		if err := os.MkdirAll(filepath.Join(root, path), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if !HasUnits(root) {
		t.Error("with all there is")
	}
}
