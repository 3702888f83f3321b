#!/bin/bash
# kernel.sh RAMTARGET [AWAY]: the Linux kernel's initiator against our target. Runs as
# root where that kernel is, such as in the guest:
#
#   CGO_ENABLED=0 go build -o bin/ramtarget ./test/targets/ramtarget
#   test/guest/guest.sh run -- test/conformance/kernel.sh bin/ramtarget
#
# AWAY is for how many seconds the target stays away under I/O (45: longer than every
# time-out but those that must not be). It ends with status 0 when all of it is right,
# and no I/O error in the kernel's log. Limits of time bound what hangs, not how slow a machine is.
set -euo pipefail
target=$1
away=${2:-45}
iqn=iqn.2026-11.dev.swiftblock:ram
portal=127.0.0.1:26000
disks=/var/lib/csi-swiftblock # the guest has a disk there
[ -d $disks ] || disks=${TMPDIR:-/tmp}
dir=$(mktemp -d -p "$disks")
pid=

step() { echo "kernel.sh: $*"; }
die() { echo "kernel.sh: $*" >&2; dmesg | tail -n 20 >&2; exit 1; }

serve() {
	rm -f "$dir/url"
	"$target" -addr $portal -iqn $iqn -size $((384 << 20)) -file "$dir/data" "$@" >"$dir/url" 2>"$dir/log" &
	pid=$!
	for _ in {1..600}; do
		[ ! -s "$dir/url" ] || return 0
		kill -0 $pid 2>/dev/null || break
		sleep 0.1
	done
	die "the target does not start: $(cat "$dir/log")"
}

# stop ends the target.
stop() {
	kill "${1:--TERM}" $pid
	wait $pid 2>/dev/null || true
	pid=
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
	for _ in {1..600}; do
		disk=$(lsscsi -t | awk -v iqn=$iqn 'index($0, iqn) { print $NF }')
		case $disk in /dev/*) [ ! -b "$disk" ] || return 0 ;; esac
		sleep 0.1
	done
	die "no disk after login"
}

# logout logs out once udev has read what it wants: a read of a disk that goes is an I/O
# error.
logout() {
	udevadm settle || true
	admin --logout || die "logout: $(cat "$dir/iscsiadm")"
}

# patient sets the time-outs that let the kernel wait for its target (docs/design.md 11).
patient() {
	local sys=/sys/block/${disk#/dev/}/device
	echo 86400 >"$sys/timeout"
	echo -1 >"$(echo "$sys"/scsi_disk/*/max_retries)" 2>/dev/null || true # Linux 5.10
}

# tools asks the disk with sg3-utils; each tool checks the answer.
tools() {
	local command out
	out=$dir/tool
	for command in "sg_turs" "sg_readcap -l" "sg_inq" "sg_vpd -p bl" "sg_vpd -p lbpv" "sg_vpd -p bdc" "sg_vpd -p di" \
		"sg_luns" "sg_opcodes" "sg_opcodes -t" "sg_modes -a" "sg_requests" "sg_sync" "sg_verify -l 0 -c 8" \
		"sg_start -s" "sg_prevent -a" "sg_persist -k" "sg_persist -c" "sg_persist -s" "sg_get_lba_status -l 0"; do
		$command "$disk" >"$out" 2>&1 || die "$command: $(cat "$out")"
	done
	dd if=/dev/urandom of="$disk" bs=64K count=1 oflag=direct status=none
	sg_unmap -f -l 0 -n 64 "$disk" >"$out" 2>&1 || die "sg_unmap: $(cat "$out")"
	cmp -n 32768 "$disk" /dev/zero || die "unmapped blocks hold data"
	sg_get_lba_status -l 0 "$disk" | grep -i "deallocated" >/dev/null || die "GET LBA STATUS: $(sg_get_lba_status -l 0 "$disk")"
	head -c 512 "$disk" >"$dir/block"
	head -c 512 /dev/urandom >"$dir/other"
	cat "$dir/block" "$dir/other" >"$dir/both"
	sg_compare_and_write -l 0 -n 1 -i "$dir/both" -x 1024 "$disk" >"$out" 2>&1 || die "COMPARE AND WRITE: $(cat "$out")"
	! sg_compare_and_write -l 0 -n 1 -i "$dir/both" -x 1024 "$disk" >"$out" 2>&1 || die "COMPARE AND WRITE compares nothing"
	sg_write_same -l 0 -n 8 --in /dev/zero "$disk" >"$out" 2>&1 || die "sg_write_same: $(cat "$out")"
	sg_reset -d "$disk" >"$out" 2>&1 || die "logical unit reset: $(cat "$out")"
	sg_turs "$disk" >"$out" 2>&1 || sg_turs "$disk" || die "not ready after a reset"
}

