package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// TestKilled takes a volume through its life on the node again and again, and kills
// a process in the middle of mkfs, fsck, mount and umount, and at a random moment
// of all else: P8. kubelet repeats the call to the new process. What was written is
// there in every later life, and nothing is left at the end.
func TestKilled(t *testing.T) {
	for _, c := range []struct {
		fsType  string
		victims []string
		staging []string // the program to be interrupted in each life; "": a random moment
		short   int      // lives in the short run
	}{
		{"ext4", []string{"node"}, []string{"mkfs.ext4", "fsck.ext4", "mount", ""}, 0},
		{"ext4", []string{"export"}, []string{"mkfs.ext4", "fsck.ext4", "mount", ""}, 2},
		{"xfs", []string{"export", "node"}, []string{"mkfs.xfs", "mount", ""}, 1},
	} {
		t.Run(c.fsType+"-"+strings.Join(c.victims, "-"), func(t *testing.T) {
			if c.short == 0 {
				onlyFull(t)
			}
			if !full {
				c.staging = c.staging[:c.short]
			}
			m := startMachine(t)
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			k := killer{machine: m, victims: c.victims, random: rand.New(rand.NewPCG(seed, 0))}
			// Few commands in a second, so that a program takes long enough to be met.
			v := m.make("volume", spec{fsType: c.fsType, size: 256 << 20, parameters: map[string]string{"iops": "40"}})
			v.bind()
			for life, program := range c.staging {
				k.amid("stage", program, v.stage)
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
				k.amid("unstage", "umount", v.unstage)
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

// amid makes a call until it succeeds, and kills the victims once, in the middle of
// a program that the call runs.
func (k killer) amid(what, program string, call func(context.Context) error) {
	k.t.Helper()
	if program == "" {
		k.during(what, call)
		return
	}
	hunt := Hunt{Program: program, After: time.Duration(k.random.Int64N(int64(30 * time.Millisecond))), Kill: k.victims}
	hunted := make(chan bool)
	go func() {
		var met bool
		if err := k.place.Call("Place.Hunt", hunt, &met); err != nil {
			k.t.Error(err)
		}
		if met {
			k.restart()
		}
		hunted <- met
	}()
	began := time.Now()
	k.kubelet(what, call)
	took := time.Since(began)
	if !<-hunted {
		k.t.Errorf("%s did not run %s", what, program)
	}
	k.t.Logf("%s: %v, killed %v into %s", what, took.Round(time.Millisecond), hunt.After.Round(time.Millisecond), program)
}

// during makes a call again and again, which changes nothing once it has succeeded,
// until the victims were killed, at a random moment, and it succeeds after that.
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
		k.restart()
	}()
	began, calls := time.Now(), 0
	for over := false; !over; calls++ {
		select {
		case <-killed:
			over = true
		default:
		}
		k.kubelet(what, call)
	}
	k.t.Logf("%s: %d times in %v, killed after %v", what, calls, time.Since(began).Round(time.Millisecond), after.Round(time.Millisecond))
}

func (k killer) restart() {
	for _, name := range k.victims {
		k.start(name)
	}
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
	crashes := 0
	var longest time.Duration
	for end := time.Now().Add(long(time.Minute, 10*time.Minute)); time.Now().Before(end); crashes++ {
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
		go func() { written <- v.write(fmt.Sprint("file-", crashes%kept), true) }()
		select {
		case err := <-written:
			if err != nil {
				t.Fatalf("write %d, export killed after %v: %v", crashes, after, err)
			}
		case <-time.After(3 * time.Minute):
			m.lastWords("export")
			t.Fatalf("write %d, export killed after %v: no end after three minutes", crashes, after)
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
