package e2e

import (
	"strings"
	"testing"
)

// TestNothingSecretIsSeen looks for the CHAP secret of an attached volume and for
// Swift's key in the kernel's log, the logs of our processes, the arguments of all
// processes, and the files that others may read.
func TestNothingSecretIsSeen(t *testing.T) {
	onlyFull(t)
	m := startMachine(t)
	v := m.use("volume", spec{})
	m.must(v.write("file", true))
	chap := m.run(`sed -n 's/.*"chapSecret": "\(.*\)".*/\1/p' %s/*/record.json`, m.path("journals"))
	if len(chap) < 16 {
		t.Fatalf("the CHAP secret is %q", chap)
	}
	m.hides(chap, "ST_KEY="+m.run("echo $ST_KEY"))
	v.unmount()
	v.remove()
	m.nothingIsLeft(v.id)
	m.noErrors()
}

// hides looks for secrets where others may see them.
func (m *machine) hides(secrets ...string) {
	m.t.Helper()
	// What is looked for is in a file: the shell that looks has it in its arguments.
	m.run("(umask 077; echo '%s' >%s/hidden); dmesg >%[2]s/kernel.log", strings.Join(secrets, "\n"), m.dir)
	seen := m.run(`cd %[1]s
		grep -lFf hidden *.log || true
		grep -slaFf hidden /proc/[0-9]*/cmdline || true
		find . /etc/iscsi %[2]s -type f -size -1024k -perm /077 -exec grep -lFf hidden {} + || true
		rm hidden`, m.dir, m.runDir())
	if seen != "" {
		m.t.Errorf("%s: a secret is in %s", m.name, seen)
	}
}
