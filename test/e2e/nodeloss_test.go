package e2e

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/authority"
)

// soon publishes what is written within seconds.
var soon = spec{parameters: map[string]string{"rpo": "3s"}}

// published waits until all that was written before is in Swift.
func (v volume) published() {
	v.t.Helper()
	began := v.recorded()
	for limit := time.Now().Add(3 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		if now := v.recorded(); now != began {
			return
		}
		if time.Now().After(limit) {
			v.t.Fatal("nothing is published")
		}
		v.run("date +%%N >%s/.touched && sync -f %s", v.pod(), v.pod())
	}
}

// recorded is the generation that the controller knows to be published.
func (v volume) recorded() uint64 {
	v.t.Helper()
	if head := v.inspect().Head; head != nil {
		return head.Generation
	}
	return 0
}

// inspect is what the authority says of the volume.
func (v volume) inspect() (view struct {
	Head      *authority.Root
	Recovered *authority.Recovery
},
) {
	v.t.Helper()
	text := v.main.run("$E2E_BINARY volume inspect --json --authority %s %s", v.main.path("authority"), v.id)
	if err := json.Unmarshal([]byte(text), &view); err != nil {
		v.t.Fatal(err)
	}
	return view
}

// giveUp says that the node will not come back.
func (m *machine) giveUp() {
	m.t.Helper()
	m.main.run("$E2E_BINARY nodes give-up --authority %s %s", m.main.path("authority"), m.name)
}

// lostJournals lists the journals that the machine keeps of volumes that went on
// without it.
func (m *machine) lostJournals() (lost []string) {
	m.t.Helper()
	var list []struct {
		Volume string
		Lost   bool
	}
	text := m.run("$E2E_BINARY journal ls --json --state %s", m.path("journals"))
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		m.t.Fatal(err)
	}
	for _, j := range list {
		if j.Lost {
			lost = append(lost, j.Volume)
		}
	}
	return lost
}

// crash ends the machine's kernel at once and lets it boot again, without our
// processes; its disk keeps what was synced.
func (m *machine) crash() {
	m.t.Helper()
	const boot = "cat /proc/sys/kernel/random/boot_id"
	former := m.run(boot)
	m.place.Go("Place.Run", "busybox reboot -nf", new(string), nil) // nobody is left to answer
	for began := time.Now(); time.Since(began) < 2*time.Minute; {
		time.Sleep(time.Second)
		m.place.Close()
		m.place = there(m.t, m.agent)
		// On a busy host the former kernel may answer for a while.
		if now, err := m.try(boot); err == nil && now != former {
			return
		}
	}
	m.t.Fatalf("%s does not end", m.name)
}

// A node that is gone for good loses what it has not published, and nothing else
// (P2, P3, R6). The volume is taken only when the node is given up, says how old
// its data is, and its file system is clean. What the node comes back with is kept.
func TestNodeLoss(t *testing.T) {
	first := startMachine(t)
	second := first.startSecond()
	v := second.use("volume", soon)
	v.must(v.write("early", true))
	v.published()
	v.published()
	v.must(v.write("late", true))
	second.crash()
	lost := time.Now()

	if err := v.tryUnbind(); err == nil {
		t.Error("the volume was taken from a node that nobody gave up")
	}
	second.giveUp()
	v.kubelet("unbind", v.unbind)
	w := v.on(first)
	w.mount()
	w.expect("early")
	r := w.inspect().Recovered
	if r == nil || r.Node != second.name || r.Newest.IsZero() {
		t.Fatalf("recovered: %+v", r)
	}
	t.Logf("taken over %v after the crash, with data %v old at the crash", time.Since(lost).Round(time.Millisecond), lost.Sub(r.Newest).Round(time.Millisecond))
	w.healthy()
	w.checked()

	second.startNode()
	second.eventually("the journal is not set aside", func() bool { return slices.Contains(second.lostJournals(), v.id) })
	w.mount()
	w.expect("early")
	w.unmount()
	w.remove()
	first.nothingIsLeft(v.id)
	first.noErrors()
}

// After the reboot of a node whose pod went elsewhere nobody stages the volume
// there: it closes by itself what it had open, and nothing is lost (R6).
func TestRebootedNodeClosesByItself(t *testing.T) {
	first := startMachine(t)
	second := first.startSecond()
	v := second.use("volume", spec{}) // published after a minute: all is in the journal
	v.must(v.write("file", true))
	second.crash()
	if err := v.tryUnbind(); err == nil {
		t.Error("the volume was taken from a node that is down")
	}
	began := time.Now()
	second.startNode()
	v.kubelet("unbind", v.unbind)
	t.Logf("closed %v after the processes started", time.Since(began).Round(time.Millisecond))
	second.eventually("the record of a volume that is closed stays", func() bool { // it goes last, after the answer
		_, err := second.try("ls -d %s/%s", second.path("journals"), v.id)
		return err != nil
	})
	second.nothingIsLeft(v.id)
	w := v.on(first)
	w.mount()
	w.expect("file")
	w.healthy()
	w.checked()
	if r := w.inspect().Recovered; r != nil {
		t.Errorf("recovered %+v: nothing was lost", r)
	}
	w.remove()
	first.noErrors()
}

