package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/swiftblock/csi-swiftblock/pkg/wire"
)

// Where the kernel permits it every thread of export is an IO flusher, else export
// serves all the same and says once what is missing.
func TestExportIsAFlusher(t *testing.T) {
	p := &processes{newAdmin(t), map[string]int{}}
	p.start("export", "--state", p.path("state"), "--run", p.path("run"), "--node", "n", "--listen", p.endpoint("export"),
		"--controller", p.endpoint("openings"), "--portal", "127.0.0.1:0")
	conn := p.dial("export")
	if _, err := wire.NewExportsClient(conn).Room(t.Context(), &wire.RoomRequest{}); err != nil {
		t.Fatal(err)
	}
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.pids["export"]))
	if err != nil || len(stats) < 2 {
		t.Fatalf("%d threads, %v", len(stats), err)
	}
	permitted := maySetFlusher(t)
	for _, path := range stats {
		if is := flags(t, path)&flusherFlags == flusherFlags; is != permitted {
			t.Errorf("%s: flusher %v, permitted %v", path, is, permitted)
		}
	}
	log, err := os.ReadFile(p.path("export.log"))
	if err != nil {
		t.Fatal(err)
	}
	want := 1
	if permitted {
		want = 0
	}
	if n := strings.Count(string(log), "CAP_SYS_RESOURCE"); n != want {
		t.Errorf("%d warnings, want %d:\n%s", n, want, log)
	}
	t.Logf("%d threads, permitted: %v", len(stats), permitted)
}

// flusherFlags are the kernel's PF_MEMALLOC_NOIO and PF_LOCAL_THROTTLE.
const flusherFlags = 0x00080000 | 0x00100000

// flags are those of a thread, from its stat file (proc_pid_stat(5)).
func flags(t *testing.T, path string) uint64 {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	n, err := strconv.ParseUint(strings.Fields(rest)[6], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// maySetFlusher tells whether this process, and so its child, has CAP_SYS_RESOURCE.
func maySetFlusher(t *testing.T) bool {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		t.Fatal(err)
	}
	return sets[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}
