package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// What programs do to file systems: random writes that are verified, and a large
// source tree.
func TestWorkloads(t *testing.T) {
	onlyFull(t)
	for _, fsType := range []string{"ext4", "xfs"} {
		t.Run(fsType, func(t *testing.T) {
			m := startMachine(t)
			v := m.use("volume", spec{fsType: fsType, size: 2 << 30, parameters: soon.parameters})
			began := time.Now()
			v.fio("random", "--size=32m --rw=randwrite --bsrange=512-128k --bs_unaligned --direct=0 --fsync=64 --numjobs=2")
			v.fio("mixed", "--size=32m --rw=randrw --bsrange=4k-64k --trim_percentage=10 --fsync=32 --loops=2 --verify_backlog=64")
			t.Logf("fio: %v", time.Since(began).Round(time.Millisecond))
			began = time.Now()
			tree, err := filepath.Abs(filepath.Join(os.Getenv("E2E_LOGS"), "tree.tar.gz"))
			v.must(err)
			v.run("tar -C %s -xzf %s && sync -f %[1]s", v.pod(), tree)
			v.run("tar -C %s --compare -zf %s", v.pod(), tree)
			v.unmount()
			v.mount()
			v.run("tar -C %s --compare -zf %s", v.pod(), tree)
			v.run("cd %s && cp -a src copy && diff -r src copy && rm -r copy && fstrim -v .", v.pod())
			t.Logf("%s files unpacked, compared, compared again from Swift, copied and removed: %v", v.run("find %s -type f | wc -l", v.pod()), time.Since(began).Round(time.Millisecond))
			v.healthy()
			v.checked()
			v.remove()
			m.nothingIsLeft(v.id)
			m.noErrors()
		})
	}
}

// Volumes grow, and are cut, under a file system in use; each cut is a clean file
// system of the size that it then had (P4).
func TestResizeRacesSnapshot(t *testing.T) {
	onlyFull(t)
	m := startMachine(t)
	v := m.use("volume", spec{size: 512 << 20, parameters: soon.parameters})
	load := make(chan error, 1)
	go func() {
		load <- v.tryFio("load", "--size=64m --rw=randwrite --bsrange=4k-64k --fsync=16 --time_based --runtime=25 --rate_iops=300 --verify_backlog=512")
	}()
	var snapshots []string
	for i := range 4 {
		cut := make(chan string)
		go func() { cut <- v.snapshot(fmt.Sprint("cut-", i)) }()
		v.expand(int64(768+256*i) << 20)
		snapshots = append(snapshots, <-cut)
	}
	v.must(<-load)
	v.healthy()
	for i, snapshot := range snapshots {
		w := m.use(fmt.Sprint("restored-", i), spec{snapshot: snapshot, size: 3 << 30})
		w.healthy()
		w.checked()
		w.remove()
		m.removeSnapshot(snapshot)
	}
	t.Logf("grown four times to %s under load, cut meanwhile, each cut restored larger and checked", v.run("df -h --output=size %s | tail -n 1", v.pod()))
	v.checked()
	v.remove()
	m.noErrors()
}

// Twenty volumes of a node are used at a time.
func TestTwentyVolumes(t *testing.T) {
	onlyFull(t)
	m := startMachine(t)
	const volumes = 20
	began := time.Now()
	var all sync.WaitGroup
	for i := range volumes {
		all.Go(func() {
			v := m.use(fmt.Sprint("volume-", i), spec{size: 256 << 20, parameters: soon.parameters})
			v.fio("load", "--size=8m --rw=randwrite --bsrange=4k-64k --fsync=32")
			v.healthy()
			v.unmount()
			v.mount()
			v.fio("load", "--size=8m --rw=randwrite --bsrange=4k-64k --verify_only")
			v.checked()
			v.remove()
		})
	}
	all.Wait()
	t.Logf("%d volumes made, used, closed, used again, checked and removed in %v", volumes, time.Since(began).Round(time.Second))
	m.nothingIsLeft("")
	m.noErrors()
}

