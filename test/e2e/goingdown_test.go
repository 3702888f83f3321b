package e2e

import (
	"path/filepath"
	"testing"
	"time"
)

// The machine goes down with volumes in use, also where the export process has gone
// before them and is not coming back: nothing of ours is left that the kernel would
// wait for, and nothing that was written is lost; not even what was not synced, but
// where nobody can serve the volumes.
func TestGoingDown(t *testing.T) {
	onlyFull(t)
	for _, c := range []struct {
		name   string
		before func(m *machine)
		keeps  []string // of what was written
		given  bool     // up
	}{
		{"served", func(*machine) {}, []string{"synced", "cached"}, false},
		{"export-gone", func(m *machine) { m.kill("export") }, []string{"synced", "cached"}, false},
		{"export-gone-without-a-word", func(m *machine) {
			m.kill("export")
			m.run("rm %s/spare.json", m.runDir())
		}, []string{"synced"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := startMachine(t)
			v := m.use("volume", spec{})
			v.must(v.write("synced", true))
			// A pod, which keeps the file system alive when the host has unmounted it, and
			// somebody who is in it on the host.
			m.run(`setsid unshare --mount --propagation private bash -c 'exec sleep 1000 <%[1]s/synced' </dev/null >/dev/null 2>&1 &
				while ! pgrep -x sleep >/dev/null; do sleep 0.1; done; umount %[1]s
				cd %[2]s; setsid sleep 1000 </dev/null >/dev/null 2>&1 &`, v.pod(), v.staging())
			v.must(v.writeAt(v.staging(), "cached", false))
			c.before(m)

			began := time.Now()
			patience := "10m" // not to be met: what takes long here is the guest
			if c.given {
				patience = "5s"
			}
			said := m.run("$E2E_BINARY host stop --now --run=%s --grace=2s --patience=%s 2>&1", m.runDir(), patience)
			t.Logf("let go of in %v:\n%s", time.Since(began).Round(time.Millisecond), said)
			if left := m.run("ls /sys/class/iscsi_session"); left != "" {
				t.Errorf("logged in: %s", left)
			}
			if !c.given {
				if left := m.run("findmnt -rno TARGET | grep %s || true; pgrep -x sleep || true", v.id); left != "" {
					t.Errorf("left: %s", left)
				}
				m.noErrors()
			}
			m.run("pkill -x sleep || true; for p in %s %s; do while umount $p 2>/dev/null; do :; done; done; dmesg --clear; sync", v.pod(), v.staging())

			if c.name == "served" {
				m.kill("export")
			}
			m.start("export")
			v.mount()
			v.expect(c.keeps...)
			v.healthy()
			v.checked()
			v.remove()
			m.noErrors()
		})
	}
}

// runDir is the directory that the export process would have on /run.
func (m *machine) runDir() string { return "/run/" + filepath.Base(m.dir) }
