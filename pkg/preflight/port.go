package preflight

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ourProcess is how the kernel names our processes.
const ourProcess = "csi-swiftblock"

// port looks whether an address is free, or ours already, and whether the kernel
// may give its port away to a connection.
func (n Node) port(address string) Result {
	_, text, err := net.SplitHostPort(address)
	number, bad := strconv.ParseUint(text, 10, 16)
	if err != nil || bad != nil || number == 0 {
		return failure("give HOST:PORT", "%q is not an address", address)
	}
	for _, table := range []string{"/proc/1/net/tcp", "/proc/1/net/tcp6"} {
		inode := n.listener(table, number)
		if inode == "" {
			continue
		}
		pid, name := n.holder(inode)
		if name == ourProcess {
			return ok("port %d is ours: process %s listens", number, pid)
		}
		who := "somebody listens whom we cannot see"
		if pid != "" {
			who = fmt.Sprintf("%s (process %s) listens", name, pid)
		}
		return failure("end what listens, or choose another port (node.portal and node.port of the chart)", "port %d is taken: %s", number, who)
	}
	if text, err := n.read("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		var low, high uint64
		if _, err := fmt.Sscan(text, &low, &high); err == nil && number >= low && number <= high {
			return warning(fmt.Sprintf("sysctl net.ipv4.ip_local_reserved_ports=%d, or choose a port below %d", number, low),
				"port %d is among those that the kernel gives to outgoing connections (%d to %d): one of them may have it when we start", number, low, high)
		}
	}
	return ok("port %d is free", number)
}

// The columns of /proc/net/tcp.
const (
	columnLocal = 1
	columnState = 3
	columnInode = 9
	stateListen = "0A"
)

// listener returns the inode of the socket that listens on a port, or "".
func (n Node) listener(table string, port uint64) string {
	text, err := n.read(table)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(text) {
		columns := strings.Fields(line)
		if len(columns) <= columnInode || columns[columnState] != stateListen {
			continue
		}
		_, digits, _ := strings.Cut(columns[columnLocal], ":")
		if local, err := strconv.ParseUint(digits, 16, 16); err == nil && local == port {
			return columns[columnInode]
		}
	}
	return ""
}

// holder returns id and name of the process that has a socket open, or nothing.
func (n Node) holder(inode string) (pid, name string) {
	links, _ := filepath.Glob(n.path("/proc/[0-9]*/fd/*"))
	for _, link := range links {
		if to, err := os.Readlink(link); err != nil || to != "socket:["+inode+"]" {
			continue
		}
		process := filepath.Dir(filepath.Dir(link))
		comm, _ := os.ReadFile(filepath.Join(process, "comm"))
		return filepath.Base(process), strings.TrimSpace(string(comm))
	}
	return "", ""
}