# reserved checks that a reservation is there.
reserved() { sg_persist -r "$disk" 2>&1 | grep "Exclusive Access" >/dev/null; }

# hashes writes a file system on the disk full of data whose place and sum fio knows.
hashes() {
	fio --name=verify --filename="$1" --size="$2" --rw=randwrite --bsrange=512-128k --ioengine=libaio --iodepth=16 \
		--direct=1 --verify=crc32c --verify_fatal=1 --verify_state_save=0 --randseed=7 --eta=never --output="$dir/fio" ||
		die "fio: $(tail -n 20 "$dir/fio")"
}

# killed_under_io makes 60 MiB of data, has a process of its own, $writer, write and sync them, and kills
# the target once it has got the first of them, while the rest is on its way.
killed_under_io() {
	local before
	head -c 60M /dev/urandom >"$dir/file"
	for _ in {1..5}; do
		before=$(sectors)
		(cp "$dir/file" "$dir/mnt/file" && sync -f "$dir/mnt/file") &
		writer=$!
		while [ "$(sectors)" -lt $((before + 8192)) ] && kill -0 $writer 2>/dev/null; do sleep 0.01; done
		stop -KILL
		sleep 0.2
		! kill -0 $writer 2>/dev/null || return 0
		serve -chap-user host -chap-secret "the right secret" # too fast for us: again
		wait $writer || die "an fsync failed"
		rm "$dir/mnt/file"
		sync -f "$dir/mnt"
	done
	die "the target was never killed under I/O: this has proven nothing"
}

