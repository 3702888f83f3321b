package main

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"
)

// A node process without an export process is alive, and not ready.
func TestProbe(t *testing.T) {
	a := newAdmin(t)
	socket := "unix://" + filepath.Join(a.dir, "csi.sock")
	a.serve("node", "--node", "n", "--csi", socket, "--export", "unix://"+filepath.Join(a.dir, "nobody.sock"))
	wait, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		_, err := a.try(wait, "probe", "--csi", socket)
		if err == nil {
			break
		}
		if wait.Err() != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if _, err := a.try(wait, "probe", "--csi", socket, "--ready"); !errors.Is(err, errNotReady) {
		t.Errorf("probe --ready: %v", err)
	}
}