// A database's snapshot, taken under load, holds every transaction that was
// committed before it was asked for, and is consistent.
func TestDatabase(t *testing.T) {
	m := startMachine(t)
	v := m.use("volume", soon)
	m.run(`sqlite3 %s/db "PRAGMA journal_mode=WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB); CREATE INDEX i ON t(body);"
		rm -f /tmp/db.stop
		setsid bash -c 'until [ -e /tmp/db.stop ]; do
			for ((i = 0; i < 20; i++)); do echo "BEGIN; INSERT INTO t(body) VALUES (randomblob(2000)); UPDATE t SET body = randomblob(1500) WHERE id = abs(random()) %% 500; COMMIT;"; done |
				sqlite3 -cmd ".timeout 120000" -cmd "PRAGMA synchronous=FULL" %[1]s/db
		done; echo $? >/tmp/db.ended' >/tmp/db.log 2>&1 &`, v.pod())
	count := func(v volume) int {
		n, err := strconv.Atoi(v.run(`sqlite3 -cmd ".timeout 120000" %s/db "SELECT count(*) FROM t"`, v.pod()))
		v.must(err)
		return n
	}
	for i := range 3 {
		time.Sleep(long(3*time.Second, 30*time.Second))
		before := count(v)
		snapshot := v.snapshot(fmt.Sprint("cut-", i))
		after := count(v)
		w := m.use(fmt.Sprint("restored-", i), spec{snapshot: snapshot})
		if is := w.run(`sqlite3 %s/db "PRAGMA integrity_check"`, w.pod()); is != "ok" {
			t.Errorf("integrity: %s", is)
		}
		n := count(w)
		if n < before || n > after {
			t.Errorf("the cut has %d rows; there were %d before, and %d after", n, before, after)
		}
		t.Logf("%d rows before the cut, %d in it, %d after", before, n, after)
		w.checked()
		w.remove()
		m.removeSnapshot(snapshot)
	}
	m.run("touch /tmp/db.stop; until [ -e /tmp/db.ended ]; do sleep 0.2; done; rm -f /tmp/db.ended; cat /tmp/db.log; test ! -s /tmp/db.log")
	v.healthy()
	v.checked()
	v.remove()
	m.noErrors()
}

// Snapshots and clones of clones go in any order, each is what it was as long as it
// is there, and at the end nothing is left in Swift.
func TestDeletedInAnyOrder(t *testing.T) {
	onlyFull(t)
	m := startMachine(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	cuts := 10
	if full {
		cuts = 50
	}
	others := m.containers() // of scenarios whose controller did not live to remove them
	v := m.use("volume", spec{size: 256 << 20})
	type made struct {
		snapshot string // or
		volume   volume
		files    int
	}
	var all []made
	for i := range cuts {
		v.must(v.write(fmt.Sprint("file-", i%8), true))
		all = append(all, made{snapshot: v.snapshot(fmt.Sprint("cut-", i)), files: min(i+1, 8)})
		if i%5 == 4 { // a clone of the last cut, and clones of clones
			from := all[len(all)-1]
			clone := m.make(fmt.Sprint("clone-", i), spec{size: 256 << 20, snapshot: from.snapshot})
			again := m.make(fmt.Sprint("again-", i), spec{size: 256 << 20, source: clone.id})
			all = append(all, made{volume: clone, files: from.files}, made{volume: again, files: from.files})
		}
	}
	v.unmount()
	all = append(all, made{volume: v, files: min(cuts, 8)})
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for i, x := range all {
		if x.snapshot != "" {
			m.removeSnapshot(x.snapshot)
			continue
		}
		if i >= len(all)/2 { // its origins are gone by now, or some of them
			x.volume.mount()
			x.volume.expect(names("file", x.files)...)
			x.volume.checked()
		}
		x.volume.remove()
	}
	began := time.Now()
	m.eventually("something is left in Swift", func() bool {
		return !slices.ContainsFunc(m.containers(), func(name string) bool { return !slices.Contains(others, name) })
	})
	t.Logf("%d snapshots and volumes deleted in random order; nothing of them was in the store %v later", len(all), time.Since(began).Round(time.Second))
	m.nothingIsLeft(strings.Repeat("x", 8))
}
