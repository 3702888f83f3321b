package swift_test

import (
	"context"
	"testing"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// An identity service may lock out who logs in with a wrong password too often, and with
// it everybody who uses the account. So changed credentials that are refused are tried
// again, for they may become good, but not every period.
func TestRefusedCredentialsAreNotTriedEveryPeriod(t *testing.T) {
	v, server := newVault(t, "first")
	file := &secret{dir: t.TempDir()}
	file.write(t, cloudsYAML(server, v.inner.User(), "first"))
	load := func() (swift.Credentials, error) { return swift.LoadCredentials(file.path(), "c") }
	cred, err := load()
	if err != nil {
		t.Fatal(err)
	}
	client := newClient(t, cred, swift.Options{Reload: load})
	if err := client.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	reports := make(chan error, 100)
	go client.Watch(ctx, 5*time.Millisecond, func(err error) { reports <- err })
	before := v.asked()
	file.write(t, cloudsYAML(server, v.inner.User(), "mistyped"))
	if err := next(t, reports); err == nil {
		t.Fatal("credentials that are refused are in use")
	}
	time.Sleep(500 * time.Millisecond)   // a hundred periods
	if n := v.asked() - before; n > 30 { // ncw asks twice each time
		t.Errorf("%d log-ins with a password that is refused", n)
	}
	v.accept("first", "mistyped") // it was not mistyped, but early
	if err := next(t, reports); err != nil {
		t.Error(err)
	}
}