# sectors prints how many the disk has written.
sectors() {
	local written
	read -r _ _ _ _ _ _ written _ <"/sys/block/${disk#/dev/}/stat"
	echo "$written"
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

step "no CHAP where none is asked for"
serve
login
logout
stop

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
	sg_inq -p 0x80 "$disk" | grep 0123456789abcdef0123456789abcdef >/dev/null || die "serial number is not the volume's"
name=${disk#/dev/}
sys=/sys/block/$name
[ "$(cat "$sys/queue/logical_block_size" "$sys/queue/physical_block_size" | xargs)" = "512 4096" ] || die "block sizes"
[ "$(cat "$sys/queue/discard_max_bytes")" -gt 0 ] || die "no discard"
grep -q "write back" "$sys"/device/scsi_disk/*/cache_type || die "write cache is not known"
[ "$(cat "$sys"/device/scsi_disk/*/thin_provisioning)" = 1 ] || die "not thin"
patient

step "sg tools"
tools

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

step "fio: random writes of all lengths, verified"
wipefs -qa "$disk"
hashes "$disk" 96M

step "discarded blocks read as zeros"
dd if=/dev/urandom of="$disk" bs=1M count=8 oflag=direct status=none
blkdiscard -o 0 -l $((8 << 20)) "$disk"
cmp -n $((8 << 20)) "$disk" /dev/zero || die "discarded blocks hold data"
blkdiscard -z -o 0 -l $((8 << 20)) "$disk" || die "write zeroes"

step "header and data digests"
logout
setting 'node.conn[0].iscsi.HeaderDigest' CRC32C
setting 'node.conn[0].iscsi.DataDigest' CRC32C
login
iscsiadm -m session -P 2 | grep "DataDigest: CRC32C" >/dev/null || die "no digests: $(iscsiadm -m session -P 2)"
head -c 8M /dev/urandom >"$dir/file"
dd if="$dir/file" of="$disk" bs=1M oflag=direct status=none
blockdev --flushbufs "$disk"
cmp -n $((8 << 20)) "$disk" "$dir/file" || die "read back something else"

step "a bad wire: no flipped bit gets through the digests"
logout
stop
serve -chap-user host -chap-secret "the right secret" -corrupt $((12 << 20))
login
patient
before=$(dmesg | grep -c "detected conn error" || true)
for round in 1 2 3; do
	head -c 24M /dev/urandom >"$dir/file"
	dd if="$dir/file" of="$disk" bs=256K oflag=direct status=none
	blockdev --flushbufs "$disk"
	dd if="$disk" of="$dir/back" bs=256K count=96 iflag=direct status=none
	cmp "$dir/file" "$dir/back" || die "round $round: read back something else"
done
[ "$(dmesg | grep -c "detected conn error")" -gt "$before" ] || die "no bit was flipped: this has proven nothing"
logout
stop
serve -chap-user host -chap-secret "the right secret"
login
patient
wipefs -qa "$disk"

step "persistent reservations outlive the target's process if they are to"
sg_persist -o -G -S 0xabc -Z "$disk" >"$dir/pr" 2>&1 || sg_persist -o -G -S 0xabc -Z "$disk" >"$dir/pr" 2>&1 || die "register: $(cat "$dir/pr")"
sg_persist -o -R -K 0xabc -T 3 "$disk" >"$dir/pr" 2>&1 || die "reserve: $(cat "$dir/pr")"
stop -KILL
serve -chap-user host -chap-secret "the right secret"
for _ in {1..240}; do reserved && break; sleep 0.5; done
reserved || die "the reservation is gone: $(sg_persist -r "$disk" 2>&1)"
sg_persist -o -C -K 0xabc "$disk" >"$dir/pr" 2>&1 || die "clear: $(cat "$dir/pr")"

step "the target is killed under I/O and comes back"
mkfs.ext4 -q -F "$disk"
mount "$disk" "$dir/mnt"
killed_under_io
sleep 3
serve -chap-user host -chap-secret "the right secret"
wait $writer || die "an fsync failed across the restart"
umount "$dir/mnt"
blockdev --flushbufs "$disk"
e2fsck -fn "$disk" >"$dir/fsck" 2>&1 || die "e2fsck: $(cat "$dir/fsck")"
mount "$disk" "$dir/mnt"
cmp "$dir/file" "$dir/mnt/file" || die "data lost across the restart"

step "the target is away for $away s under I/O: the fsync waits"
rm "$dir/mnt/file"
killed_under_io
sleep "$away"
kill -0 $writer 2>/dev/null || die "the fsync did not wait"
serve -chap-user host -chap-secret "the right secret"
wait $writer || die "an fsync failed after $away s without the target"
umount "$dir/mnt"
blockdev --flushbufs "$disk"
mount "$disk" "$dir/mnt"
cmp "$dir/file" "$dir/mnt/file" || die "data lost while the target was away"

step "resize, noticed at the rescan"
before=$(blockdev --getsize64 "$disk")
kill -HUP $pid
for _ in {1..60}; do
	iscsiadm -m node -T $iqn -p $portal --rescan >/dev/null
	after=$(blockdev --getsize64 "$disk")
	[ "$after" = "$before" ] || break
	sleep 0.5
done
[ "$after" = $((before + before / 2)) ] || die "$before bytes before, $after after"
resize2fs "$disk" >/dev/null 2>&1 || die "resize2fs"
umount "$dir/mnt"

step "logout"
logout
if dmesg | grep -iE "i/o error|critical|sense key"; then die "the kernel's log shows errors"; fi
step "all is right"
