// Package preflight looks at a node before volumes are put on it: whether all is
// there that the driver needs of its host and of Swift. It changes nothing, but
// for a file of one block that it makes in the state directory and removes.
//
// Each check ends with one [Result], which says what was found and, unless that is
// as it should be, the exact remedy. What the driver cannot work without is a
// [Failure]; what works until something else goes wrong is a [Warning].
package preflight

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/swiftblock/csi-swiftblock/pkg/host"
)

// Verdict is what a check comes to.
type Verdict string

// The verdicts.
const (
	OK      Verdict = "ok"
	Warning Verdict = "warning"
	Failure Verdict = "failure"
)

// Result is what one check found.
type Result struct {
	Check   string  `json:"check"`
	Verdict Verdict `json:"verdict"`
	Found   string  `json:"found"`
	Remedy  string  `json:"remedy,omitempty"` // empty if the verdict is OK
}

func ok(format string, args ...any) Result {
	return Result{Verdict: OK, Found: fmt.Sprintf(format, args...)}
}

func warning(remedy, format string, args ...any) Result {
	return Result{Verdict: Warning, Found: fmt.Sprintf(format, args...), Remedy: remedy}
}

func failure(remedy, format string, args ...any) Result {
	return Result{Verdict: Failure, Found: fmt.Sprintf(format, args...), Remedy: remedy}
}

// Failed reports whether any of the results is a failure.
func Failed(results []Result) bool {
	for _, r := range results {
		if r.Verdict == Failure {
			return true
		}
	}
	return false
}

// Warnings returns results of which none is a failure.
func Warnings(results []Result) []Result {
	results = slices.Clone(results)
	for i := range results {
		if results[i].Verdict == Failure {
			results[i].Verdict = Warning
		}
	}
	return results
}

// Node is the machine that is looked at.
type Node struct {
	// Root is where the host's file system is seen from here: "" on the host
	// itself, "/proc/1/root" in a container.
	Root string
	// StateDir and KubeletDir are the host's directories of journals and of kubelet.
	StateDir, KubeletDir string
	// KubeletConfig is kubelet's configuration file; "": config.yaml in KubeletDir.
	KubeletConfig string
	// Portal is where iSCSI targets will listen, Network where the controller
	// reaches the node, each HOST:PORT or :PORT; "": nowhere.
	Portal, Network string
	// JournalSize is the quota of one journal, in bytes; 0: that of a class which
	// does not say.
	JournalSize int64
	// Running says that the driver runs here already, and has done its part.
	Running bool
	// Disk looks at the file system below a directory; nil: the real one.
	Disk func(dir string) (Disk, error)
}

// Check looks at the host.
func (n Node) Check() []Result {
	results := []Result{
		n.kernel().of("kernel module"),
		n.daemon().of("iscsid"),
		n.initiator().of("initiator name"),
		n.tools().of("tools"),
		n.toolsOfXFS().of("tools for xfs"),
		n.multipath().of("multipath"),
		n.state().of("state directory"),
		n.shutdown().of("graceful node shutdown"),
	}
	if n.Running {
		results = append(results, n.unit().of("host unit"))
	}
	for _, p := range []struct{ check, address string }{{"portal", n.Portal}, {"network port", n.Network}} {
		if p.address != "" {
			results = append(results, n.port(p.address).of(p.check))
		}
	}
	return results
}

func (r Result) of(check string) Result {
	r.Check = check
	return r
}

// Begun reports whether export has run on the node: something is in its state directory.
func (n Node) Begun() bool { return len(n.exports()) > 0 }

// Used reports whether the node has volumes. What export keeps there for itself has a
// hidden name.
func (n Node) Used() bool {
	return slices.ContainsFunc(n.exports(), func(e os.DirEntry) bool { return !strings.HasPrefix(e.Name(), ".") })
}

// exports lists the state directory of export; of one that cannot be read, nothing.
func (n Node) exports() []os.DirEntry {
	entries, _ := os.ReadDir(filepath.Join(n.path(n.StateDir), "export"))
	return entries
}

// path is where a file of the host is seen from here. No link is left on the way: one
// with an absolute target would lead out of Root. Where links do not end it is "",
// which does not exist.
func (n Node) path(name string) string {
	name, ends := host.Follow(n.Root, name)
	if !ends {
		return ""
	}
	return filepath.Join("/", n.Root, name)
}

func (n Node) read(name string) (string, error) {
	b, err := os.ReadFile(n.path(name))
	return string(b), err
}

func (n Node) exists(name string) bool {
	_, err := os.Stat(n.path(name))
	return err == nil
}

// running returns the id of a process by its name, or "".
func (n Node) running(name string) string {
	found, _ := filepath.Glob(n.path("/proc/[0-9]*/comm"))
	for _, file := range found {
		if comm, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(comm)) == name {
			return filepath.Base(filepath.Dir(file))
		}
	}
	return ""
}
