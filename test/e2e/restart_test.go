package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestKilled takes a volume through its life on the node again and again, and
// kills a process at a random moment of every call: P8. kubelet repeats the call
// to the new process. What was written is there in every later life, and nothing
// is left at the end.
func TestKilled(t *testing.T) {
	for _, c := range []struct {
		fsType  string
		victims []string
	}{
		{"ext4", []string{"node"}},
		{"ext4", []string{"export"}},
		{"xfs", []string{"export", "node"}},
	} {
		t.Run(c.fsType+"-"+strings.Join(c.victims, "-"), func(t *testing.T) {
			m := startMachine(t)
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			k := killer{machine: m, victims: c.victims, random: rand.New(rand.NewPCG(seed, 0))}
			v := m.create("volume", c.fsType)
			const lives = 4
			for life := range lives {
				k.during("stage", v.stage)
				k.during("publish", v.publish)
				for earlier := range life {
					v.expect(fmt.Sprint("synced-", earlier), content(earlier))
					v.expect(fmt.Sprint("cached-", earlier), content(earlier))
				}
				k.during("write", func(context.Context) error {
					return v.write(fmt.Sprint("synced-", life), content(life), true)
				})
				if err := v.write(fmt.Sprint("cached-", life), content(life), false); err != nil {
					t.Fatal(err)
				}
				k.during("unpublish", v.unpublish)
				k.during("unstage", v.unstage)
			}
			v.remove()
			m.nothingIsLeft(v.id)
		})
	}
}

// content is 4 MiB that differ in each life.
func content(life int) string { return strings.Repeat(fmt.Sprintf("life %10d\n", life), 4<<20/16) }

// killer kills and restarts processes while calls are under way.
type killer struct {
	*machine
	victims []string
	random  *rand.Rand
}

// during makes a call until it succeeds, and kills the victims once meanwhile.
func (k killer) during(what string, call func(context.Context) error) {
	k.t.Helper()
	after := time.Duration(k.random.Int64N(int64(1500 * time.Millisecond)))
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		time.Sleep(after)
		for _, name := range k.victims {
			k.kill(name)
		}
		for _, name := range k.victims {
			k.start(name)
		}
	}()
	began := time.Now()
	k.kubelet(what, call)
	k.t.Logf("%s: %v, killed after %v", what, time.Since(began).Round(time.Millisecond), after.Round(time.Millisecond))
	<-killed
}

// TestCrashLoop kills the export process again and again under a file system that
// is written to: every write waits for the next process, and none waits for long.
func TestCrashLoop(t *testing.T) {
	m := startMachine(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	v := m.create("volume", "ext4")
	m.kubelet("stage", v.stage)
	m.kubelet("publish", v.publish)
	const crashes = 25
	var longest time.Duration
	for i := range crashes {
		after := time.Duration(random.Int64N(int64(400 * time.Millisecond)))
		killed := make(chan struct{})
		go func() {
			defer close(killed)
			time.Sleep(after)
			m.kill("export")
			m.start("export")
		}()
		began := time.Now()
		written := make(chan error, 1)
		go func() { written <- v.write(fmt.Sprint("file-", i), content(i), true) }()
		select {
		case err := <-written:
			if err != nil {
				t.Fatalf("write %d, export killed after %v: %v", i, after, err)
			}
		case <-time.After(time.Minute):
			m.lastWords("export")
			t.Fatalf("write %d, export killed after %v: no end after a minute", i, after)
		}
		longest = max(longest, time.Since(began))
		<-killed
	}
	t.Logf("the longest of %d writes took %v", crashes, longest.Round(time.Millisecond))
	for i := range crashes {
		v.expect(fmt.Sprint("file-", i), content(i))
	}
	m.kubelet("unpublish", v.unpublish)
	m.kubelet("unstage", v.unstage)
	v.remove()
	m.nothingIsLeft(v.id)
}

func (v volume) expect(name, want string) {
	v.t.Helper()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
		v.t.Error(err)
	}
	if have, err := os.ReadFile(filepath.Join(v.pod(), name)); err != nil || string(have) != want {
		v.t.Errorf("%s: %d bytes beginning with %.20q, %v; want %d beginning with %.20q", name, len(have), have, err, len(want), want)
	}
}

// nothingIsLeft looks for what a volume must not leave on its node.
func (m *machine) nothingIsLeft(id string) {
	m.t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), id) {
		m.t.Errorf("a mount is left: %v", err)
	}
	for _, pattern := range []string{
		"/sys/class/iscsi_session/session*",
		"/etc/iscsi/nodes/*" + id + "*",
		"/etc/iscsi/.swiftblock-*",
		m.path("journals/*"),
		m.path("journals/*/*"), // says what keeps the folder
	} {
		if found, err := filepath.Glob(pattern); err != nil || len(found) > 0 {
			m.t.Errorf("left: %q, %v", found, err)
		}
	}
}
