package preflight

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/swiftblock/csi-swiftblock/pkg/swift"
)

// files of a host, by path; a value that begins with "->" is a symbolic link.
type files map[string]string

// healthy is a host on which every check is content.
var healthy = files{
	"/sys/module/iscsi_tcp/refcnt":             "1",
	"/proc/sys/kernel/osrelease":               "6.1.0-1-amd64\n",
	"/proc/41/comm":                            "iscsid\n",
	"/etc/iscsi/initiatorname.iscsi":           "## comment\nInitiatorName=iqn.1993-08.org.debian:01:5a2fa1c2b3d4\n",
	"/var/lib/csi-swiftblock/export/x":         "",
	"/var/lib/kubelet/config.yaml":             "shutdownGracePeriod: 2m\nshutdownGracePeriodCriticalPods: 60s\n",
	"/proc/sys/net/ipv4/ip_local_port_range":   "32768\t60999\n",
	"/proc/1/net/tcp":                          "  sl  local_address rem_address   st\n",
	"/lib/modules/6.1.0-1-amd64/modules.dep":   "kernel/drivers/scsi/sd_mod.ko:\n",
	"/lib/modules/6.1.0-1-amd64/modules.order": "",
	"/usr/sbin/iscsiadm":                       "x",
	"/usr/bin/mount":                           "x",
	"/usr/bin/umount":                          "x",
	"/usr/bin/sync":                            "x",
	"/usr/sbin/blkid":                          "x",
	"/usr/sbin/blockdev":                       "x",
	"/usr/sbin/blkdiscard":                     "x",
	"/usr/sbin/mke2fs":                         "x",
	"/usr/sbin/mkfs.ext4":                      "->mke2fs",
	"/usr/sbin/fsck.ext4":                      "x",
	"/usr/sbin/resize2fs":                      "x",
	"/usr/sbin/mkfs.xfs":                       "x",
	"/usr/sbin/xfs_growfs":                     "x",
}

// listening is the line of a socket that listens on port 13260 (33CCh), inode 777.
const listening = "   0: 0100007F:33CC 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 777 1 0 100 0 0 10 0\n"

const gib = 1 << 30

func ext4(dir string) (Disk, error) {
	return Disk{Type: unix.EXT4_SUPER_MAGIC, Size: 100 * gib, Avail: 50 * gib}, nil
}

