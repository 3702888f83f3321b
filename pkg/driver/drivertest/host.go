// Package drivertest is a machine and an export process in memory, for tests of
// the driver that need no kernel: the same calls, the same errors, real
// directories as mount points, and a record of what was done.
package drivertest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/swiftblock/csi-swiftblock/pkg/driver"
	"github.com/swiftblock/csi-swiftblock/pkg/host"
	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// Host is a machine in memory: its initiator, file systems and mount table.
type Host struct {
	mu       sync.Mutex
	sessions map[ident.Volume]session
	disks    map[ident.Volume]host.FSType // what is on each volume; "" for nothing
	mounts   []mount
	calls    []string
	failures map[string]error
}

type session struct {
	host.Session
	size int64
}

type mount struct {
	host.Mount
	device string
}

var (
	_ driver.Initiator   = (*Host)(nil)
	_ driver.Filesystems = (*Host)(nil)
	_ driver.Mounts      = (*Host)(nil)
	_ driver.Usage       = (*Host)(nil)
)

// NewHost returns a machine without sessions and mounts.
func NewHost() *Host {
	return &Host{
		sessions: map[ident.Volume]session{},
		disks:    map[ident.Volume]host.FSType{},
		failures: map[string]error{},
	}
}

// Fail makes every further call of an operation fail; nil ends that.
func (h *Host) Fail(operation string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failures[operation] = err
}

// Calls returns the operations that changed something, in order, and forgets them.
func (h *Host) Calls() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	calls := h.calls
	h.calls = nil
	return calls
}

// Mounted returns how many mounts there are.
func (h *Host) Mounted() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.mounts)
}

// Sessions returns the sessions there are.
func (h *Host) Sessions() []host.Session {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []host.Session
	for _, s := range h.sessions {
		all = append(all, s.Session)
	}
	return all
}

// Crash is a reboot: sessions and mounts are gone, what is on the devices stays.
func (h *Host) Crash() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.sessions)
	h.mounts = nil
}

// done notes an operation unless it is to fail. The caller holds the lock.
func (h *Host) done(operation string) error {
	if err := h.failures[operation]; err != nil {
		return err
	}
	h.calls = append(h.calls, operation)
	return nil
}

// path is the device of a session: another one in each epoch of the volume.
func (s session) path() string { return "/dev/" + s.IQN[strings.LastIndexByte(s.IQN, ':')+1:] }

// volumeOf is the volume whose device is at a path.
func volumeOf(device string) ident.Volume {
	id, _, _ := strings.Cut(strings.TrimPrefix(device, "/dev/"), ".")
	return ident.Volume(id)
}

// Login makes a session, in place of one to another target of the volume.
func (h *Host) Login(_ context.Context, s host.Session) (host.Device, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	old, ok := h.sessions[s.Volume]
	if ok && old.IQN == s.IQN {
		return host.Device{Path: old.path(), Size: old.size}, nil
	}
	if err := h.done("login"); err != nil {
		return host.Device{}, err
	}
	h.sessions[s.Volume] = session{Session: s}
	return host.Device{Path: h.sessions[s.Volume].path()}, nil
}

// Logout ends the volume's session.
func (h *Host) Logout(_ context.Context, v ident.Volume) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.sessions[v]; !ok {
		return nil
	}
	if err := h.done("logout"); err != nil {
		return err
	}
	delete(h.sessions, v)
	return nil
}

// Device finds the volume's device.
func (h *Host) Device(v ident.Volume) (host.Device, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, ok := h.sessions[v]
	if !ok {
		return host.Device{}, host.ErrNotLoggedIn
	}
	return host.Device{Path: s.path(), Size: s.size}, nil
}

// Rescan makes the size known.
func (h *Host) Rescan(_ context.Context, v ident.Volume, size int64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, ok := h.sessions[v]
	if !ok {
		return host.ErrNotLoggedIn
	}
	if s.size >= size {
		return nil
	}
	if err := h.done("rescan"); err != nil {
		return err
	}
	s.size = size
	h.sessions[v] = s
	return nil
}

// Make formats a device, which must be blank.
func (h *Host) Make(_ context.Context, device string, t host.FSType) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if have := h.disks[volumeOf(device)]; have != "" {
		return fmt.Errorf("mkfs on %s, which holds %s", device, have)
	}
	if err := h.done("mkfs"); err != nil {
		h.disks[volumeOf(device)] = "half a file system"
		return err
	}
	h.disks[volumeOf(device)] = t
	return nil
}

