package e2e

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A journal's space is reserved when it is made: a disk that has none refuses the
// volume, and one that others fill up afterwards does not concern it, for there is
// room set aside for what else is written beside the journal.
func TestFullDisk(t *testing.T) {
	onlyFull(t)
	m := startMachine(t)
	m.kill("export")
	m.run("truncate -s 1G %s.img", m.path("journals"))
	m.startDisk(safe, true)
	m.start("export")
	big := m.make("big", spec{parameters: map[string]string{"journalSize": "2Gi"}})
	big.bind()
	var refusal error
	m.eventually("a journal of 2 GiB is not refused on a disk of one", func() bool {
		refusal = big.stage(t.Context())
		return status.Code(refusal) == codes.ResourceExhausted
	})
	t.Logf("refused: %v", refusal)
	v := m.use("volume", soon)
	m.try("dd if=/dev/zero of=%s/filler bs=1M status=none", m.path("journals"))
	free := m.run("df --output=avail %s | tail -n 1", m.path("journals"))
	v.fio("load", "--size=100m --rw=randwrite --bsrange=4k-128k --fsync=64")
	v.published()
	m.kill("export")
	m.start("export")
	v.fio("load", "--size=100m --rw=randwrite --bsrange=4k-128k --verify_only")
	t.Logf("100 MiB written, published and verified, and export killed, with %s KiB free", strings.TrimSpace(free))
	v.healthy()
	v.checked()
	v.remove()
	big.remove()
	m.noErrors()
	m.stopDisk()
}

// The disk that startDisk makes is one of these servers, on the file whose name follows.
const (
	// safe has written what it acknowledges.
	safe = "nbdkit -U /run/disk.sock file file="
	// cached has a write cache that is lost with the machine's power: it dies with the
	// kernel that it runs on, and goes to the file only when it is flushed.
	cached = "TMPDIR=/tmp nbdkit -U /run/disk.sock --filter=cache file cache=writeback file="
)

// startDisk gives the machine's journals a disk of their own; format makes its file
// system first. That flushes the disk when it is asked to, not by itself every five seconds or
// with each inode table that it initializes: else what nobody flushed may be there. A kernel that
// has just loaded nbd may not have the device yet, or udev has it open and so in use.
func (m *machine) startDisk(server string, format bool) {
	m.t.Helper()
	mkfs := "true"
	if format {
		mkfs = "mkfs.ext4 -qF -E nodiscard /dev/nbd0"
	}
	m.run(`modprobe nbd nbds_max=1
		%[2]s%[1]s.img
		udevadm settle
		for try in {1..30}; do nbd-client -unix /run/disk.sock /dev/nbd0 >/dev/null && break; sleep 1; done
		mkdir -p %[1]s; %[3]s; mount -o commit=600,noinit_itable /dev/nbd0 %[1]s`, m.path("journals"), server, mkfs)
}

// stopDisk takes the disk away from a machine whose export process has ended.
func (m *machine) stopDisk() {
	m.t.Helper()
	m.kill("export")
	m.run("umount %s && nbd-client -d /dev/nbd0 >/dev/null && pkill -x nbdkit", m.path("journals"))
}

// The power of a node fails under load, with its disk intact: nothing that was
// flushed is lost (P1), though all that was not flushed is lost for sure.
func TestPowerLoss(t *testing.T) {
	first := startMachine(t)
	second := first.reachSecond()
	second.run("truncate -s 2G %s.img", second.path("journals"))
	second.startDisk(cached, true)
	second.run(`cd %s; head -c 64K /dev/zero >control; sync
		head -c 32K /dev/zero | tr '\0' F | dd of=control bs=4k oflag=direct conv=notrunc,fdatasync status=none
		head -c 32K /dev/zero | tr '\0' U | dd of=control bs=4k seek=8 oflag=direct conv=notrunc status=none
		test $(tr -cd U <control | wc -c) = 32768`, second.path("journals"))
	second.crash()
	second.startDisk(cached, false)
	have := second.run("tr '\\0' 0 <%s/control | fold -w 4096 | cut -c 1 | tr -d '\\n'", second.path("journals"))
	if have != strings.Repeat("F", 8)+strings.Repeat("0", 8) {
		t.Fatalf("the disk is not what it is made for: of what was flushed (F) and what was not (U) %s is left", have)
	}

	second.startNode()
	v := second.use("volume", soon)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var acknowledged []string
	for round := range int(long(2, 15)) {
		second.run(`setsid fio --name=noise --directory=%s --size=32m --rw=randwrite --bsrange=4k-64k --time_based --runtime=600 --ioengine=psync >/dev/null 2>&1 &`, v.pod())
		for end := time.Now().Add(time.Duration(random.Int64N(int64(6 * time.Second)))); time.Now().Before(end); {
			name := fmt.Sprintf("file-%d-%d", round, len(acknowledged))
			v.must(v.write(name, true))
			acknowledged = append(acknowledged, name)
		}
		second.crash()
		second.startDisk(cached, false)
		second.startNode()
		v.mount()
		v.expect(acknowledged...)
		v.healthy()
		if keep := 20; len(acknowledged) > keep {
			for _, name := range acknowledged[:len(acknowledged)-keep] {
				v.run("rm %s/%s", v.pod(), name)
			}
			acknowledged = acknowledged[len(acknowledged)-keep:]
		}
	}
	v.expect(acknowledged...)
	v.checked()
	v.remove()
	second.noErrors()
	second.stopDisk()
}

