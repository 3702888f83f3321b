package e2e

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/swiftblock/csi-swiftblock/pkg/attach"
	"github.com/swiftblock/csi-swiftblock/pkg/keys"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// TestEncrypted takes a volume of an encrypted class through a life: nothing of it is
// readable on the node's disk or in Swift, where the same look finds all of a plain
// volume; its node goes on without the controller; it is cut and cloned; and the key of
// its class is exchanged, and the former one forgotten.
func TestEncrypted(t *testing.T) {
	onlyFull(t)
	m := startMachine(t)
	second := m.startSecond()
	began := time.Now()
	old, present := newClassKey(), newClassKey()
	only := map[string]string{keys.Field: encoded(present)}
	both := map[string]string{keys.Field: encoded(present), keys.PreviousField: encoded(old)}

	// zstd leaves noise as it is, and of many short lines the half of one.
	const line = "what-anybody-would-know-again"
	noise := make([]byte, 1<<20)
	crand.Read(noise)
	written := []string{line[:len(line)/2], string(noise[5<<10:][:64])}
	use := func(name string, s spec) volume {
		v := m.use(name, s)
		m.must(v.write(line, true))
		m.must(os.WriteFile(filepath.Join(v.pod(), "noise"), noise, 0o600))
		m.run("sync -f %s", v.pod())
		return v
	}
	// Only a snapshot publishes: until then all that was written is in the journal.
	class := spec{parameters: map[string]string{"rpo": "snapshot-only", "encryption": "aes-256-gcm"}, secrets: map[string]string{keys.Field: encoded(old)}}
	v := use("secret", class)
	set, err := attach.KeysOf(m.runDir(), v.id)
	m.must(err)
	own := set.Secret()
	secrets := []string{hex.EncodeToString(own[:]), encoded(string(own[:])), old, encoded(old), present, encoded(present)}
	hidden := slices.Concat(written, secrets, []string{string(own[:])})
	if found := m.inJournals(hidden); len(found) > 0 {
		t.Errorf("on the node's disk is %q", slices.Collect(maps.Values(found)))
	}

	// The keys survive export, and after a reboot the controller has them.
	var over atomic.Bool
	load := make(chan error, 1)
	go func() {
		var err error
		for err == nil && !over.Load() {
			err = v.write("load", true)
		}
		load <- err
	}()
	m.kill("controller")
	m.kill("export")
	m.start("export")
	back := time.AfterFunc(time.Minute, func() { m.start("controller") })
	m.must(v.write("alone", true))
	if !back.Stop() {
		t.Fatal("nothing was written without the controller")
	}
	m.start("controller")
	m.kill("export")
	m.run("rm -r %s/keys", m.runDir())
	m.start("export")
	m.must(v.write("asked", true))
	snapshot := v.snapshot("cut")
	m.must(v.write("after", true))
	over.Store(true)
	m.must(<-load)
	if found := v.inSwift(hidden); len(found) > 0 {
		t.Errorf("in Swift is %q", slices.Collect(maps.Values(found)))
	}

	plain := use("plain", spec{parameters: map[string]string{"rpo": "snapshot-only"}})
	journals := m.inJournals(hidden)
	plainCut := plain.snapshot("plain")
	for place, found := range map[string]map[string]string{"its journal": journals, "Swift": plain.inSwift(hidden)} {
		if is := slices.Sorted(maps.Keys(found)); !slices.Equal(is, slices.Sorted(slices.Values(written))) {
			t.Errorf("of a plain volume in %s is %q", place, is)
		}
	}
	t.Logf("hidden in %d objects; of a plain volume found in %q", len(v.objects()), slices.Collect(maps.Values(journals)))

	restored := second.use("restored", spec{parameters: class.parameters, secrets: class.secrets, snapshot: snapshot})
	restored.expect(line, "alone", "asked")
	if found, err := restored.try("ls %s/after", restored.pod()); err == nil {
		t.Errorf("restored with what was written after the snapshot: %s", found)
	}
	restored.healthy()
	restored.checked()

	// The key is exchanged: for a clone both are needed, and the clone needs the present one.
	refused := func(what string, code codes.Code, why string, call func(context.Context) error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := call(ctx); status.Code(err) != code || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want %v: %s", what, err, code, why)
		}
	}
	copied := spec{parameters: class.parameters, secrets: only, source: v.id}
	refused("a clone without the former key", codes.InvalidArgument, "the keys of the source", func(ctx context.Context) error {
		_, err := v.create(ctx, "clone", copied)
		return err
	})
	copied.secrets = both
	clone := m.make("clone", copied)
	v.healthy()
	v.unmount()

	// Classes may name their Secrets for publishing and staging, too.
	v.secrets = only
	refused("published without the former key", codes.InvalidArgument, keys.PreviousField, v.tryBind)
	v.secrets = nil
	v.bind()
	v.secrets = only
	refused("staged without the former key", codes.InvalidArgument, keys.PreviousField, v.stage)
	// A controller that has lost the former key says so, serves what the present one wraps,
	// and learns it again.
	former, err := keys.ParseClass(encoded(old))
	m.must(err)
	m.run("rm %s/accounts/%s", m.path("authority"), former.Name())
	v.secrets = nil
	refused("the former key is nowhere", codes.FailedPrecondition, keys.ErrNoKey.Error(), v.stage)
	clone.mount()
	clone.expect(line, "alone", "asked", "after", "load")
	clone.checked()
	v.secrets = both
	v.mount()
	v.expect(line, "alone", "asked", "after")
	// It is rewrapped while it is in use, and then nothing needs the former key.
	now, err := keys.ParseClass(encoded(present))
	m.must(err)
	m.run("$E2E_BINARY keys rewrap --authority %s %s %s", m.path("authority"), former.Name(), now.Name())
	m.run("$E2E_BINARY keys forget --authority %s %s", m.path("authority"), former.Name())
	m.must(v.write("rewrapped", true))
	v.healthy()
	v.unmount()
	v.secrets = only
	v.mount()
	v.expect(line, "after", "rewrapped")
	m.hides(secrets...)
	second.hides(secrets...)
	v.checked()
	plain.checked()
	t.Logf("made, killed, cut, restored, cloned, refused and learnt again, rewrapped in %v", time.Since(began).Round(time.Second))

	for _, id := range []string{snapshot, plainCut} {
		m.removeSnapshot(id)
	}
	for _, gone := range []volume{restored, clone, v, plain} {
		gone.remove()
	}
	for _, m := range []*machine{m, second} {
		m.nothingIsLeft("")
		m.noErrors()
	}
}

// newClassKey is the key of a class that a shell can look for as it is, too.
func newClassKey() string { return (crand.Text() + crand.Text())[:len(keys.Secret{})] }

func encoded(key string) string { return base64.StdEncoding.EncodeToString([]byte(key)) }

// inJournals says which of the texts are as they are in the machine's state, and where;
// inSwift which are in the volume's container.
func (m *machine) inJournals(texts []string) map[string]string {
	m.t.Helper()
	found := map[string]string{}
	m.must(filepath.WalkDir(m.path("journals"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		body, err := os.ReadFile(path)
		look(found, filepath.Base(path), body, texts)
		return err
	}))
	return found
}

func (v volume) inSwift(texts []string) map[string]string {
	v.t.Helper()
	found := map[string]string{}
	for _, o := range v.objects() {
		object, err := v.store().Get(v.t.Context(), v.container(), o.Name, swift.GetOptions{})
		v.must(err)
		look(found, o.Name, object.Body, texts)
	}
	return found
}

func look(found map[string]string, place string, body []byte, texts []string) {
	for _, text := range texts {
		if bytes.Contains(body, []byte(text)) {
			found[text] = place
		}
	}
}
