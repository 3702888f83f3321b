package preflight

import (
	"cmp"
	"errors"
	"io/fs"
	"path/filepath"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// shutdown looks whether kubelet ends pods before the machine goes down: else a
// reboot meets mounted volumes whose target is gone.
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
		return warning(remedy, "kubelet does not end pods before a reboot: drain the node first, or the reboot may wait for its volumes")
	case config.Critical.Duration <= 0:
		return warning(remedy, "kubelet ends the driver's own pod along with those that use volumes: shutdownGracePeriodCriticalPods is not set")
	}
	return ok("kubelet gives pods %v before a reboot, the last %v of them to critical ones", config.Period.Duration, config.Critical.Duration)
}