// Pods that dirty most of the machine's memory do not deadlock with the process
// that their pages are written back through, whose own memory is limited: the volume
// whose pages they are gets on all the time, and a sync of 4 KiB never waits for long: of
// that volume, behind the backlog, and of another one, which needs nothing but the same
// process.
func TestMemoryPressure(t *testing.T) {
	onlyFull(t)
	const most = time.Minute // of standstill
	m := startMachine(t)
	// Its journal takes all that is written: what is to be seen is memory, not Swift's pace.
	v := m.use("dirty", spec{size: 4 << 30, parameters: map[string]string{"journalSize": "16Gi", "rpo": "10s"}})
	w := m.use("probe", soon)
	m.run(`cd /sys/fs/cgroup; echo +memory >cgroup.subtree_control; mkdir -p export pod
		echo 400M >export/memory.max
		awk '/MemTotal/ { print int($2 * 0.8) "K" }' /proc/meminfo >/tmp/pod.memory; cat /tmp/pod.memory >pod/memory.max
		sysctl -q vm.dirty_ratio=80 vm.dirty_background_ratio=60`)
	m.kill("export")
	m.cgroup = "export"
	m.start("export")
	// Each thread is one through which pages are written back: PF_MEMALLOC_NOIO and
	// PF_LOCAL_THROTTLE (PR_SET_IO_FLUSHER).
	m.eventually("export is no IO flusher", func() bool {
		_, err := m.try(`for t in $(cat /sys/fs/cgroup/export/cgroup.threads); do
			(( ($(awk '{ print $9 }' /proc/$t/stat) & 0x180000) == 0x180000 )) || exit 1
		done`)
		return err == nil
	})
	events := func() string { return m.run("cat /sys/fs/cgroup/export/memory.events | tr '\\n' ' '") }
	ended := make(chan error, 1)
	var result string
	go func() {
		var err error
		result, err = m.try(`echo $$ >/sys/fs/cgroup/pod/cgroup.procs
			fio --name=dirty --directory=%[1]s --size=$(cat /tmp/pod.memory) --rw=randwrite --bs=64k --ioengine=psync --time_based --runtime=600 --fallocate=none \
				--name=probe --directory=%[2]s --size=1m --rw=write --bs=4k --fsync=1 --ioengine=psync --time_based --runtime=600 --thinktime=1s \
				--name=behind --directory=%[1]s --size=1m --rw=write --bs=4k --fsync=1 --ioengine=psync --time_based --runtime=600 --thinktime=1s \
				--output-format=json --output=/tmp/fio.json >/dev/null
			sed -n '/"jobname" : "probe"/,$p' /tmp/fio.json | grep -o '"max" : [0-9]*' | awk '{ if ($3 > most) most = $3 } END { printf "%%d", most / 1e6 }'`, v.pod(), w.pod())
		ended <- err
	}()
	var longest time.Duration
	last, since, limit, over := 0.0, time.Now(), time.Now().Add(12*time.Minute), false
	for began := since; !over; {
		select {
		case err := <-ended:
			v.must(err)
			over = true
		case <-time.After(time.Second):
			if time.Now().After(limit) {
				m.lastWords("export")
				t.Fatalf("ten minutes of writing do not end: %s", events())
			}
			if records := v.metric("journal_records_total"); records != last || time.Since(began) < most {
				last, since = records, time.Now()
			}
			longest = max(longest, time.Since(since))
		}
	}
	stall, err := strconv.Atoi(result)
	v.must(err)
	t.Logf("ten minutes of dirty pages in %s of memory, export within 400M: the longest sync took %d ms, the longest standstill %v, %.0f records; export took at most %s MiB; %s",
		m.run("cat /tmp/pod.memory"), stall, longest.Round(time.Second), last, m.run("echo $(($(cat /sys/fs/cgroup/export/memory.peak) >> 20))"), events())
	if longest > most || time.Duration(stall)*time.Millisecond > most {
		t.Errorf("a standstill of %v, a sync of %d ms", longest, stall)
	}
	if !strings.Contains(events(), "oom_kill 0 ") {
		t.Error("export met its memory limit")
	}
	m.run("rm %s/dirty*", v.pod()) // what is not written yet need not be
	for _, v := range []volume{v, w} {
		v.healthy()
		v.checked()
		v.remove()
	}
	m.noErrors()
	m.run("rmdir /sys/fs/cgroup/pod || true")
}
