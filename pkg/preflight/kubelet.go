package preflight

import (
	"cmp"
	"errors"
	"io/fs"
	"path/filepath"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/swiftblock/csi-swiftblock/pkg/host"
)

// shutdown looks whether kubelet ends pods before the machine goes down, and those
// that use volumes before the driver's: else the host unit ends them, which has less
// patience.
func (n Node) shutdown() Result {
	file := cmp.Or(n.KubeletConfig, filepath.Join(n.KubeletDir, "config.yaml"))
	remedy := "set shutdownGracePeriod: 120s and shutdownGracePeriodCriticalPods: 60s in " + file + ", and restart kubelet"
	text, err := n.read(file)
	if errors.Is(err, fs.ErrNotExist) {
		return warning("give the file by --kubelet-config; in it, shutdownGracePeriod must be set",
			"kubelet has no %s: whether it ends pods before a reboot is not known", file)
	}
	var config struct {
		Period   metav1.Duration `json:"shutdownGracePeriod"`
		Critical metav1.Duration `json:"shutdownGracePeriodCriticalPods"`
		Levels   []struct {
			Seconds int64 `json:"shutdownGracePeriodSeconds"`
		} `json:"shutdownGracePeriodByPodPriority"`
	}
	if err == nil {
		err = yaml.Unmarshal([]byte(text), &config)
	}
	switch {
	case err != nil:
		return warning("mend "+file, "kubelet's configuration cannot be read: %v", err)
	case len(config.Levels) > 0:
		return ok("kubelet ends pods by priority before a reboot")
	case config.Period.Duration <= 0:
		return warning(remedy, "kubelet does not end pods before a reboot: those with volumes get 20 s to end from the driver's host unit, or as long as you like if you drain the node first")
	case config.Critical.Duration <= 0:
		return warning(remedy, "kubelet ends the driver's own pod along with those that use volumes, which wait for the driver's host unit then: shutdownGracePeriodCriticalPods is not set")
	}
	return ok("kubelet gives pods %v before a reboot, the last %v of them to critical ones", config.Period.Duration, config.Critical.Duration)
}

// unit looks for the unit of the host's systemd that lets go of volumes when the
// machine goes down; the node process makes it.
func (n Node) unit() Result {
	switch {
	case !n.exists("/run/systemd/system"):
		return warning("unmount volumes or drain the node before each reboot", "the host has no systemd that would let go of volumes before a reboot")
	case !n.exists(host.UnitPath):
		return warning("the log of the container node says why it could not make the unit; until it can, drain the node before each reboot",
			"the host has no %s: with volumes mounted a reboot may not end", filepath.Base(host.UnitPath))
	}
	return ok("the host has %s, which lets go of volumes before a reboot", filepath.Base(host.UnitPath))
}
