package host

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func TestLogin(t *testing.T) {
	m := newMachine(t)
	device, err := m.initiator().Login(t.Context(), testSession(1))
	if err != nil {
		t.Fatal(err)
	}
	if want := (Device{Path: m.path("dev/sdb"), Size: 1 << 20}); device != want {
		t.Errorf("device %+v, want %+v", device, want)
	}
	record := m.read("etc/iscsi/nodes/*/*")
	for _, line := range []string{
		"node.startup = manual",
		"node.session.timeo.replacement_timeout = -1",
		"node.session.auth.authmethod = CHAP",
		"node.session.auth.password = " + testSecret,
	} {
		if strings.Count(record, line+"\n") != 1 {
			t.Errorf("the record has not one line %q:\n%s", line, record)
		}
	}
	if !strings.HasPrefix(record, "# BEGIN RECORD") || !strings.HasSuffix(record, "# END RECORD") || strings.Contains(record, "automatic") {
		t.Errorf("the record is not rewritten in place:\n%s", record)
	}
	for attribute, want := range map[string]string{
		"recovery_tmo":                             "off",
		"device/target*/*/timeout":                 "86400",
		"device/target*/*/scsi_disk/*/max_retries": "-1",
	} {
		if have := m.read("sys/class/iscsi_session/session1/" + attribute); have != want {
			t.Errorf("%s is %q, want %q", attribute, have, want)
		}
	}
}

func TestSecretIsNoArgument(t *testing.T) {
	m := newMachine(t)
	if _, err := m.initiator().Login(t.Context(), testSession(1)); err != nil {
		t.Fatal(err)
	}
	if leaked := m.ran(testSecret); len(leaked) > 0 {
		t.Errorf("the secret is an argument of %q", leaked)
	}
	m.serial = "another"
	if _, err := m.initiator().Login(t.Context(), testSession(2)); err == nil || strings.Contains(err.Error(), testSecret) {
		t.Errorf("error %v", err)
	}
}

func TestLoginAgainDoesNothing(t *testing.T) {
	m := newMachine(t)
	first, err := m.initiator().Login(t.Context(), testSession(1))
	if err != nil {
		t.Fatal(err)
	}
	m.ran("")
	again, err := m.initiator().Login(t.Context(), testSession(1))
	if err != nil || again != first {
		t.Errorf("Login again = %+v, %v; want %+v", again, err, first)
	}
	if commands := m.ran(""); len(commands) > 0 {
		t.Errorf("a repeated Login ran %q", commands)
	}
}

// R7: what another epoch of the volume held must not stay reachable.
func TestLoginTearsDownOtherEpochs(t *testing.T) {
	m := newMachine(t)
	i := m.initiator()
	if _, err := i.Login(t.Context(), testSession(1)); err != nil {
		t.Fatal(err)
	}
	other := strings.ReplaceAll(testSession(1).IQN, string(testVolume), strings.Repeat("f", 32))
	m.addSession(other)
	m.write(m.path("etc/iscsi/nodes", other, "127.0.0.1,13260"), "")
	m.ran("")

	device, err := i.Login(t.Context(), testSession(2))
	if err != nil || device.Path != m.path("dev/sdd") {
		t.Fatalf("Login = %+v, %v", device, err)
	}
	if have := m.read("sys/class/iscsi_session/session3/targetname"); have != testSession(2).IQN {
		t.Errorf("session 3 is to %s", have)
	}
	if have := m.read("sys/class/iscsi_session/session2/targetname"); have != other {
		t.Errorf("the session of another volume was touched: %s", have)
	}
	if _, err := os.Stat(m.path("sys/class/iscsi_session/session1")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the session of epoch 1 still stands (%v)", err)
	}
	if _, err := os.Stat(m.path("etc/iscsi/nodes", testSession(1).IQN)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the node record of epoch 1 is still there (%v)", err)
	}
	if _, err := os.Stat(m.path("etc/iscsi/nodes", other)); err != nil {
		t.Errorf("the node record of another volume was touched: %v", err)
	}
}

