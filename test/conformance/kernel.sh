#!/bin/bash
# kernel.sh RAMTARGET: the Linux kernel's initiator against our target. Runs as root where
# that kernel is, such as in the guest:
#
#   CGO_ENABLED=0 go build -o bin/ramtarget ./test/targets/ramtarget
#   test/guest/guest.sh run -- test/conformance/kernel.sh bin/ramtarget
#
# It ends with status 0 when all of it is right, and no I/O error in the kernel's log.
set -euo pipefail
target=$1
iqn=iqn.2026-11.dev.swiftblock:ram
portal=127.0.0.1:26000
disks=/var/lib/csi-swiftblock # the guest has a disk there
[ -d $disks ] || disks=${TMPDIR:-/tmp}
dir=$(mktemp -d -p "$disks")
pid=

step() { echo "kernel.sh: $*"; }
die() { echo "kernel.sh: $*" >&2; dmesg | tail -n 20 >&2; exit 1; }

serve() {
	"$target" -addr $portal -iqn $iqn -size $((384 << 20)) -file "$dir/data" "$@" >"$dir/url" 2>"$dir/log" &
	pid=$!
	for _ in {1..50}; do [ ! -s "$dir/url" ] || return 0; sleep 0.1; done
	die "the target does not start: $(cat "$dir/log")"
}

admin() { iscsiadm -m node -T $iqn -p $portal "$@" >"$dir/iscsiadm" 2>&1; }
setting() { admin -o update -n "$1" -v "$2" || die "iscsiadm: $(cat "$dir/iscsiadm")"; }
chap() {
	setting node.session.auth.authmethod "$1"
	setting node.session.auth.username host
	setting node.session.auth.password "$2"
}

# login logs in and sets disk to the device.
login() {
	admin --login || die "login: $(cat "$dir/iscsiadm")"
	for _ in {1..50}; do
		disk=$(lsscsi -t | awk -v iqn=$iqn 'index($0, iqn) { print $NF }')
		case $disk in /dev/*) [ ! -b "$disk" ] || return 0 ;; esac
		sleep 0.1
	done
	die "no disk after login"
}

cleanup() {
	umount "$dir/mnt" 2>/dev/null || true
	admin --logout || true
	[ -z "$pid" ] || kill "$pid" || true
	[ -z "${iscsid:-}" ] || kill "$iscsid" || true
}
trap cleanup EXIT

pgrep -x iscsid >/dev/null || { iscsid -f >"$dir/iscsid" 2>&1 & iscsid=$!; sleep 1; }
dmesg -C 2>/dev/null || true
admin -o new || die "iscsiadm: $(cat "$dir/iscsiadm")"
setting node.session.timeo.replacement_timeout -1

step "CHAP: a wrong secret is refused, the right one is not"
serve -chap-user host -chap-secret "the right secret"
chap CHAP "the wrong secret"
! admin --login || die "logged in with a wrong secret"
chap CHAP "the right secret"
login

step "discovery finds the target"
iscsiadm -m discovery -t sendtargets -o nonpersistent -p $portal >"$dir/found"
grep -q "$iqn" "$dir/found" || die "not found: $(cat "$dir/found")"

step "identity: $disk"
[ "$(lsblk -dno SERIAL "$disk" 2>/dev/null || true)" = 0123456789abcdef0123456789abcdef ] ||
	sg_inq -p 0x80 "$disk" | grep -q 0123456789abcdef0123456789abcdef || die "serial number is not the volume's"
name=${disk#/dev/}
sys=/sys/block/$name
[ "$(cat "$sys/queue/logical_block_size" "$sys/queue/physical_block_size" | xargs)" = "512 4096" ] || die "block sizes"
[ "$(cat "$sys/queue/discard_max_bytes")" -gt 0 ] || die "no discard"
grep -q "write back" "$sys"/device/scsi_disk/*/cache_type || die "write cache is not known"
[ "$(cat "$sys"/device/scsi_disk/*/thin_provisioning)" = 1 ] || die "not thin"
sg_opcodes "$disk" >/dev/null || die "REPORT SUPPORTED OPERATION CODES"
echo -1 >"$(echo "$sys"/device/scsi_disk/*/max_retries)" 2>/dev/null || true

for fs in ext4 xfs; do
	step "$fs: made, written, read back, trimmed"
	wipefs -qa "$disk"
	case $fs in ext4) mkfs.ext4 -q "$disk" ;; xfs) modprobe xfs 2>/dev/null || true; mkfs.xfs -q -f "$disk" ;; esac
	mkdir -p "$dir/mnt"
	mount -t $fs "$disk" "$dir/mnt" || { step "$fs: this kernel cannot mount it"; continue; }
	head -c 40M /dev/urandom >"$dir/file"
	cp "$dir/file" "$dir/mnt/file"
	sync -f "$dir/mnt/file"
	umount "$dir/mnt"
	blockdev --flushbufs "$disk"
	mount -t $fs "$disk" "$dir/mnt"
	cmp "$dir/file" "$dir/mnt/file" || die "$fs: read back something else"
	rm "$dir/mnt/file"
	fstrim "$dir/mnt" || die "fstrim"
	umount "$dir/mnt"
