package preflight

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/swiftblock/csi-swiftblock/pkg/host"
)

// searchPath is where the host's tools are looked for: nsenter, and systemd-run, take
// PATH from the node process, which has its image's. It is not ours when an
// administrator asks: a login shell's may lack sbin.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// tool is what package host runs.
type tool struct {
	name     string
	deb, rpm string // the package that has it, of Debian and of Fedora
}

var (
	anyVolume = []tool{
		{"iscsiadm", "open-iscsi", "iscsi-initiator-utils"},
		{"mount", "mount", "util-linux"},
		{"umount", "mount", "util-linux"},
		{"blkid", "util-linux", "util-linux"},
		{"blockdev", "util-linux", "util-linux"},
		{"blkdiscard", "util-linux", "util-linux"},
		{"sync", "coreutils", "coreutils"},
		{"mkfs.ext4", "e2fsprogs", "e2fsprogs"},
		{"fsck.ext4", "e2fsprogs", "e2fsprogs"},
		{"resize2fs", "e2fsprogs", "e2fsprogs"},
	}
	// bySystemd are run on hosts with systemd alone.
	bySystemd = []tool{
		{"systemctl", "systemd", "systemd"},
		{"systemd-run", "systemd", "systemd"},
	}
	// ofXFS are missed by volumes of that file system alone; the kernel checks it.
	ofXFS = []tool{
		{"mkfs.xfs", "xfsprogs", "xfsprogs"},
		{"xfs_growfs", "xfsprogs", "xfsprogs"},
	}
)

func (n Node) tools() Result {
	tools := anyVolume
	if host.HasUnits(n.Root) {
		tools = slices.Concat(tools, bySystemd)
	}
	if lacks, remedy := n.lacking(tools); lacks != "" {
		return failure(remedy, "the host has no %s in %s", lacks, searchPath)
	}
	return ok("the host has all tools that the driver runs")
}

func (n Node) toolsOfXFS() Result {
	if lacks, remedy := n.lacking(ofXFS); lacks != "" {
		return warning(remedy, "the host has no %s in %s: volumes with ext4 work, those with xfs do not", lacks, searchPath)
	}
	return ok("the host has those that volumes with xfs need")
}

// lacking names the tools that the host does not have, and how to install them.
func (n Node) lacking(tools []tool) (names, remedy string) {
	var missing, debs, rpms []string
	for _, t := range tools {
		if n.finds(t.name) {
			continue
		}
		missing = append(missing, t.name)
		if !slices.Contains(debs, t.deb) {
			debs = append(debs, t.deb)
		}
		if !slices.Contains(rpms, t.rpm) {
			rpms = append(rpms, t.rpm)
		}
	}
	return strings.Join(missing, ", "), "apt-get install " + strings.Join(debs, " ") + " (dnf install " + strings.Join(rpms, " ") + ")"
}

// finds looks for a program as execvp(3) does.
func (n Node) finds(name string) bool {
	return slices.ContainsFunc(filepath.SplitList(searchPath), func(dir string) bool {
		info, err := os.Stat(n.path(filepath.Join(dir, name)))
		return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
	})
}
