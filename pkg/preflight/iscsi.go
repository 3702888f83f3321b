package preflight

import (
	"errors"
	"io/fs"
	"regexp"
	"strings"
)

// kernel looks for the transport of iSCSI: loaded, built in, or to be loaded at
// the first login.
func (n Node) kernel() Result {
	if n.exists("/sys/module/iscsi_tcp") {
		return ok("iscsi_tcp is loaded")
	}
	release, err := n.read("/proc/sys/kernel/osrelease")
	if err != nil {
		return failure("look why /proc cannot be read", "the kernel's release cannot be read: %v", err)
	}
	release = strings.TrimSpace(release)
	for _, list := range []string{"modules.builtin", "modules.dep"} {
		if text, err := n.read("/lib/modules/" + release + "/" + list); err == nil && regexp.MustCompile(`(?m)/iscsi_tcp\.ko`).MatchString(text) {
			return ok("iscsi_tcp comes with kernel %s and is loaded at the first login", release)
		}
	}
	return failure("modprobe iscsi_tcp; where it is not found, install the kernel's package of more modules (apt-get install linux-modules-extra-"+release+"), or boot a kernel that has it",
		"kernel %s has no iscsi_tcp", release)
}

// socketOfDaemon is where iscsiadm reaches iscsid, which systemd may start then.
const socketOfDaemon = "@ISCSIADM_ABSTRACT_NAMESPACE"

func (n Node) daemon() Result {
	if pid := n.running("iscsid"); pid != "" {
		return ok("iscsid runs as process %s", pid)
	}
	if sockets, err := n.read("/proc/1/net/unix"); err == nil && strings.Contains(sockets, socketOfDaemon) {
		return ok("iscsid is started by its socket")
	}
	if !n.exists("/sbin/iscsid") && !n.exists("/usr/sbin/iscsid") {
		return failure("apt-get install open-iscsi (dnf install iscsi-initiator-utils), then systemctl enable --now iscsid",
			"open-iscsi is not installed")
	}
	return failure("systemctl enable --now iscsid", "iscsid does not run")
}

const (
	initiatorFile   = "/etc/iscsi/initiatorname.iscsi"
	remedyInitiator = `echo "InitiatorName=$(iscsi-iname)" >` + initiatorFile + "; systemctl restart iscsid"
)

// initiatorName is an iqn., eui. or naa. name (RFC 7143 section 4.2.7).
var initiatorName = regexp.MustCompile(`(?m)^\s*InitiatorName\s*=\s*(iqn\.\d{4}-\d{2}\.[^\s:]+(?::(\S*))?|(?:eui|naa)\.([0-9A-Fa-f]+))\s*$`)

// leastUnique is how long the part of a name must be that tells machines apart:
// iscsi-iname writes ten digits and more.
const leastUnique = 4

func (n Node) initiator() Result {
	text, err := n.read(initiatorFile)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return failure(remedyInitiator, "%s does not exist", initiatorFile)
		}
		return failure("make it readable", "%v", err)
	}
	names := initiatorName.FindAllStringSubmatch(text, -1)
	switch {
	case len(names) == 0 && strings.Contains(text, "GenerateName=yes"):
		return failure("systemctl restart iscsid, which writes it", "the name has not been generated yet")
	case len(names) == 0:
		return failure(remedyInitiator, "%s has no line InitiatorName=iqn....", initiatorFile)
	case len(names) > 1:
		return failure("leave one line InitiatorName=", "%s has %d names", initiatorFile, len(names))
	}
	own := names[0][2] + names[0][3]
	own = own[strings.LastIndex(own, ":")+1:]
	if len(own) < leastUnique {
		return warning(remedyInitiator+" (before volumes are attached)",
			"%s does not look like a name of this machine alone: other storage may take it for another machine", names[0][1])
	}
	return ok("%s", names[0][1])
}
