package host

import (
	"context"
	"errors"
	"log/slog"
	"slices"
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