done

step "discarded blocks read as zeros"
dd if=/dev/urandom of="$disk" bs=1M count=8 oflag=direct status=none
blkdiscard -o 0 -l $((8 << 20)) "$disk"
cmp -n $((8 << 20)) "$disk" /dev/zero || die "discarded blocks hold data"
blkdiscard -z -o 0 -l $((8 << 20)) "$disk" || die "write zeroes"

step "header and data digests"
admin --logout || die "logout: $(cat "$dir/iscsiadm")"
setting 'node.conn[0].iscsi.HeaderDigest' CRC32C
setting 'node.conn[0].iscsi.DataDigest' CRC32C
login
iscsiadm -m session -P 2 | grep -q "DataDigest: CRC32C" || die "no digests: $(iscsiadm -m session -P 2)"
head -c 8M /dev/urandom >"$dir/file"
dd if="$dir/file" of="$disk" bs=1M oflag=direct status=none
blockdev --flushbufs "$disk"
cmp -n $((8 << 20)) "$disk" "$dir/file" || die "read back something else"

step "the target is killed under I/O and comes back"
mkfs.ext4 -q -F "$disk"
mount "$disk" "$dir/mnt"
(head -c 60M /dev/urandom >"$dir/file" && cp "$dir/file" "$dir/mnt/file" && sync -f "$dir/mnt/file") & writer=$!
sleep 0.5
kill -KILL $pid
wait $pid 2>/dev/null || true
sleep 3
serve -chap-user host -chap-secret "the right secret"
wait $writer || die "an fsync failed across the restart"
umount "$dir/mnt"
blockdev --flushbufs "$disk"
e2fsck -fn "$disk" >"$dir/fsck" 2>&1 || die "e2fsck: $(cat "$dir/fsck")"
mount "$disk" "$dir/mnt"
cmp "$dir/file" "$dir/mnt/file" || die "data lost across the restart"

step "resize, noticed at the rescan"
before=$(blockdev --getsize64 "$disk")
kill -HUP $pid
sleep 0.5
iscsiadm -m node -T $iqn -p $portal --rescan >/dev/null
after=$(blockdev --getsize64 "$disk")
[ "$after" = $((before + before / 2)) ] || die "$before bytes before, $after after"
resize2fs "$disk" >/dev/null 2>&1 || die "resize2fs"
umount "$dir/mnt"

step "logout"
admin --logout || die "logout: $(cat "$dir/iscsiadm")"
if dmesg | grep -iE "i/o error|critical|sense key"; then die "the kernel's log shows errors"; fi
step "all is right"