func TestWrongSerialIsRefused(t *testing.T) {
	for name, serial := range map[string]string{"other": "someone-elses-disk", "prefix": testSession(1).Serial + "0", "empty": ""} {
		m := newMachine(t)
		m.serial = serial
		if _, err := m.initiator().Login(t.Context(), testSession(1)); !errors.Is(err, ErrWrongDevice) {
			t.Errorf("%s: error %v, want ErrWrongDevice", name, err)
		}
	}
	m := newMachine(t)
	m.addSession(testSession(1).IQN)
	if err := os.Remove(m.path("sys/class/iscsi_session/session1/device/target1:0:0/1:0:0:1/vpd_pg80")); err != nil {
		t.Fatal(err)
	}
	if _, err := m.initiator().Login(t.Context(), testSession(1)); !errors.Is(err, ErrWrongDevice) {
		t.Errorf("unreadable: error %v, want ErrWrongDevice", err)
	}
}

// A device file that still belongs to a disk that is gone must not be used.
func TestDeviceFileMustBeTheDevice(t *testing.T) {
	m := newMachine(t)
	m.addSession(testSession(1).IQN)
	if err := os.Remove(m.path("dev/sdb")); err != nil {
		t.Fatal(err)
	}
	m.makeNode("sdb", 8, 99)
	if device, err := m.initiator().Login(soon(t), testSession(1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Login = %+v, %v; want to wait for udev", device, err)
	}
}

func TestLoginWaitsForRecovery(t *testing.T) {
	m := newMachine(t)
	m.addSession(testSession(1).IQN)
	state := m.path("sys/class/iscsi_session/session1/state")
	m.write(state, "FAILED\n")
	time.AfterFunc(100*time.Millisecond, func() { os.WriteFile(state, []byte("LOGGED_IN\n"), 0o600) })
	if _, err := m.initiator().Login(t.Context(), testSession(1)); err != nil {
		t.Error(err)
	}
}

func TestLoginErrors(t *testing.T) {
	for code, want := range map[int]error{
		iscsiadmAuthentication: ErrAuthentication,
		iscsiadmDaemonAbsent:   ErrInitiator,
		iscsiadmDaemonError:    ErrInitiator,
	} {
		m := newMachine(t)
		m.fail["--login"] = code
		_, err := m.initiator().Login(t.Context(), testSession(1))
		var tool *ToolError
		if !errors.Is(err, want) || !errors.As(err, &tool) || tool.Code != code || tool.Stderr == "" {
			t.Errorf("exit code %d: error %v, want %v with code and stderr", code, err, want)
		}
		if !strings.Contains(err.Error(), string(testVolume)) {
			t.Errorf("error %v does not name the volume", err)
		}
	}
}

func TestLogout(t *testing.T) {
	m := newMachine(t)
	i := m.initiator()
	if err := i.Logout(t.Context(), testVolume); err != nil {
		t.Errorf("with nothing to do: %v", err)
	}
	if _, err := i.Login(t.Context(), testSession(1)); err != nil {
		t.Fatal(err)
	}
	if err := i.Logout(t.Context(), testVolume); err != nil {
		t.Fatal(err)
	}
	if _, err := i.Device(testVolume); !errors.Is(err, ErrNotLoggedIn) {
		t.Errorf("Device after Logout: %v", err)
	}
	if _, err := os.Stat(m.path("etc/iscsi/nodes", testSession(1).IQN)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the node record, and the secret in it, is still there (%v)", err)
	}
	m.ran("")
	if err := i.Logout(t.Context(), testVolume); err != nil || len(m.ran("")) > 0 {
		t.Errorf("a repeated Logout did something (%v)", err)
	}
}

// A process that is killed while it writes the secret must not leave it behind.
func TestInterruptedRecordIsRemoved(t *testing.T) {
	m := newMachine(t)
	left := m.path("etc/iscsi/.swiftblock-" + string(testVolume))
	m.write(left, testSecret)
	if err := m.initiator().Logout(t.Context(), testVolume); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there (%v)", left, err)
	}
	if _, err := m.initiator().Login(t.Context(), testSession(1)); err != nil {
		t.Fatal(err)
	}
	if found, err := os.ReadDir(m.path("etc/iscsi")); err != nil || len(found) != 1 {
		t.Errorf("beside the records: %v, %v", found, err)
	}
}

