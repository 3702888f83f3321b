package e2e

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// While Swift is away writes go on until the journal is full, then wait, and what
// is cached can be read; nothing becomes an error (P9).
func TestSwiftAway(t *testing.T) {
	onlyFull(t)
	m := startMachine(t)
	v := m.use("volume", spec{})
	v.must(v.write("before", true))
	v.expect("before") // sets its atime: else the next read would, and wait for ext4's journal
	for name, length := range map[string]time.Duration{"away": long(15*time.Second, 10*time.Minute), "full": long(5*time.Second, time.Minute)} {
		fault := fault(away)
		if name == "full" {
			fault = answering(http.StatusInsufficientStorage, http.MethodPut)
		}
		better := m.cloud.be(fault)
		began := time.Now()
		written := make(chan error, 1)
		go func() { // more than the journal of 512 MiB
			_, err := v.try("fio --name=%s --directory=%s --size=600m --rw=write --bs=1m --direct=1 --ioengine=psync --verify=crc32c --do_verify=0 --verify_state_save=0", name, v.pod())
			written <- err
		}()
		m.eventually("the journal does not fill up", func() bool { return v.metric("writes_held") > 0 })
		v.expect("before")
		select {
		case err := <-written:
			t.Fatalf("%s: 600 MiB went into a journal of 512: %v", name, err)
		case <-time.After(length):
		}
		better()
		select {
		case err := <-written:
			v.must(err)
		case <-time.After(3 * time.Minute):
			m.lastWords("export")
			t.Fatal("the writer does not go on")
		}
		t.Logf("%s: 600 MiB took %v, of which writes were held for %v", name, time.Since(began).Round(time.Second), length)
		m.run("echo 3 >/proc/sys/vm/drop_caches")
		v.fio(name, "--size=600m --rw=write --bs=1m --verify_only")
		v.healthy()
		m.run("rm %s/%s*", v.pod(), name)
	}
	m.noErrors()
	v.checked()
	v.remove()
	m.nothingIsLeft(v.id)
}

// answering answers requests of one method.
func answering(code int, method string) fault {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != method {
			return false
		}
		w.WriteHeader(code)
		return true
	}
}

// long is for the full run, short for every other.
func long(short, long time.Duration) time.Duration {
	if full {
		return long
	}
	return short
}

// fio runs a job that verifies what it writes, all of which is synced when it ends: a
// cut may lack what is not.
func (v volume) fio(name, options string) {
	v.t.Helper()
	v.must(v.tryFio(name, options))
}

func (v volume) tryFio(name, options string) error {
	_, err := v.try("fio --name=%s --directory=%s --ioengine=psync --direct=1 --verify=crc32c --verify_fatal=1 --verify_state_save=0 --end_fsync=1 %s", name, v.pod(), options)
	return err
}

// A Swift that is slow, or answers half of the requests with errors, slows the
// volume down and shows nowhere else.
func TestSwiftFaults(t *testing.T) {
	onlyFull(t)
	m := startMachine(t)
	v := m.use("volume", soon)
	type faulty struct {
		name  string
		fault fault
	}
	faults := []faulty{
		{"slow", slow(500 * time.Millisecond)},
		{"503", failing(http.StatusServiceUnavailable)},
		{"498", failing(498)}, // rate limit
	}
	if full {
		faults = append(faults,
			faulty{"500", failing(http.StatusInternalServerError)},
			faulty{"401", failing(http.StatusUnauthorized)},
			faulty{"429", failing(http.StatusTooManyRequests)})
	}
	for _, c := range faults {
		began := time.Now()
		better := m.cloud.be(c.fault)
		v.fio("f"+c.name, "--size=32m --rw=randwrite --bsrange=4k-64k --fsync=32")
		snapshot := v.snapshot("s" + c.name)
		better()
		t.Logf("%s: 32 MiB verified, and a snapshot, in %v", c.name, time.Since(began).Round(time.Millisecond))
		w := m.use("r"+c.name, spec{snapshot: snapshot})
		w.fio("f"+c.name, "--size=32m --rw=randwrite --bsrange=4k-64k --verify_only")
		w.checked()
		w.remove()
		m.removeSnapshot(snapshot)
	}
	v.healthy()
	m.noErrors()
	v.checked()
	v.remove()
}

// A damaged object is an I/O error for who reads it, never other data, and
// nothing else suffers (P7).
func TestCorruptObject(t *testing.T) {
	m := startMachine(t)
	v := m.use("volume", spec{})
	m.run("head -c 96M /dev/urandom | tee %s/file | sha256sum >/tmp/sum", v.pod())
	v.unmount()
	ctx, store := t.Context(), v.store()
	chunks := slices.DeleteFunc(v.objects(), func(o swift.Info) bool { return !strings.HasPrefix(o.Name, "c/") })
	if len(chunks) < 8 {
		t.Fatalf("%d chunks: %v", len(chunks), chunks)
	}
	container, name := v.container(), chunks[len(chunks)/2].Name
	object, err := store.Get(ctx, container, name, swift.GetOptions{})
	v.must(err)
	damaged := bytes.Clone(object.Body)
	for i := len(damaged) / 4; i < len(damaged); i += len(damaged) / 4 {
		damaged[i] ^= 1
	}
	put(ctx, v, store, container, name, damaged)

	v.mount()
	_, err = m.try("sha256sum %s/file", v.pod())
	if err == nil || !strings.Contains(err.Error(), "Input/output error") {
		t.Errorf("reading damage: %v", err)
	}
	t.Logf("the kernel says: %s", m.run("dmesg | grep -m 2 -iE 'medium error|unrecovered|critical' || true"))
	v.must(v.write("beside", true))
	put(ctx, v, store, container, name, object.Body)
	v.unmount()
	v.mount()
	v.expect("beside")
	if have := m.run("sha256sum <%s/file", v.pod()); have != m.run("cat /tmp/sum") {
		t.Errorf("the mended file has sum %s", have)
	}
	v.healthy()
	v.checked()
	v.remove()
	m.nothingIsLeft(v.id)
}

// put overwrites an object, as no part of csi-swiftblock ever does.
func put(ctx context.Context, v volume, store swift.Store, container, name string, body []byte) {
	v.t.Helper()
	_, err := store.Put(ctx, container, name, body, swift.PutOptions{})
	v.must(err)
}
