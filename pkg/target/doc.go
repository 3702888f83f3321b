// Package target is an iSCSI target (RFC 7143): it serves block devices to the
// Linux initiator, libiscsi and qemu.
package target