// A logout that fails must not look like success: the device is still there.
func TestLogoutFailure(t *testing.T) {
	m := newMachine(t)
	i := m.initiator()
	if _, err := i.Login(t.Context(), testSession(1)); err != nil {
		t.Fatal(err)
	}
	m.fail["--logout"] = 10
	if err := i.Logout(t.Context(), testVolume); exitCode(err) != 10 {
		t.Errorf("Logout = %v, want exit code 10", err)
	}
	m.fail = map[string]int{"--logout": iscsiadmNothingFound}
	if err := i.Logout(soon(t), testVolume); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Logout = %v, want to wait for the session's end", err)
	}
}

func TestRescan(t *testing.T) {
	m := newMachine(t)
	i := m.initiator()
	if err := i.Rescan(t.Context(), testVolume, 1); !errors.Is(err, ErrNotLoggedIn) {
		t.Errorf("Rescan without a session: %v", err)
	}
	m.addSession(testSession(1).IQN)
	scsi := "sys/class/iscsi_session/session1/device/target1:0:0/1:0:0:1/"
	if err := i.Rescan(t.Context(), testVolume, 1<<20); err != nil || m.read(scsi+"rescan") != "" {
		t.Errorf("Rescan to the present size asked the LUN (%v)", err)
	}
	m.write(m.path("grown"), "4096\n") // the kernel's attributes change at once
	time.AfterFunc(100*time.Millisecond, func() { os.Rename(m.path("grown"), m.path(scsi+"block/sdb/size")) })
	if err := i.Rescan(t.Context(), testVolume, 2<<20); err != nil || m.read(scsi+"rescan") != "1" {
		t.Errorf("Rescan: %v", err)
	}
	if err := i.Rescan(soon(t), testVolume, 3<<20); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Rescan to a size that never comes: %v", err)
	}
}

func TestSessionValidation(t *testing.T) {
	for name, spoil := range map[string]func(*Session){
		"portal is a name":    func(s *Session) { s.Portal = "localhost:3260" },
		"portal is an option": func(s *Session) { s.Portal = "--help" },
		"no port":             func(s *Session) { s.Portal = "127.0.0.1" },
		"IQN with a slash":    func(s *Session) { s.IQN += "/../../x" },
		"IQN with a blank":    func(s *Session) { s.IQN += " -o delete" },
		"IQN with a newline":  func(s *Session) { s.IQN += "\n" },
		"IQN in upper case":   func(s *Session) { s.IQN = strings.ToUpper(s.IQN) },
		"IQN too long":        func(s *Session) { s.IQN += strings.Repeat("0", 200) },
		"IQN of another":      func(s *Session) { s.IQN = "iqn.2026-01.dev.swiftblock:x" },
		"no volume":           func(s *Session) { s.Volume = "" },
		"LUN negative":        func(s *Session) { s.LUN = -1 },
		"no serial":           func(s *Session) { s.Serial = "" },
		"no secret":           func(s *Session) { s.CHAPSecret = "" },
		"secret of two lines": func(s *Session) { s.CHAPSecret = "x\nnode.startup = automatic" },
		"user of two words":   func(s *Session) { s.CHAPUser = "a b" },
	} {
		m := newMachine(t)
		s := testSession(1)
		spoil(&s)
		if _, err := m.initiator().Login(t.Context(), s); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: error %v, want ErrInvalid", name, err)
		}
		if commands := m.ran(""); len(commands) > 0 {
			t.Errorf("%s: reached a command line: %q", name, commands)
		}
	}
}
