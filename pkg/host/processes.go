package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"k8s.io/mount-utils"
)

// Processes finds who uses a device, and ends them.
type Processes struct {
	// Proc defaults to /proc, and differs in tests.
	Proc string
}

// Using returns the processes of pods that use the block device: whose mount
// namespace, other than our own, has its file system, or that have the device or
// a file on it open. A pod keeps a file system alive after its last mount on the
// host is gone. Services of the host are left out: its systemd ends them.
func (p Processes) Using(device string) ([]int, error) {
	number, err := deviceNumber(device)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(p.proc())
	if err != nil {
		return nil, err
	}
	namespaces := map[string]bool{p.namespace("self"): false}
	var found []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == 1 || pid == os.Getpid() {
			continue
		}
		if p.uses(entry.Name(), number, namespaces) && !p.service(entry.Name()) {
			found = append(found, pid)
		}
	}
	return found, nil
}

// uses reports whether a process uses the device; namespaces holds, for each mount
// namespace that was looked at, whether that has it mounted. A process that ends
// meanwhile uses nothing.
func (p Processes) uses(pid, number string, namespaces map[string]bool) bool {
	namespace := p.namespace(pid)
	mounted, known := namespaces[namespace]
	if !known {
		mounted = p.mounted(pid, number)
		namespaces[namespace] = mounted
	}
	if mounted {
		return true
	}
	open, _ := filepath.Glob(filepath.Join(p.proc(), pid, "fd", "*"))
	for _, file := range append(open, filepath.Join(p.proc(), pid, "cwd")) {
		if onDevice(file, number) {
			return true
		}
	}
	return false
}

func (p Processes) namespace(pid string) string {
	link, _ := os.Readlink(filepath.Join(p.proc(), pid, "ns", "mnt"))
	return link
}

func (p Processes) mounted(pid, number string) bool {
	lines, err := mount.ParseMountInfo(filepath.Join(p.proc(), pid, "mountinfo"))
	if err != nil {
		return false
	}
	for _, line := range lines {
		if fmt.Sprintf("%d:%d", line.Major, line.Minor) == number {
			return true
		}
	}
	return false
}

// onDevice reports whether a file is the device or is on it. It asks nobody on a
// network for that: a server that is gone must not hold us up.
func onDevice(file, number string) bool {
	var s unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, file, unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &s) != nil {
		return false
	}
	block := s.Mode&unix.S_IFMT == unix.S_IFBLK && fmt.Sprintf("%d:%d", s.Rdev_major, s.Rdev_minor) == number
	return block || fmt.Sprintf("%d:%d", s.Dev_major, s.Dev_minor) == number
}

// service reports whether a process belongs to a unit of the host's own.
//
//	0::/system.slice/iscsid.service
func (p Processes) service(pid string) bool {
	text, err := os.ReadFile(filepath.Join(p.proc(), pid, "cgroup"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		_, slice, _ := strings.Cut(strings.TrimSpace(line), ":/system.slice/")
		if unit, _, _ := strings.Cut(slice, "/"); strings.HasSuffix(unit, ".service") {
			return true
		}
	}
	return false
}

// Signal sends a signal to a process if it uses the device still: its number may
// have become another's.
func (p Processes) Signal(pid int, device string, signal unix.Signal) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	number, err := deviceNumber(device)
	if err != nil || !p.uses(strconv.Itoa(pid), number, map[string]bool{p.namespace("self"): false}) {
		return err
	}
	if err := unix.PidfdSendSignal(fd, signal, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal process %d: %w", pid, err)
	}
	return nil
}

func (p Processes) proc() string {
	if p.Proc != "" {
		return p.Proc
	}
	return "/proc"
}