// A node that was given up and answers hands over all it has (R6), also when that
// takes longer because Swift is away.
func TestGivenUpNodeHandsOver(t *testing.T) {
	first := startMachine(t)
	second := first.startSecond()
	v := second.use("volume", spec{})
	v.must(v.write("file", true))
	second.giveUp()
	better := first.cloud.be(away)
	if err := v.tryUnbind(); err == nil {
		t.Error("a dirty node that answers was skipped")
	}
	better()
	v.kubelet("unbind", v.unbind)
	w := v.on(first)
	w.mount()
	w.expect("file")
	w.healthy()
	if r := w.inspect().Recovered; r != nil {
		t.Errorf("recovered %+v: nothing was lost", r)
	}
	// The pod that was left behind gets errors, and can be removed.
	if err := v.write("too-late", true); err == nil {
		t.Error("the node that handed over goes on writing")
	}
	v.kubelet("unpublish", v.unpublish)
	v.kubelet("unstage", v.unstage)
	second.nothingIsLeft(v.id)
	w.unmount()
	w.remove()
}

// A node that was stopped, given up and wakes up again while its pod writes on
// changes nothing, and its pod gets errors as soon as it can know (P6, R7). One
// whose process is started anew knows it before it acknowledges anything, however
// long its rpo is.
func TestZombie(t *testing.T) {
	t.Run("continued", func(t *testing.T) {
		zombie(t, soon, func(second *machine) { second.signal("export", syscall.SIGCONT) })
	})
	t.Run("restarted", func(t *testing.T) {
		acknowledged := zombie(t, spec{}, func(second *machine) {
			second.kill("export")
			second.start("export")
		})
		if acknowledged != 0 {
			t.Errorf("the restarted zombie acknowledged %d writes", acknowledged)
		}
	})
}

// zombie returns how many writes of its pod the zombie acknowledged after it woke.
func zombie(t *testing.T, s spec, wake func(*machine)) (acknowledged int) {
	first := startMachine(t)
	second := first.startSecond()
	v := second.use("volume", s)
	v.must(v.write("early", true))
	first.removeSnapshot(v.snapshot("early")) // publishes
	second.run(`cat >/tmp/pod.sh <<-'END'
		for ((i = 1; ; i++)); do
			echo $i | dd of=$1/zombie bs=4k conv=fsync status=none || break
			echo $i >>/tmp/pod.acknowledged
		done
		date +%%s.%%N >/tmp/pod.ended
	END
	rm -f /tmp/pod.ended
	: >/tmp/pod.acknowledged
	setsid bash /tmp/pod.sh %s >/tmp/pod.log 2>&1 &`, v.pod())
	count := func() int {
		n, err := strconv.Atoi(second.run("wc -l </tmp/pod.acknowledged"))
		second.must(err)
		return n
	}
	second.eventually("the pod does not write", func() bool { return count() > 3 })
	second.signal("export", syscall.SIGSTOP)
	second.giveUp()
	v.kubelet("unbind", v.unbind)
	w := v.on(first)
	w.mount()
	w.expect("early")
	w.must(w.write("new", true))

	before, roots := count(), w.roots()
	wake(second)
	woke := time.Now()
	second.eventually("the zombie's pod writes on", func() bool {
		_, err := second.try("test -e /tmp/pod.ended")
		return err == nil
	})
	acknowledged = count() - before
	t.Logf("the zombie's pod got an error %v after it woke up, and %d acknowledgements before: %s",
		time.Since(woke).Round(time.Millisecond), acknowledged, second.run("tail -n 1 /tmp/pod.log"))
	time.Sleep(5 * time.Second) // it may still try to publish
	for _, name := range w.roots() {
		if strings.HasPrefix(name, "r/1-") && !slices.Contains(roots, name) {
			t.Errorf("the zombie published %s", name)
		}
	}
	w.expect("early", "new")
	w.healthy()
	w.checked()

	v.kubelet("unpublish on the zombie", v.unpublish)
	v.kubelet("unstage on the zombie", v.unstage)
	if lost := second.lostJournals(); !slices.Contains(lost, v.id) {
		t.Errorf("the zombie keeps the journals of %v", lost)
	}
	w.remove()
	first.nothingIsLeft(v.id)
	first.noErrors()
	return acknowledged
}

// roots are the names of the volume's roots in Swift.
func (v volume) roots() (names []string) {
	v.t.Helper()
	for _, o := range v.objects() {
		if strings.HasPrefix(o.Name, "r/") {
			names = append(names, o.Name)
		}
	}
	return names
}

func (v volume) tryUnbind() error {
	ctx, cancel := context.WithTimeout(v.t.Context(), 15*time.Second)
	defer cancel()
	return v.unbind(ctx)
}

// eventually waits for something that another process does.
func (m *machine) eventually(failure string, done func() bool) {
	m.t.Helper()
	for limit := time.Now().Add(2 * time.Minute); !done(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(limit) {
			m.t.Fatal(failure)
		}
	}
}
