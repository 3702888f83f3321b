package host

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

const (
	testVolume = ident.Volume("0123456789abcdef0123456789abcdef")
	testSecret = "correct-horse-battery"
)

func testSession(epoch int) Session {
	return Session{
		Volume:     testVolume,
		Portal:     "127.0.0.1:13260",
		IQN:        fmt.Sprintf("iqn.2026-01.dev.swiftblock:%s.%d", testVolume, epoch),
		LUN:        1,
		Serial:     "sb" + string(testVolume[:16]),
		CHAPUser:   "swiftblock",
		CHAPSecret: testSecret,
	}
}

// machine is a host in a directory: its /sys, /dev and /etc/iscsi, and a Runner
// that plays iscsiadm, iscsid and the kernel.
type machine struct {
	t        *testing.T
	root     string
	serial   string         // what LUNs answer
	fail     map[string]int // exit code of commands that contain the key
	commands []string
	next     int // session number
}

func newMachine(t *testing.T) *machine {
	return &machine{t: t, root: t.TempDir(), serial: testSession(1).Serial, fail: map[string]int{}}
}

func (m *machine) initiator() *Initiator {
	return &Initiator{Run: m, Root: m.root, Sys: m.path("sys"), Dev: m.path("dev")}
}

func (m *machine) path(elem ...string) string {
	return filepath.Join(append([]string{m.root}, elem...)...)
}

// Run implements Runner.
func (m *machine) Run(_ context.Context, tool string, args ...string) ([]byte, error) {
	line := tool + " " + strings.Join(args, " ")
	m.commands = append(m.commands, line)
	for part, code := range m.fail {
		if strings.Contains(line, part) {
			return nil, &ToolError{Tool: tool, Args: args, Code: code, Stderr: "as the test wants it"}
		}
	}
	value := func(flag string) string {
		for i, arg := range args[:len(args)-1] {
			if arg == flag {
				return args[i+1]
			}
		}
		return ""
	}
	record := m.path("etc/iscsi/nodes", value("-T"))
	switch {
	case strings.HasSuffix(line, "-o new"):
		m.write(filepath.Join(record, strings.ReplaceAll(value("-p"), ":", ",")),
			"# BEGIN RECORD 2.1.8\nnode.name = "+value("-T")+"\nnode.startup = automatic\nnode.session.timeo.replacement_timeout = 120\n# END RECORD\n")
	case strings.HasSuffix(line, "-o delete"):
		if os.RemoveAll(record) != nil {
			m.t.Fatal("remove record")
		}
	case strings.HasSuffix(line, "--login"):
		m.addSession(value("-T"))
	case strings.HasSuffix(line, "--logout"):
		if os.RemoveAll(m.path("sys/class/iscsi_session/session"+value("-r"))) != nil {
			m.t.Fatal("remove session")
		}
	}
	return nil, nil
}

// addSession makes what the kernel shows of a session with one disk.
func (m *machine) addSession(iqn string) {
	m.next++
	name := fmt.Sprintf("sd%c", 'a'+m.next)
	session := m.path("sys/class/iscsi_session", fmt.Sprintf("session%d", m.next))
	address := fmt.Sprintf("%d:0:0:1", m.next)
	scsi := filepath.Join(session, "device", fmt.Sprintf("target%d:0:0", m.next), address)
	m.write(filepath.Join(session, "targetname"), iqn+"\n")
	m.write(filepath.Join(session, "state"), "LOGGED_IN\n")
	m.write(filepath.Join(session, "recovery_tmo"), "120\n")
	m.write(filepath.Join(scsi, "vpd_pg80"), fmt.Sprintf("\x00\x80\x00%c%s", len(m.serial), m.serial))
	m.write(filepath.Join(scsi, "timeout"), "30\n")
	m.write(filepath.Join(scsi, "rescan"), "")
	m.write(filepath.Join(scsi, "scsi_disk", address, "max_retries"), "5\n")
	m.write(filepath.Join(scsi, "block", name, "size"), "2048\n")
	m.write(filepath.Join(scsi, "block", name, "dev"), fmt.Sprintf("8:%d\n", 16*m.next))
	m.makeNode(name, 8, uint32(16*m.next))
}

func (m *machine) makeNode(name string, major, minor uint32) {
	if err := os.MkdirAll(m.path("dev"), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := unix.Mknod(m.path("dev", name), unix.S_IFBLK|0o600, int(unix.Mkdev(major, minor))); err != nil {
		m.t.Skipf("needs root to make device files: mknod: %v", err)
	}
}

func (m *machine) write(path, text string) {
	m.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// read returns the content of the one file that matches the pattern.
func (m *machine) read(pattern string) string {
	m.t.Helper()
	found, err := filepath.Glob(m.path(pattern))
	if err != nil || len(found) != 1 {
		m.t.Fatalf("%s matches %d files, want 1 (%v)", pattern, len(found), err)
	}
	text, err := os.ReadFile(found[0])
	if err != nil {
		m.t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// ran returns the commands so far that contain part, and forgets all.
func (m *machine) ran(part string) (matching []string) {
	for _, line := range m.commands {
		if strings.Contains(line, part) {
			matching = append(matching, line)
		}
	}
	m.commands = nil
	return matching
}
