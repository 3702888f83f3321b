package host

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// process makes what /proc shows of a process in a directory.
func (m *machine) process(pid int, namespace, cgroup, mountinfo string, files ...string) {
	dir := m.path("proc", fmt.Sprint(pid))
	m.write(filepath.Join(dir, "cgroup"), cgroup+"\n")
	m.write(filepath.Join(dir, "mountinfo"), mountinfo)
	for _, d := range []string{"ns", "fd"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			m.t.Fatal(err)
		}
	}
	links := map[string]string{"ns/mnt": namespace, "cwd": "/"}
	for i, file := range files {
		links[fmt.Sprintf("fd/%d", i)] = file
	}
	for name, to := range links {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			m.t.Fatal(err)
		}
	}
}

func TestProcessesUsingADevice(t *testing.T) {
	m := newMachine(t)
	m.makeNode("sdb", 8, 16)
	m.makeNode("sdc", 8, 32)
	const (
		pod     = "0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-2.scope"
		service = "0::/system.slice/iscsid.service"
		mounted = "40 1 8:16 / /data rw - ext4 /dev/sdb rw\n"
		other   = "40 1 8:160 / /data rw - ext4 /dev/sdk rw\n"
	)
	m.process(1, "mnt:[1]", "0::/init.scope", mounted)
	m.process(10, "mnt:[1]", "0::/user.slice", mounted) // a shell on the host, elsewhere
	m.process(11, "mnt:[2]", pod, mounted)
	m.process(12, "mnt:[2]", pod, mounted)
	m.process(13, "mnt:[3]", pod, other)
	m.process(14, "mnt:[4]", "0::/system.slice/docker-1.scope", other, m.path("dev/sdc"), m.path("dev/sdb")) // raw block
	m.process(15, "mnt:[5]", service, mounted, m.path("dev/sdb"))
	m.process(16, "mnt:[6]", "1:name=systemd:/system.slice/x.service/y\n0::/", mounted)
	m.process(17, "mnt:[7]", pod, "")
	m.process(os.Getpid(), "mnt:[8]", pod, mounted)
	if err := os.MkdirAll(m.path("proc/self/ns"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("mnt:[1]", m.path("proc/self/ns/mnt")); err != nil {
		t.Fatal(err)
	}
	p := Processes{Proc: m.path("proc")}
	found, err := p.Using(m.path("dev/sdb"))
	slices.Sort(found)
	if want := []int{11, 12, 14}; err != nil || !slices.Equal(found, want) {
		t.Errorf("processes %v, want %v, %v", found, want, err)
	}
	if found, err := p.Using(m.path("dev/sdc")); err != nil || !slices.Equal(found, []int{14}) {
		t.Errorf("processes %v of the other device, %v", found, err)
	}
}

// A number that has become another process's is not signalled.
func TestSignalOnlyWhoUsesTheDevice(t *testing.T) {
	m := newMachine(t)
	m.makeNode("sdb", 8, 16)
	device := m.path("dev/sdb")
	pid := os.Getpid()
	m.process(pid, "mnt:[2]", "0::/", "", m.path("dev/null"))
	p := Processes{Proc: m.path("proc")}
	if err := p.Signal(pid, device, unix.SIGKILL); err != nil {
		t.Error(err)
	}
	if err := p.Signal(1<<22+1, device, unix.SIGKILL); err != nil { // larger than any
		t.Errorf("a process that has ended: %v", err)
	}
}
