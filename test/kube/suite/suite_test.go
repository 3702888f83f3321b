// Package suite is Kubernetes' own suite for storage drivers and nothing else of its end to
// end tests: built as a test it is the program e2e.test, in a quarter of the time.
package suite

import (
	"flag"
	"os"
	"testing"

	"k8s.io/kubernetes/test/e2e"
	"k8s.io/kubernetes/test/e2e/framework"
	"k8s.io/kubernetes/test/e2e/framework/config"
	"k8s.io/kubernetes/test/e2e/framework/testfiles"
	manifests "k8s.io/kubernetes/test/e2e/testing-manifests"

	_ "k8s.io/kubernetes/test/e2e/framework/debug/init"   // what a failure prints
	_ "k8s.io/kubernetes/test/e2e/framework/metrics/init" // and gathers
	_ "k8s.io/kubernetes/test/e2e/framework/node/init"    // nodes are looked at before and after
	_ "k8s.io/kubernetes/test/e2e/storage/external"       // the suite: -storage.testdriver
)

func TestMain(m *testing.M) {
	config.CopyFlags(config.Flags, flag.CommandLine)
	framework.RegisterCommonFlags(flag.CommandLine)
	framework.RegisterClusterFlags(flag.CommandLine)
	flag.Parse()
	testfiles.AddFileSource(manifests.GetE2ETestingManifestsFS())
	framework.AfterReadingAllFlags(&framework.TestContext)
	os.Exit(m.Run())
}

func TestE2E(t *testing.T) { e2e.RunE2ETests(t) }
