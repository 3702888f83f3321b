package e2e

import (
	"fmt"
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
	for _, hidden := range []string{chap, fmt.Sprintf("ST_KEY=%s", m.run("echo $ST_KEY"))} {
		// What is looked for is in a file: the shell that looks has it in its arguments.
		m.run("(umask 077; printf %%s %q >%s/hidden); dmesg >%[2]s/kernel.log", hidden, m.dir)
		seen := m.run(`cd %[1]s
			grep -lFf hidden *.log || true
			for process in /proc/[0-9]*; do
				if cat $process/cmdline 2>/dev/null | tr '\0' ' ' | grep -qFf hidden; then echo $process; fi
			done
			find . /etc/iscsi /run/$(basename %[1]s) -type f -size -1024k -perm /077 -exec grep -lFf hidden {} + || true
			rm hidden`, m.dir)
		if seen != "" {
			t.Errorf("a secret is in %s", seen)
		}
	}
	v.unmount()
	v.remove()
	m.nothingIsLeft(v.id)
	m.noErrors()
}
