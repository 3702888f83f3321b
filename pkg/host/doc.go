// Package host is everything the node process does to the machine it runs on:
// it logs the kernel's iSCSI initiator in and out ([Initiator]), makes, checks
// and grows file systems ([Filesystems]), and mounts ([Mounts]).
//
// Three rules hold throughout.
//
//   - The host's own tools are run, never copies of them: iscsiadm must match
//     the host's iscsid. A [Runner] says how a tool is reached, directly or with
//     a prefix such as "nsenter --target 1 --mount --".
//   - No shell, and nothing unchecked on a command line: portals, IQNs, mount
//     options and file system types are validated here, whoever calls; secrets
//     never become arguments.
//   - What exists is read from the kernel (/sys, mountinfo), not from the output
//     of a tool, and a device is known by its serial number, never by its name
//     or by the order in which it appeared.
//
// Every operation is idempotent: work found done is not done again.
package host
