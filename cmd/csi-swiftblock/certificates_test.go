package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/swiftblock/csi-swiftblock/pkg/trust"
)

func TestCertificates(t *testing.T) {
	a := newAdmin(t)
	dir := filepath.Join(a.dir, "keys")
	var authority [2]string
	for i := range authority {
		a.run("certificates", dir, "worker-1", "worker-2")
		for _, holder := range []string{"controller", "worker-1", "worker-2"} {
			if _, err := trust.Open(filepath.Join(dir, holder), nil); err != nil {
				t.Error(err)
			}
		}
		ca, err := os.ReadFile(filepath.Join(dir, "worker-1", "ca.crt"))
		if err != nil {
			t.Fatal(err)
		}
		authority[i] = string(ca)
	}
	if authority[0] != authority[1] {
		t.Error("a second run made another authority")
	}
	a.refused("not a name for a directory", "certificates", dir, "../worker-1")
	a.refused("not a name for a directory", "certificates", dir, "controller")
}
