package host

import (
	"context"
	"errors"
	"log/slog"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

const targets = "iqn.2026-01.dev.swiftblock"

func TestVolumesWithSessions(t *testing.T) {
	m := newMachine(t)
	i := m.initiator()
	if found, err := i.Volumes(targets); err != nil || len(found) > 0 {
		t.Errorf("without sessions: %v, %v", found, err)
	}
	second := ident.Volume("fedcba9876543210fedcba9876543210")
	for _, iqn := range []string{
		testSession(1).IQN, testSession(2).IQN, targets + ":" + string(second) + ".r00000000000000aa",
		targets + ":backup.1", "iqn.2003-01.org.linux-iscsi:" + string(second), targets + "x:" + string(second) + ".1",
	} {
		m.addSession(iqn)
	}
	found, err := i.Volumes(targets)
	slices.Sort(found)
	if err != nil || !slices.Equal(found, []ident.Volume{testVolume, second}) {
		t.Errorf("%v, %v", found, err)
	}
}

// Who serves the volumes is ended when the kernel knows that it must not wait, and
// before the sessions are logged out: one with a command that waits would not end.
func TestGiveUp(t *testing.T) {
	m := newMachine(t)
	m.addSession(testSession(1).IQN)
	l := &Leave{Initiator: m.initiator(), Targets: targets, Log: slog.New(slog.DiscardHandler)}
	var soon string
	var before []string
	// A file in place of the attribute keeps the rest of what it had: "020".
	err := l.GiveUp(t.Context(), func() {
		soon = m.read("sys/class/iscsi_session/session1/recovery_tmo")
		before = m.ran("")
	})
	if err != nil || soon[0] != '0' || len(before) > 0 {
		t.Errorf("%v; when the target goes: recovery_tmo %q, done %q", err, soon, before)
	}
	if left, err := l.Initiator.Volumes(targets); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// It tries again until its time is over, and says what is left.
func TestGiveUpInVain(t *testing.T) {
	m := newMachine(t)
	m.addSession(testSession(1).IQN)
	m.fail["--logout"] = 1
	l := &Leave{Initiator: m.initiator(), Targets: targets, Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	err := l.GiveUp(ctx, func() {})
	var tool *ToolError
	if !errors.Is(err, ErrLeft) || !errors.As(err, &tool) {
		t.Errorf("%v", err)
	}
	if tries := m.ran("--logout"); len(tries) < 2 {
		t.Errorf("tried %q", tries)
	}
}

// What was mounted last is unmounted first. Who uses the device is asked to end, and is only
// made to when the grace is over.
func TestLeaveAsksFirst(t *testing.T) {
	for _, c := range []struct {
		since time.Duration
		want  syscall.Signal
	}{{0, syscall.SIGTERM}, {time.Hour, syscall.SIGKILL}} {
		m := newMachine(t)
		m.addSession(testSession(1).IQN) // sdb, 8:16
		m.write(m.path("mountinfo"), "40 1 8:16 / /staging rw - ext4 /dev/sdb rw\n41 1 8:16 / /pod rw - ext4 /dev/sdb rw\n")
		m.fail["umount"] = 32
		pod := exec.Command("sleep", "60")
		if err := pod.Start(); err != nil {
			t.Fatal(err)
		}
		m.process(pod.Process.Pid, "mnt:[2]", "0::/kubepods.slice", "", m.path("dev/sdb"))
		m.write(m.path("proc/self/ns/none"), "")
		l := &Leave{
			Initiator: m.initiator(), Mounts: Mounts{Run: m, MountInfo: m.path("mountinfo")}, Processes: Processes{Proc: m.path("proc")},
			Targets: targets, Grace: time.Minute, Log: slog.New(slog.DiscardHandler),
		}
		if err := l.try(t.Context(), testVolume, time.Now().Add(-c.since)); !errors.Is(err, ErrInUse) {
			t.Errorf("%v, want ErrInUse", err)
		}
		if got := m.ran("umount"); !slices.Equal(got, []string{"umount /pod", "umount /staging"}) {
			t.Errorf("done: %q", got)
		}
		pod.Wait() // its error is the signal
		if got := pod.ProcessState.Sys().(syscall.WaitStatus).Signal(); got != c.want {
			t.Errorf("after %v: %v, want %v", c.since, got, c.want)
		}
	}
}