// hostOf makes a host of healthy files with changes; an empty path is removed. What is
// in a bin or sbin can be executed.
func hostOf(t *testing.T, changes files) Node {
	t.Helper()
	root := t.TempDir()
	all := files{}
	for path, text := range healthy {
		all[path] = text
	}
	for path, text := range changes {
		if text == "" {
			delete(all, path)
			continue
		}
		all[path] = text
	}
	for path, text := range all {
		full := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if to, link := strings.CutPrefix(text, "->"); link {
			err = os.Symlink(to, full)
		} else {
			mode := os.FileMode(0o644)
			if strings.HasSuffix(filepath.Dir(full), "bin") {
				mode = 0o755
			}
			err = os.WriteFile(full, []byte(text), mode)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return Node{
		Root: root, StateDir: "/var/lib/csi-swiftblock", KubeletDir: "/var/lib/kubelet",
		Portal: "127.0.0.1:13260", Network: ":13261", Disk: ext4,
	}
}

func TestHealthy(t *testing.T) {
	results := hostOf(t, nil).Check()
	if len(results) != 10 || Failed(results) {
		t.Errorf("%d results: %+v", len(results), results)
	}
	for _, r := range results {
		if r.Verdict != OK || r.Remedy != "" || r.Found == "" {
			t.Errorf("%+v", r)
		}
	}
}

// Each defect alone changes the verdict of its check, and of no other.
func TestDefects(t *testing.T) {
	conf := func(lines ...string) files {
		return files{"/proc/50/comm": "multipathd\n", "/etc/multipath.conf": strings.Join(lines, "\n")}
	}
	disk := func(d Disk, err error) func(*Node) {
		return func(n *Node) { n.Disk = func(string) (Disk, error) { return d, err } }
	}
	for _, c := range []struct {
		name    string
		changes files
		node    func(*Node)
		check   string
		want    Verdict
		says    string // in what was found
		remedy  string // in the remedy
	}{
		{"module not loaded", files{"/sys/module/iscsi_tcp/refcnt": "", "/lib/modules/6.1.0-1-amd64/modules.dep": "kernel/drivers/scsi/iscsi_tcp.ko.xz: kernel/x.ko\n"}, nil, "kernel module", OK, "first login", ""},
		{"module built in", files{"/sys/module/iscsi_tcp/refcnt": "", "/lib/modules/6.1.0-1-amd64/modules.builtin": "kernel/drivers/scsi/iscsi_tcp.ko\n"}, nil, "kernel module", OK, "first login", ""},
		{"no module", files{"/sys/module/iscsi_tcp/refcnt": ""}, nil, "kernel module", Failure, "has no iscsi_tcp", "modprobe iscsi_tcp"},
		{"no release", files{"/sys/module/iscsi_tcp/refcnt": "", "/proc/sys/kernel/osrelease": ""}, nil, "kernel module", Failure, "release", "/proc"},

		{"iscsid by its socket", files{"/proc/41/comm": "", "/proc/1/net/unix": "0: 2 0 10000 1 1 9 @ISCSIADM_ABSTRACT_NAMESPACE\n"}, nil, "iscsid", OK, "socket", ""},
		{"iscsid stopped", files{"/proc/41/comm": "", "/usr/sbin/iscsid": "x"}, nil, "iscsid", Failure, "does not run", "systemctl enable --now iscsid"},
		{"no open-iscsi", files{"/proc/41/comm": ""}, nil, "iscsid", Failure, "not installed", "apt-get install open-iscsi"},

		{"no initiator name", files{initiatorFile: ""}, nil, "initiator name", Failure, "does not exist", "iscsi-iname"},
		{"initiator name not generated", files{initiatorFile: "GenerateName=yes\n"}, nil, "initiator name", Failure, "not been generated", "restart iscsid"},
		{"initiator name malformed", files{initiatorFile: "InitiatorName=node1\n"}, nil, "initiator name", Failure, "no line", "iscsi-iname"},
		{"initiator name in a comment", files{initiatorFile: "#InitiatorName=iqn.1993-08.org.debian:01:5a2fa1c2b3d4\n"}, nil, "initiator name", Failure, "no line", "iscsi-iname"},
		{"two initiator names", files{initiatorFile: "InitiatorName=iqn.2020-01.a:aaaa\nInitiatorName=iqn.2020-01.a:bbbb\n"}, nil, "initiator name", Failure, "2 names", "one line"},
		{"initiator name of everybody", files{initiatorFile: "InitiatorName=iqn.1993-08.org.debian:01:\n"}, nil, "initiator name", Warning, "this machine alone", "iscsi-iname"},
		{"initiator name eui", files{initiatorFile: "InitiatorName=eui.02004567A425678D\n"}, nil, "initiator name", OK, "eui.", ""},

		{"no open-iscsi's client", files{"/usr/sbin/iscsiadm": ""}, nil, "tools", Failure, "no iscsiadm in /usr/local/sbin:", "apt-get install open-iscsi (dnf install iscsi-initiator-utils)"},
		{"no e2fsprogs", files{"/usr/sbin/mkfs.ext4": "", "/usr/sbin/fsck.ext4": "", "/usr/sbin/resize2fs": ""}, nil, "tools", Failure, "no mkfs.ext4, fsck.ext4, resize2fs in", "apt-get install e2fsprogs (dnf install e2fsprogs)"},
		{"no mount", files{"/usr/bin/mount": ""}, nil, "tools", Failure, "no mount in", "apt-get install mount (dnf install util-linux)"},
		{"no umount", files{"/usr/bin/umount": ""}, nil, "tools", Failure, "no umount in", "apt-get install mount (dnf install util-linux)"},
		{"no util-linux", files{"/usr/sbin/blkid": "", "/usr/sbin/blockdev": "", "/usr/sbin/blkdiscard": ""}, nil, "tools", Failure, "no blkid, blockdev, blkdiscard in", "apt-get install util-linux (dnf install util-linux)"},
		{"no coreutils", files{"/usr/bin/sync": ""}, nil, "tools", Failure, "no sync in", "apt-get install coreutils (dnf install coreutils)"},
		{"systemd without its tools", files{"/run/systemd/system/x": "x", "/run/dbus/system_bus_socket": "x", "/usr/bin/systemctl": "x"}, nil, "tools", Failure, "no systemd-run in", "apt-get install systemd"},
		{"systemd", files{"/run/systemd/system/x": "x", "/run/dbus/system_bus_socket": "x", "/usr/bin/systemctl": "x", "/bin/systemd-run": "x"}, nil, "tools", OK, "all tools", ""},
		{"a tool that cannot be executed", files{"/usr/bin/mount": "->../../etc/mount", "/etc/mount": "x"}, nil, "tools", Failure, "no mount in", "apt-get install mount"},
		{"a directory with a tool's name", files{"/usr/bin/mount": "", "/usr/bin/mount/x": "x"}, nil, "tools", Failure, "no mount in", "apt-get install mount"},
		{"a tool elsewhere", files{"/usr/bin/mount": "", "/usr/local/sbin/mount": "x"}, nil, "tools", OK, "all tools", ""},
		{"a tool by an absolute link", files{"/usr/bin/mount": "->/opt/bin/csi-swiftblock-busybox", "/opt/bin/csi-swiftblock-busybox": "x"}, nil, "tools", OK, "all tools", ""},
		{"tools by an absolute link to their directory", files{"/usr/bin/mount": "", "/usr/bin/umount": "", "/bin": "->/opt/csi-swiftblock/bin", "/opt/csi-swiftblock/bin/mount": "x", "/opt/csi-swiftblock/bin/umount": "x"}, nil, "tools", OK, "all tools", ""},
		{"a tool that only we have", files{"/usr/bin/mount": "->/bin/sh"}, nil, "tools", Failure, "no mount in", "apt-get install mount"},
		{"links without end", files{"/usr/bin/mount": "->/usr/sbin/mount", "/usr/sbin/mount": "->/usr/bin/mount"}, nil, "tools", Failure, "no mount in", "apt-get install mount"},
		{"no xfsprogs", files{"/usr/sbin/mkfs.xfs": "", "/usr/sbin/xfs_growfs": ""}, nil, "tools for xfs", Warning, "no mkfs.xfs, xfs_growfs in", "apt-get install xfsprogs (dnf install xfsprogs)"},

		{"multipath greedy", conf("defaults {", "find_multipaths greedy", "}"), nil, "multipath", Failure, "will take", `vendor "SWIFTBLK"`},
		{"multipath strict", conf("defaults {", `find_multipaths "strict"`, "}"), nil, "multipath", Warning, "only because", `vendor "SWIFTBLK"`},
		{"multipath by default", conf("defaults {", "user_friendly_names yes", "}"), nil, "multipath", Warning, "defaults", `vendor "SWIFTBLK"`},
		{"multipath without a file", files{"/proc/50/comm": "multipathd\n"}, nil, "multipath", Warning, "cannot be read", `vendor "SWIFTBLK"`},
		{"multipath with a stanza", conf("defaults {", "find_multipaths no", "}", "blacklist {", "\tdevice {", "\t\tvendor \"SWIFTBLK\" # ours", "product \".*\"", "}", "}"), nil, "multipath", OK, "alone", ""},
		{"multipath with a stanza on a line", conf("defaults {", "find_multipaths no", "}", `blacklist { device { vendor "SWIFTBLK" product ".*" } }`), nil, "multipath", Failure, "will take", `vendor "SWIFTBLK"`},
		{"multipath after a stanza on a line", conf(`blacklist { device { vendor "SWIFTBLK" } }`, "defaults {", "find_multipaths no", "}"), nil, "multipath", Warning, "defaults", `vendor "SWIFTBLK"`},
		{"multipath of another vendor", conf("defaults {", "find_multipaths no#}", "}", "blacklist {", "device {", `vendor "EMC"`, "}", "}"), nil, "multipath", Failure, "will take", `vendor "SWIFTBLK"`},
		{"multipath stanza in a comment", conf("defaults {", "find_multipaths no", "}", "#blacklist {", "!device {", `vendor "SWIFTBLK"`, "#}", "#}"), nil, "multipath", Failure, "will take", `vendor "SWIFTBLK"`},
		{"multipath blacklists all", conf("blacklist {", `devnode ".*"`, "}"), nil, "multipath", OK, "alone", ""},
		{"multipath only takes another vendor", conf("blacklist {", "device {", `vendor "!^NETAPP"`, "}", "}"), nil, "multipath", OK, "alone", ""},
		{"multipath by protocol", conf("blacklist {", `protocol "scsi:iscsi"`, "}"), nil, "multipath", OK, "alone", ""},
		{"multipath exception", conf("blacklist {", `devnode ".*"`, "}", "blacklist_exceptions {", "device {", `vendor "SWIFT.*"`, "}", "}"), nil, "multipath", Failure, "exceptions", "blacklist_exceptions"},
		{"multipath stanza elsewhere", files{"/proc/50/comm": "multipathd\n", "/etc/multipath.conf": "defaults {\nfind_multipaths off\n}", "/etc/multipath/conf.d/swiftblock.conf": "blacklist {\ndevice {\nvendor SWIFTBLK\n}\n}\n"}, nil, "multipath", OK, "alone", ""},

		{"state on tmpfs", nil, disk(Disk{Type: unix.TMPFS_MAGIC, Avail: 50 * gib}, nil), "state directory", Failure, "tmpfs", "mount a disk"},
		{"state on overlay", nil, disk(Disk{Type: unix.OVERLAYFS_SUPER_MAGIC, Avail: 50 * gib}, nil), "state directory", Failure, "overlay", "mount a disk"},
		{"state without O_DIRECT", nil, disk(Disk{Type: unix.EXT4_SUPER_MAGIC, Avail: 50 * gib, Direct: unix.EINVAL}, nil), "state directory", Failure, "page cache", "O_DIRECT"},
		{"state that is full", nil, disk(Disk{Type: unix.EXT4_SUPER_MAGIC, Avail: 100 << 20}, nil), "state directory", Failure, "100 MiB free", "make room"},
		{"state with room for no journal", nil, disk(Disk{Type: unix.EXT4_SUPER_MAGIC, Avail: 4 * gib}, nil), "state directory", Warning, "4.0 GiB free", "6.0 GiB more"},
		{"state with room for a small journal", nil, func(n *Node) { n.JournalSize = gib; disk(Disk{Type: unix.EXT4_SUPER_MAGIC, Avail: 4 * gib}, nil)(n) }, "state directory", OK, "room for 4 journals", ""},
		{"state not to be written", nil, disk(Disk{}, unix.EROFS), "state directory", Failure, "read-only", "right to write"},
		{"state is a file", files{"/var/lib/csi-swiftblock/export/x": "", "/var/lib/csi-swiftblock": "x"}, nil, "state directory", Failure, "not a directory", "move it"},
		{"state by an absolute link", files{"/var/lib/csi-swiftblock/export/x": "", "/var/lib/csi-swiftblock": "->/data/state", "/data/state": "x"}, nil, "state directory", Failure, "not a directory", "move it"},
		{"state to be made", files{"/var/lib/csi-swiftblock/export/x": ""}, nil, "state directory", OK, "room for 5 journals", ""},

		{"no graceful shutdown", files{"/var/lib/kubelet/config.yaml": "shutdownGracePeriod: 0s\n"}, nil, "graceful node shutdown", Warning, "does not end pods", "shutdownGracePeriod: 120s"},
		{"graceful shutdown without critical pods", files{"/var/lib/kubelet/config.yaml": "shutdownGracePeriod: 60s\n"}, nil, "graceful node shutdown", Warning, "CriticalPods is not set", "shutdownGracePeriodCriticalPods: 60s"},
		{"graceful shutdown by priority", files{"/var/lib/kubelet/config.yaml": "shutdownGracePeriodByPodPriority: [{priority: 0, shutdownGracePeriodSeconds: 60}]\n"}, nil, "graceful node shutdown", OK, "priority", ""},
		{"no systemd", nil, func(n *Node) { n.Running = true }, "host unit", Warning, "no systemd", "drain"},
		{"no host unit", files{"/run/systemd/system/x": "x"}, func(n *Node) { n.Running = true }, "host unit", Warning, "csi-swiftblock-host.service", "container node"},
		{"host unit", files{"/run/systemd/system/csi-swiftblock-host.service": "x"}, func(n *Node) { n.Running = true }, "host unit", OK, "before a reboot", ""},
		{"no kubelet configuration", files{"/var/lib/kubelet/config.yaml": ""}, nil, "graceful node shutdown", Warning, "not known", "--kubelet-config"},
		{"kubelet configuration elsewhere", files{"/var/lib/kubelet/config.yaml": "", "/etc/k.yaml": healthy["/var/lib/kubelet/config.yaml"]}, func(n *Node) { n.KubeletConfig = "/etc/k.yaml" }, "graceful node shutdown", OK, "2m0s", ""},
		{"kubelet by an absolute link", files{"/var/lib/kubelet/config.yaml": "", "/var/lib/kubelet": "->/data/kubelet", "/data/kubelet/config.yaml": healthy["/var/lib/kubelet/config.yaml"]}, nil, "graceful node shutdown", OK, "2m0s", ""},
		{"kubelet configuration malformed", files{"/var/lib/kubelet/config.yaml": "shutdownGracePeriod: [soon]\n"}, nil, "graceful node shutdown", Warning, "cannot be read", "mend"},

		{"portal is ours", files{"/proc/1/net/tcp": listening, "/proc/66/comm": "csi-swiftblock\n", "/proc/66/fd/5": "->socket:[777]"}, nil, "portal", OK, "ours", ""},
		{"portal is taken", files{"/proc/1/net/tcp": listening, "/proc/66/comm": "tgtd\n", "/proc/66/fd/5": "->socket:[777]"}, nil, "portal", Failure, "tgtd (process 66)", "another port"},
		{"portal is taken over IPv6", files{"/proc/1/net/tcp6": listening, "/proc/66/comm": "tgtd\n", "/proc/66/fd/5": "->socket:[777]"}, nil, "portal", Failure, "tgtd (process 66)", "another port"},
		{"portal is taken by a stranger", files{"/proc/1/net/tcp": listening}, nil, "portal", Failure, "cannot see", "another port"},
		{"portal only connected", files{"/proc/1/net/tcp": strings.Replace(listening, " 0A ", " 01 ", 1)}, nil, "portal", OK, "free", ""},
		{"portal is ephemeral", files{"/proc/sys/net/ipv4/ip_local_port_range": "13260 13260\n"}, nil, "portal", Warning, "outgoing", "ip_local_reserved_ports"},
		{"portal is no address", nil, func(n *Node) { n.Portal = "here" }, "portal", Failure, "not an address", "HOST:PORT"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := hostOf(t, c.changes)
			if c.node != nil {
				c.node(&n)
			}
			results := n.Check()
			seen := false
			for _, r := range results {
				if r.Check != c.check {
					if r.Verdict != OK {
						t.Errorf("another check is not content: %+v", r)
					}
					continue
				}
				seen = true
				if r.Verdict != c.want || !strings.Contains(r.Found, c.says) || !strings.Contains(r.Remedy, c.remedy) {
					t.Errorf("%+v; want %s, that says %q, with remedy %q", r, c.want, c.says, c.remedy)
				}
				if (r.Verdict == OK) != (r.Remedy == "") {
					t.Errorf("verdict and remedy do not fit: %+v", r)
				}
			}
			if !seen {
				t.Errorf("no check %q", c.check)
			}
			if Failed(results) != (c.want == Failure) {
				t.Errorf("Failed is %t", Failed(results))
			}
		})
	}
}

// What we tell to write is what multipathd, and so the check, takes for a stanza.
func TestMultipathRemedies(t *testing.T) {
	command, _, _ := strings.Cut(remedyMultipath, " >>")
	stanza, err := exec.Command("sh", "-c", command).Output()
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/install.md")
	if err != nil {
		t.Fatal(err)
	}
	_, documented, _ := strings.Cut(string(page), "  blacklist {\n")
	documented, _, _ = strings.Cut("blacklist {\n"+documented, "  ```")
	// Also behind a last line that has no end.
	if file := "defaults {\n}" + string(stanza); !parseMultipath(file).blacklisted {
		t.Errorf("%q leaves no device alone", file)
	}
	if strings.Join(strings.Fields(string(stanza)), " ") != strings.Join(strings.Fields(documented), " ") {
		t.Errorf("preflight says %q, docs/install.md %q", stanza, documented)
	}
}

func TestUsed(t *testing.T) {
	if n := hostOf(t, nil); !n.Used() {
		t.Error("a node with a volume is not used")
	}
	if n := hostOf(t, files{"/var/lib/csi-swiftblock/export/x": ""}); n.Used() {
		t.Error("a node without a volume is used")
	}
	if n := hostOf(t, files{"/var/lib/csi-swiftblock/export/x": "", "/var/lib/csi-swiftblock/export/.ballast": "x"}); n.Used() || !n.Begun() {
		t.Error("a node whose export has run, but has no volume, is used, or export has not run")
	}
	if n := hostOf(t, files{"/var/lib/csi-swiftblock/export/x": "", "/var/lib/csi-swiftblock": "->/data", "/data/export/x": "x"}); !n.Used() {
		t.Error("a node with a volume is not used: its state directory is a link")
	}
}

// Each tool that package host runs is looked for.
func TestAllTools(t *testing.T) {
	sources, err := filepath.Glob("../host/*.go")
	if err != nil {
		t.Fatal(err)
	}
	run := regexp.MustCompile(`\.Run\(ctx, "([^"-][^"]*)"`)
	found := map[string]bool{}
	for _, source := range sources {
		if strings.HasSuffix(source, "_test.go") {
			continue
		}
		text, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range run.FindAllStringSubmatch(string(text), -1) {
			found[call[1]] = true
		}
	}
	looked := map[string]bool{}
	for _, tool := range slices.Concat(anyVolume, bySystemd, ofXFS) {
		looked[tool.name] = true
	}
	if !maps.Equal(found, looked) {
		t.Errorf("package host runs %v, looked for are %v", found, looked)
	}
}

// The real file system, for what the fake cannot show: nothing is left behind.
func TestRealDisk(t *testing.T) {
	dir := t.TempDir()
	disk, err := realDisk(dir)
	if err != nil || disk.Type == 0 || disk.Size < disk.Avail || disk.Avail <= 0 {
		t.Errorf("%+v, %v", disk, err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := realDisk(filepath.Join(dir, "missing")); err == nil {
		t.Error("a missing directory is a disk")
	}
}

// answer is an account that gives one answer.
type answer struct {
	account swift.Account
	err     error
}

func (a answer) Account(context.Context) (swift.Account, error) { return a.account, a.err }

func TestStore(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 6e8, time.UTC)
	date := now.Truncate(time.Second)
	for _, c := range []struct {
		name         string
		answer       answer
		store, clock Verdict
		says, remedy string
	}{
		{"all is well", answer{account: swift.Account{Used: 5, Date: date}}, OK, OK, "5 bytes", ""},
		{"quota", answer{account: swift.Account{Used: 5, Quota: 9, Date: date}}, OK, OK, "room for 4", ""},
		{"full", answer{account: swift.Account{Used: 9, Quota: 9, Date: date}}, Failure, OK, "full", "quota"},
		{"refused", answer{err: fmt.Errorf("log in: %w", swift.ErrUnauthorized)}, Failure, Warning, "refused", "credentials"},
		{"away", answer{err: fmt.Errorf("log in: %w", swift.ErrUnavailable)}, Failure, Warning, "unavailable", "network"},
		{"no answer", answer{err: context.DeadlineExceeded}, Failure, Warning, "deadline", "network"},
		{"elsewhere", answer{err: fmt.Errorf("log in: %w", swift.ErrRejected)}, Failure, Warning, "rejected", "address"},
		{"something else", answer{err: errors.New("odd")}, Failure, Warning, "odd", "proxy"},
		{"no date", answer{}, OK, Warning, "no date", "by hand"},
		{"a little behind", answer{account: swift.Account{Date: date.Add(4 * time.Second)}}, OK, OK, "agrees", ""},
		{"behind", answer{account: swift.Account{Date: date.Add(10 * time.Second)}}, OK, Warning, "9s behind", "NTP"},
		{"ahead", answer{account: swift.Account{Date: date.Add(-10 * time.Second)}}, OK, Warning, "10s ahead of", "NTP"},
		{"far ahead", answer{account: swift.Account{Date: date.Add(-time.Hour)}}, OK, Failure, "ahead of", "NTP"},
		{"far behind", answer{account: swift.Account{Date: date.Add(time.Hour)}}, OK, Failure, "behind", "NTP"},
	} {
		t.Run(c.name, func(t *testing.T) {
			results := CheckStore(t.Context(), c.answer, func() time.Time { return now })
			if len(results) != 2 || results[0].Verdict != c.store || results[1].Verdict != c.clock {
				t.Fatalf("%+v; want %s and %s", results, c.store, c.clock)
			}
			text := fmt.Sprint(results)
			if !strings.Contains(text, c.says) || !strings.Contains(text, c.remedy) {
				t.Errorf("%s; want %q with %q", text, c.says, c.remedy)
			}
		})
	}
}
