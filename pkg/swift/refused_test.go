package swift_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/internal/gather"
	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// The newest credentials are shown as refused for as long as they are, though those
// before them do their work and refused ones are tried less and less often; and not a
// moment longer, though nobody asks the store for anything.
func TestRefusedCredentialsAreShown(t *testing.T) {
	v, server := newVault(t, "first")
	file := &secret{dir: t.TempDir()}
	write := func(key string) { file.write(t, cloudsYAML(server, v.inner.User(), key)) }
	write("first")
	load := func() (swift.Credentials, error) { return swift.LoadCredentials(file.path(), "c") }
	cred, err := load()
	if err != nil {
		t.Fatal(err)
	}
	client := newClient(t, cred, swift.Options{Reload: load, Patience: 2 * time.Second})
	shown := func(name string) float64 { return gather.Values(t, client)["swiftblock_store_"+name] }
	reports := make(chan error, 100)
	await := func(what string, want float64) {
		t.Helper()
		for limit := time.Now().Add(unhurried); shown("credentials_refused") != want; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(limit) {
				t.Fatalf("%s: credentials_refused is %v", what, shown("credentials_refused"))
			}
		}
	}
	if err := client.Check(t.Context()); err != nil || shown("credentials_refused") != 0 || shown("log_ins_total failed") != 0 {
		t.Fatalf("in order: %v, %v", err, gather.Values(t, client))
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go client.Watch(ctx, 100*time.Millisecond, func(err error) { reports <- err })

	stays := func() {
		t.Helper()
		v.endTokens()
		logIns := shown("log_ins_total ok")
		if err := client.Check(t.Context()); err != nil || shown("log_ins_total ok") == logIns {
			t.Errorf("the old ones do not work: %v", err)
		}
		if shown("credentials_refused") != 1 || shown("log_ins_total failed") == 0 {
			t.Errorf("the old ones work: %v", gather.Values(t, client))
		}
	}
	write("mistyped")
	await("mistyped", 1)
	stays()
	write("first")
	await("put back", 0)

	file.write(t, "\t")
	await("not a clouds.yaml", 1)
	stays()
	write("second")
	await("not known yet", 1)
	v.accept("first", "second")
	await("known", 0)

	v.accept()
	v.endTokens()
	if err := client.Check(t.Context()); !errors.Is(err, swift.ErrUnauthorized) {
		t.Errorf("revoked: %v", err)
	}
	await("revoked", 1)
	said := len(reports)
	v.accept("second")
	await("valid again, and nobody asks", 0)
	if len(reports) != said {
		t.Error("they have not changed")
	}
}
