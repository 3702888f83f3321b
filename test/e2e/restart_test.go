package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
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
			v := m.make("volume", spec{fsType: c.fsType, size: 256 << 20})
			v.bind()
			const lives = 4
			for life := range lives {
				k.during("stage", v.stage)
				k.during("publish", v.publish)
				v.expect(names("synced", life)...)
				v.expect(names("cached", life)...)
				k.during("write", func(context.Context) error {
					return v.write(fmt.Sprint("synced-", life), true)
				})
				if err := v.write(fmt.Sprint("cached-", life), false); err != nil {
					t.Fatal(err)
				}
				k.during("stats", v.stats)
				v.healthy()
				k.during("unpublish", v.unpublish)
				k.during("unstage", v.unstage)
			}
			v.remove()
			m.nothingIsLeft(v.id)
			m.noErrors()
		})
	}
}

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
	v := m.use("volume", spec{parameters: map[string]string{"journalSize": "1Gi"}})
	const kept = 100 // files, written in turn
	crashes := 25
	if full {
		crashes = 1000 // about ten minutes
	}
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
		go func() { written <- v.write(fmt.Sprint("file-", i%kept), true) }()
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
	v.expect(names("file", min(crashes, kept))...)
	v.healthy()
	m.noErrors()
	v.unmount()
	v.remove()
	m.nothingIsLeft(v.id)
}
