package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const kernelPortal = "127.0.0.1:13261"

// tgt runs the tgt target, our peer here, with one LUN per target.
type tgt struct{ t *testing.T }

// startTgt skips the test where there is no kernel initiator or no tgt: run it
// in the guest, with GUEST_PACKAGES=tgt.
func startTgt(t *testing.T) tgt {
	t.Helper()
	if _, err := os.Stat("/sys/class/iscsi_transport"); err != nil {
		t.Skip("this kernel has no iSCSI initiator")
	}
	if _, err := exec.LookPath("tgtd"); err != nil {
		t.Skip("tgt is not installed")
	}
	if _, err := exec.LookPath("iscsiadm"); err != nil {
		t.Skip("open-iscsi is not installed")
	}
	daemon := exec.Command("tgtd", "--foreground", "--iscsi", "portal="+kernelPortal)
	daemon.Stderr = t.Output()
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		daemon.Process.Kill()
		daemon.Wait()
	})
	g := tgt{t}
	for deadline := time.Now().Add(10 * time.Second); exec.Command("tgtadm", "--mode", "system", "--op", "show").Run() != nil; {
		if time.Now().After(deadline) {
			t.Fatal("tgtd does not answer")
		}
		time.Sleep(50 * time.Millisecond)
	}
	g.admin("--mode", "account", "--op", "new", "--user", testSession(1).CHAPUser, "--password", testSecret)
	return g
}

func (g tgt) admin(args ...string) {
	g.t.Helper()
	if out, err := exec.Command("tgtadm", append([]string{"--lld", "iscsi"}, args...)...).CombinedOutput(); err != nil {
		g.t.Fatalf("tgtadm %q: %v: %s", args, err, out)
	}
}

// export offers file as LUN 1 of epoch's target.
func (g tgt) export(epoch int, file string) Session {
	s := testSession(epoch)
	s.Portal = kernelPortal
	tid := fmt.Sprint(epoch)
	g.admin("--mode", "target", "--op", "new", "--tid", tid, "--targetname", s.IQN)
	g.admin("--mode", "target", "--op", "bind", "--tid", tid, "--initiator-address", "ALL")
	g.admin("--mode", "account", "--op", "bind", "--tid", tid, "--user", s.CHAPUser)
	g.admin("--mode", "logicalunit", "--op", "new", "--tid", tid, "--lun", "1", "--backing-store", file)
	g.admin("--mode", "logicalunit", "--op", "update", "--tid", tid, "--lun", "1", "--params", "scsi_sn="+s.Serial)
	return s
}

// TestKernel does with a real initiator what the other tests do with a played one.
func TestKernel(t *testing.T) {
	g := startTgt(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	file := filepath.Join(t.TempDir(), "disk")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, 256<<20)); err != nil {
		t.Fatal(err)
	}
	i := &Initiator{Run: Exec{}}
	t.Cleanup(func() {
		if err := i.Logout(context.Background(), testVolume); err != nil {
			t.Error(err)
		}
	})
	first := g.export(1, file)

	wrong := first
	wrong.CHAPSecret = "not-the-secret-"
	if _, err := i.Login(ctx, wrong); !errors.Is(err, ErrAuthentication) {
		t.Errorf("with a wrong secret: %v", err)
	}
	wrong = first
	wrong.Serial = "another-serial"
	if _, err := i.Login(ctx, wrong); !errors.Is(err, ErrWrongDevice) {
		t.Errorf("with a wrong serial: %v", err)
	}

	device, err := i.Login(ctx, first)
	if err != nil {
		t.Fatal(err)
	}
	if device.Size != 256<<20 {
		t.Errorf("size %d", device.Size)
	}
	sessions, err := i.sessions(testVolume)
	if err != nil || len(sessions) != 1 {
		t.Fatalf("sessions %+v, %v", sessions, err)
	}
	for attribute, want := range map[string]string{
		"recovery_tmo":                               "off",
		"device/target*/*:1/timeout":                 "86400",
		"device/target*/*:1/scsi_disk/*/max_retries": "-1",
	} {
		found, _ := filepath.Glob(filepath.Join(sessions[0].path, attribute))
		if len(found) != 1 {
			t.Errorf("%s: %d files", attribute, len(found))
			continue
		}
		if have, err := os.ReadFile(found[0]); err != nil || strings.TrimSpace(string(have)) != want {
			t.Errorf("%s is %q, want %q (%v)", attribute, have, want, err)
		}
	}
	mountedOverKernel(t, ctx, device)

	// Another epoch of the volume takes the place of the first.
	second := g.export(2, file)
	device, err = i.Login(ctx, second)
	if err != nil {
		t.Fatal(err)
	}
	if sessions, err := i.sessions(testVolume); err != nil || len(sessions) != 1 || sessions[0].iqn != second.IQN {
		t.Errorf("sessions %+v, %v", sessions, err)
	}
	if again, err := i.Login(ctx, second); err != nil || again != device {
		t.Errorf("Login again = %+v, %v; want %+v", again, err, device)
	}
	if err := i.Logout(ctx, testVolume); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(device.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s after Logout: %v", device.Path, err)
	}
	records, err := exec.Command("grep", "-rl", testSecret, "/etc/iscsi", "/run").Output()
	if len(bytes.TrimSpace(records)) > 0 {
		t.Errorf("the secret is still in %s (%v)", records, err)
	}
}

func mountedOverKernel(t *testing.T, ctx context.Context, device Device) {
	f, m := Filesystems{Exec{}}, Mounts{Run: Exec{}}
	staging := filepath.Join(t.TempDir(), "staging")
	if err := errors.Join(
		f.Make(ctx, device.Path, Ext4),
		f.Flush(ctx, device.Path),
		f.Check(ctx, device.Path, Ext4),
		m.MountDevice(ctx, device.Path, staging, Ext4, nil, false),
		f.Grow(ctx, device.Path, staging, Ext4),
		m.Remove(ctx, staging),
	); err != nil {
		t.Error(err)
	}
}
