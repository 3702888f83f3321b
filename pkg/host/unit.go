package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Unit is our unit of the host's systemd. It does nothing while the machine runs.
// When that goes down it is stopped after whatever runs pods and before iscsid and
// the network, and then takes our volumes off the machine ([Leave]).
//
// It is made at run time, below /run, so a reboot always ends it, and the driver's
// next start brings it back: nobody who removes the driver has to remember it. Only
// the program that it runs, a copy of our own, is elsewhere: /run may be noexec.
type Unit struct {
	Run  Runner // of the host's systemctl, not in a unit
	Root string // where the host's file system is seen
	// Dir is the host's directory of the program, RunDir where the export process
	// left word of how to serve its volumes.
	Dir, RunDir string
}

const (
	unitOfHost = "csi-swiftblock-host.service"
	// UnitPath is where the unit is, on the host.
	UnitPath    = "/run/systemd/system/" + unitOfHost
	programName = "csi-swiftblock"
)

// unitText is the unit. Stopping goes in the opposite order of starting: what the
// unit is After is stopped after it. Units that a host does not have do not matter.
//
// The time-out is that of `host stop`, and more: it must have its last word.
const unitText = `# Made by csi-swiftblock while it runs here; gone after a reboot.
[Unit]
Description=Let go of csi-swiftblock's volumes when the machine goes down
After=network.target network-online.target iscsid.socket iscsid.service iscsi.service open-iscsi.service
Before=kubelet.service containerd.service crio.service docker.service cri-docker.service
Before=k3s.service k3s-agent.service rke2-server.service rke2-agent.service k0scontroller.service k0sworker.service
Before=snap.microk8s.daemon-kubelite.service snap.microk8s.daemon-containerd.service
RequiresMountsFor=%[1]s

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=%[1]s/` + programName + ` host start
ExecStop=%[1]s/` + programName + ` host stop --run=%[2]s
TimeoutStopSec=180
`

// Supported reports whether the host has what the unit needs.
func (u Unit) Supported() bool {
	_, err := os.Stat(filepath.Join("/", u.Root, "run/systemd/system"))
	return err == nil
}

// Install copies the program, this one, to the host and starts the unit. What is
// there already stays as it is.
func (u Unit) Install(ctx context.Context) (err error) {
	defer u.wrap(&err, "install")
	for _, dir := range []string{u.Dir, u.RunDir} {
		// Neither systemd's words nor its specifiers may be in them.
		if err := checkPath(dir); err != nil || strings.ContainsAny(dir, " \t%$\"'\\;") {
			return errors.Join(fmt.Errorf("%q cannot be in a unit: %w", dir, ErrInvalid), err)
		}
	}
	own, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer own.Close()
	if err := os.MkdirAll(u.on(u.Dir), 0o700); err != nil {
		return err
	}
	if err := place(u.on(u.program()), own, 0o700); err != nil {
		return err
	}
	if err := place(u.on(UnitPath), strings.NewReader(fmt.Sprintf(unitText, u.Dir, u.RunDir)), 0o644); err != nil {
		return err
	}
	if _, err := u.Run.Run(ctx, "systemctl", "daemon-reload"); err != nil {
		return err
	}
	_, err = u.Run.Run(ctx, "systemctl", "start", unitOfHost)
	return err
}

// Remove takes unit and program away.
func (u Unit) Remove(ctx context.Context) (err error) {
	defer u.wrap(&err, "remove")
	if _, err := os.Stat(u.on(UnitPath)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if _, err := u.Run.Run(ctx, "systemctl", "stop", unitOfHost); err != nil {
		return err
	}
	for _, path := range []string{UnitPath, u.program()} {
		if err := os.Remove(u.on(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	_, err = u.Run.Run(ctx, "systemctl", "daemon-reload")
	return err
}

// GoingDown reports whether systemd has begun to stop everything.
func GoingDown(ctx context.Context, run Runner) (bool, error) {
	// It fails for every state but "running".
	out, err := run.Run(ctx, "systemctl", "is-system-running")
	state := strings.TrimSpace(string(out))
	if state == "" {
		return false, err
	}
	return state == "stopping", nil
}

func (u Unit) program() string       { return filepath.Join(u.Dir, programName) }
func (u Unit) on(path string) string { return filepath.Join("/", u.Root, path) }
func (u Unit) wrap(err *error, operation string) {
	if *err != nil {
		*err = fmt.Errorf("%s the host unit %s: %w", operation, unitOfHost, *err)
	}
}

// place makes path a file of this content, by a rename: what runs from the old one
// goes on. A file that has it already is left alone.
func place(path string, content io.ReadSeeker, mode fs.FileMode) error {
	if old, err := os.Open(path); err == nil {
		same, err := equal(old, content)
		old.Close()
		if same || err != nil {
			return err
		}
	}
	if _, err := content.Seek(0, io.SeekStart); err != nil {
		return err
	}
	draft := path + ".new" // one name: what a killed process left is found again
	if err := os.Remove(draft); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(draft, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(draft))
	}
	return os.Rename(draft, path)
}

// equal compares two files from their beginnings.
func equal(a, b io.Reader) (bool, error) {
	x, y := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, errA := io.ReadFull(a, x)
		m, errB := io.ReadFull(b, y)
		if n != m || !bytes.Equal(x[:n], y[:m]) {
			return false, nil
		}
		if errA != nil || errB != nil {
			end := func(err error) bool { return err == io.EOF || err == io.ErrUnexpectedEOF }
			if end(errA) && end(errB) {
				return true, nil
			}
			return false, errors.Join(errA, errB)
		}
	}
}
