package main

import (
	"strings"
	"testing"
)

// A volume that an administrator made for no cluster is one that the controller refuses.
func TestClusterIsNamed(t *testing.T) {
	flags := catalogFlags{authority: inKubernetes, cluster: noCluster, prefix: "swiftblock_"}
	if _, err := flags.create(); err == nil || !strings.Contains(err.Error(), "--cluster") {
		t.Errorf("without --cluster: %v", err)
	}
}