// Wipe makes a device blank.
func (h *Host) Wipe(_ context.Context, device string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.done("wipe"); err != nil {
		return err
	}
	delete(h.disks, volumeOf(device))
	return nil
}

// SetReadOnly is only noted.
func (h *Host) SetReadOnly(context.Context, string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.done("setro")
}

// Flush does nothing: memory is as stable as it gets.
func (h *Host) Flush(context.Context, string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failures["flush"]
}

// Type tells what is on a device.
func (h *Host) Type(_ context.Context, device string) (host.FSType, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.disks[volumeOf(device)]; t != "" {
		return t, nil
	}
	return "", host.ErrNoFilesystem
}

// Put makes a device hold a file system, as a clone or an image does.
func (h *Host) Put(v ident.Volume, t host.FSType) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.disks[v] = t
}

// Check finds nothing to repair.
func (h *Host) Check(context.Context, string, host.FSType) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.done("fsck")
}

// Grow grows a mounted file system.
func (h *Host) Grow(_ context.Context, device, point string, _ host.FSType) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.at(point) < 0 {
		return fmt.Errorf("%s is not mounted at %s", device, point)
	}
	return h.done("grow")
}

// Of lists the mounts of a device.
func (h *Host) Of(device string) ([]host.Mount, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var found []host.Mount
	for _, m := range h.mounts {
		if m.device == device {
			found = append(found, m.Mount)
		}
	}
	return found, nil
}

// Point is the path: there are no links here.
func (h *Host) Point(path string) string { return path }

// Idle fails when it was told to.
func (h *Host) Idle(string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failures["idle"]
}

// MountDevice mounts a file system that must be there.
func (h *Host) MountDevice(_ context.Context, device, target string, t host.FSType, _ []string, readOnly bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.disks[volumeOf(device)] != t {
		return fmt.Errorf("mount %s as %s: it holds %q", device, t, h.disks[volumeOf(device)])
	}
	return h.mount("mount", device, target, t, readOnly, os.MkdirAll)
}

// BindDirectory mounts a mounted file system once more.
func (h *Host) BindDirectory(_ context.Context, source, target string, readOnly bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	from := h.at(source)
	if from < 0 {
		return fmt.Errorf("nothing is mounted at %s", source)
	}
	m := h.mounts[from]
	return h.mount("bind", m.device, target, m.FSType, readOnly, os.MkdirAll)
}

// BindDevice mounts a device file on a file.
func (h *Host) BindDevice(_ context.Context, device, target string, readOnly bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mount("bind", device, target, "devtmpfs", readOnly, func(path string, _ fs.FileMode) error {
		return errors.Join(os.MkdirAll(filepath.Dir(path), 0o750), os.WriteFile(path, nil, 0o600))
	})
}

func (h *Host) mount(operation, device, target string, t host.FSType, readOnly bool, create func(string, fs.FileMode) error) error {
	if err := h.done(operation); err != nil {
		return err
	}
	if err := create(target, 0o750); err != nil {
		return err
	}
	h.mounts = append(h.mounts, mount{host.Mount{Point: target, ReadOnly: readOnly, FSType: t}, device})
	return nil
}

// Unmount takes away what is mounted at target.
func (h *Host) Unmount(_ context.Context, target string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.at(target) < 0 {
		return nil
	}
	if err := h.done("umount"); err != nil {
		return err
	}
	h.mounts = slices.DeleteFunc(h.mounts, func(m mount) bool { return m.Point == target })
	return nil
}

// Remove unmounts target and removes it.
func (h *Host) Remove(ctx context.Context, target string) error {
	if err := h.Unmount(ctx, target); err != nil {
		return err
	}
	if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// at returns the mount at a path, or -1.
func (h *Host) at(path string) int {
	return slices.IndexFunc(h.mounts, func(m mount) bool { return m.Point == path })
}

// Usage is that of the machine's own file system.
func (h *Host) Usage(_ context.Context, path string) (host.Usage, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.at(path) < 0 {
		return host.Usage{}, fmt.Errorf("nothing is mounted at %s", path)
	}
	return host.Usage{Bytes: host.Amounts{Total: 100, Used: 40, Available: 55}, Inodes: host.Amounts{Total: 10, Used: 1, Available: 9}}, nil
}
