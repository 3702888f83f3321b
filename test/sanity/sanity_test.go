// Package sanity runs csi-sanity, the conformance suite of the Container Storage
// Interface.
//
// Without anything set, the driver is this process: the real catalog and
// authority over a real object store, with a machine and an export process in
// memory. With SANITY_CONTROLLER and SANITY_NODE (paths of unix sockets) it is
// whoever answers there, with a kernel's initiator behind it.
//
// SANITY_ACCESS=block uses the volumes as raw block devices.
//
//	go test -v ./test/sanity
package sanity

import (
	"cmp"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
	"github.com/onsi/gomega"
	"k8s.io/klog/v2"

	"github.com/swiftblock/csi-swiftblock/pkg/ident"
)

// volumeSize is what the suite asks for, in bytes. Volumes are thin, but a
// kernel still writes some MiB of metadata when it formats one.
const volumeSize = 1 << 30

func TestSanity(t *testing.T) {
	config := sanity.NewTestConfig()
	config.TestVolumeSize = volumeSize
	config.TestVolumeExpandSize = 2 * volumeSize
	config.TestVolumeParameters = map[string]string{"journalSize": "512Mi"} // is reserved when a volume is staged
	config.TestVolumeMutableParameters = map[string]string{"rpo": "30s", "iops": "100000"}
	config.TestVolumeAccessType = cmp.Or(os.Getenv("SANITY_ACCESS"), "mount")
	config.IDGen = ids{}
	paths := t.TempDir()
	config.TargetPath = filepath.Join(paths, "target")
	config.StagingPath = filepath.Join(paths, "staging")

	controller, node := os.Getenv("SANITY_CONTROLLER"), os.Getenv("SANITY_NODE")
	if controller == "" || node == "" {
		controller, node = start(t)
	}
	config.ControllerAddress, config.Address = "unix://"+controller, "unix://"+node

	context := sanity.GinkgoTest(&config)
	defer context.Finalize()
	gomega.RegisterFailHandler(ginkgo.Fail)
	ginkgo.ReportAfterSuite("count", func(report ginkgo.Report) {
		specs := report.SpecReports.WithLeafNodeType(types.NodeTypeIt)
		t.Logf("csi-sanity: %d of %d specs pass, %d fail, %d are for what the driver does not advertise",
			specs.CountWithState(types.SpecStatePassed), len(specs),
			specs.CountWithState(types.SpecStateFailureStates), specs.CountWithState(types.SpecStateSkipped|types.SpecStatePending))
	})
	klog.SetOutput(io.Discard) // the suite logs through it
	klog.LogToStderr(false)
	suite, reporter := ginkgo.GinkgoConfiguration()
	reporter.NoColor, reporter.Succinct, reporter.SilenceSkips = true, true, true
	ginkgo.RunSpecs(t, "csi-sanity", suite, reporter)
}

// ids makes ids of the driver's form, which name nothing.
type ids struct{}

func (ids) GenerateUniqueValidVolumeID() string { return string(ident.NewVolume()) }
func (ids) GenerateInvalidVolumeID() string     { return "not/a volume" }
func (ids) GenerateUniqueValidNodeID() string   { return uuid.NewString() }
func (ids) GenerateInvalidNodeID() string       { return "not/a node" }
