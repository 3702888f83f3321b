package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// credentialsPeriod is how often changed credentials are looked for. The kubelet
// takes a minute to bring a changed Secret, so this adds little.
const credentialsPeriod = 5 * time.Second

// openStore is the Swift account that the environment names. Why it lets somebody wait
// is said once: a command would be silent as long as its patience lasts.
func openStore() (*swift.Client, error) {
	credentials, err := credentialsFromEnvironment()
	if err != nil {
		return nil, err
	}
	var once sync.Once
	return swift.New(credentials, swift.Options{Reload: credentialsFromEnvironment, Waiting: func(err error) {
		once.Do(func() { slog.Warn("waiting for the object store", "error", err) })
	}})
}

// watchStore follows changed credentials until ctx ends, and calls each function when
// others are in use.
func watchStore(ctx context.Context, client *swift.Client, changed ...func()) {
	client.Watch(ctx, credentialsPeriod, func(err error) {
		if err != nil {
			slog.Error("changed credentials of the object store are not used, the old ones are", "error", err)
			return
		}
		slog.Info("changed credentials of the object store are in use")
		for _, f := range changed {
			f()
		}
	})
}

func credentialsFromEnvironment() (swift.Credentials, error) { return swift.LoadCredentials("", "") }
