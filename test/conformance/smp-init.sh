#!/bin/bash
# smp-init.sh is the first process of smp.sh's Linux: the work of several processors on
# one disk of ours. It writes to the console; its last word is its verdict.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
read -r port iqn </target
disk=

step() { echo "smp-init: $*"; }
off() { busybox poweroff -f; sleep 60; }
die() { step "FAILED: $*"; dmesg | tail -n 20; off; }

start() {
	mount -t proc proc /proc
	mount -t sysfs sys /sys
	mount -t devtmpfs dev /dev
	mkdir -p /dev/shm /mnt
	mount -t tmpfs run /run
	mkdir /run/lock
	mount -t tmpfs shm /dev/shm
	mount -t tmpfs tmp /tmp
	echo '127.0.0.1 localhost' >/etc/hosts
	echo 'InitiatorName=iqn.2026-01.dev.swiftblock:smp' >/etc/iscsi/initiatorname.iscsi
	modprobe -a virtio_pci virtio_net virtio_rng iscsi_tcp sd_mod ext4 xfs crc32c_generic
	ip link set lo up
	ip link set eth0 up
	ip address add 10.0.2.15/24 dev eth0 # qemu's user network: the host is 10.0.2.2
	iscsid
	sleep 1
}

admin() { iscsiadm -m node -T "$iqn" -p "10.0.2.2:$port" "$@" >/tmp/iscsiadm 2>&1 || die "iscsiadm: $(cat /tmp/iscsiadm)"; }

login() {
	admin -o new
	admin -o update -n node.session.timeo.replacement_timeout -v -1
	admin --login
	for _ in {1..100}; do
		disk=$(lsscsi -t | awk -v iqn="$iqn" 'index($0, iqn) { print $NF }')
		case $disk in /dev/*) break ;; esac
		sleep 0.1
	done
	[ -b "$disk" ] || die "no disk"
	echo -1 >"$(echo /sys/block/"${disk#/dev/}"/device/scsi_disk/*/max_retries)"
}

# verify has several processes write, each in a part of its own, and read back what they wrote.
verify() {
	fio --name=smp --filename="$disk" --numjobs="$(nproc)" --size=12M --offset_increment=32M --rw=randrw \
		--bsrange=512-64k --ioengine=libaio --iodepth=16 --direct=1 --verify=crc32c --verify_fatal=1 --verify_state_save=0 \
		--do_verify=1 --eta=never --group_reporting --output=/tmp/fio || die "fio: $(tail -n 20 /tmp/fio)"
}

# copies has as many processes copy, sync and compare files on a file system.
copies() {
	local i pids=()
	for ((i = 0; i < $(nproc); i++)); do
		(head -c 4M /dev/urandom >"/tmp/file$i" && cp "/tmp/file$i" "/mnt/$i" && sync -f "/mnt/$i" && cmp "/tmp/file$i" "/mnt/$i") &
		pids+=($!)
	done
	for i in "${pids[@]}"; do wait "$i" || return 1; done
}

start
login
step "$(nproc) processors, $disk"
verify
step "verified"
for fs in ext4 xfs; do
	wipefs -qa "$disk"
	"mkfs.$fs" -q "$disk" || die "mkfs.$fs"
	mount -t $fs "$disk" /mnt || die "mount $fs"
	copies & work=$!
	[ $fs = ext4 ] || step "kill the target"
	wait $work || die "$fs: a copy went wrong"
	fstrim /mnt || die "fstrim"
	umount /mnt
	step "$fs"
done
verify
step "verified again"
admin --logout
if dmesg | grep -iE "i/o error|critical|sense key|BUG:|Call Trace"; then die "the kernel's log shows errors"; fi
step "all is right"
off
