#!/bin/bash
# machine.sh: a node of the cluster that is a whole machine: a Debian with its own kernel,
# systemd, open-iscsi, containerd and kubelet, emulated by qemu, which can be rebooted. It
# is slow: what needs no systemd uses the guests of test/guest.
#
#   machine.sh build                                make its parts (once; minutes cold)
#   machine.sh run I ADDRESS HOST STATE PROGRAMS    boot it, until it is powered off or ended
#
# It is node I at ADDRESS, on tap device I-1 of this network namespace; everything else is at
# HOST. STATE and PROGRAMS are the directories of cluster.sh. Its disk stays in STATE, its
# console is STATE/log/nodeI.console, with our own time, in seconds since 1970, before each
# line. MACHINE_MEMORY (3G) and MACHINE_CPUS (2) are what it has.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
# shellcheck source=hack/lib.sh
. hack/lib.sh
# shellcheck source=test/kube/node-files.sh
. test/kube/node-files.sh

packages=(
	busybox-static ca-certificates conntrack containerd containernetworking-plugins dbus e2fsprogs ethtool iproute2
	iptables kmod open-iscsi procps runc socat systemd-sysv udev util-linux xfsprogs
)
build() {
	[ ! -d "$machine" ] || return 0
	need_root "building the machine"
	need_packages mmdebstrap kmod cpio busybox-static e2fsprogs qemu-system-x86 qemu-utils
	mkdir -p "$(dirname "$machine")"
	exec 9>"$machine.lock"
	flock 9
	[ ! -d "$machine" ] || return 0
	say "building the machine (some minutes)"
	local new package version
	new=$(mktemp -d "$machine.XXXXXX")
	trap 'rm -rf "$new"' EXIT
	package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-.*\)/\1/p' | head -1)
	version=${package#linux-image-}
	(cd "$new" && apt-get -q download "$package" >/dev/null) || die "cannot download $package: see above"
	dpkg -x "$new"/*.deb "$new/package"
	depmod -b "$new/package" "$version"
	cp "$new/package/boot/vmlinuz-$version" "$new/vmlinuz"
	initrd "$new/package" "$version" "$new"
	mmdebstrap --variant=minbase --include="$(IFS=,; echo "${packages[*]}")" --dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
		bookworm "$new/root" >"$new/log" 2>&1 || die "mmdebstrap failed: $(grep -m1 '^E:' "$new/log")"
	cp -a "$new/package/lib/modules" "$new/root/lib/"
	mkdir "$new/root/seed"
	truncate -s 20G "$new/root.img"
	mkfs.ext4 -q -F -E nodiscard -d "$new/root" "$new/root.img"
	rm -rf "$new/package" "$new/root" "$new"/*.deb
	mv "$new" "$machine"
	trap - EXIT
	say "built: $(du -sh "$machine" | cut -f1)"
}

# initrd PACKAGE VERSION DIRECTORY: what mounts the root, puts the seed's files into it, and
# goes on there.
initrd() {
	local work=$3/initrd module file
	mkdir -p "$work"/{bin,modules,proc,sys,dev,root}
	cp /bin/busybox "$work/bin/"
	for module in virtio_pci virtio_blk ext4 crc32c_generic; do
		modprobe -d "$1" --show-depends -S "$2" $module | awk '$1 == "insmod" { print $2 }'
	done | awk '!seen[$0]++' | while read -r file; do
		cp "$file" "$work/modules/"
		basename "$file" >>"$work/load"
	done
	cat >"$work/init" <<-'END'
		#!/bin/busybox sh
		/bin/busybox --install -s /bin
		export PATH=/bin
		mount -t proc proc /proc
		mount -t sysfs sys /sys
		mount -t devtmpfs dev /dev
		while read module; do insmod /modules/$module; done </load
		mount -t ext4 /dev/vda /root
		mount -t ext4 -o ro /dev/vdb /root/seed
		cp -a /root/seed/root/. /root/
		mount --move /dev /root/dev
		umount /sys /proc
		exec switch_root /root /sbin/init
	END
	chmod 755 "$work/init"
	(cd "$work" && find . -print0 | cpio -o -0 -H newc --quiet | gzip -1) >"$3/initrd.gz"
	rm -rf "$work"
}

key=$({ echo "${packages[*]}" && declare -f build initrd; } | sha256sum | cut -c1-16)
machine=$(cache_dir)/kube/machine-$key # vmlinuz, initrd.gz, root.img
own=/etc/kubernetes                    # in it, what it is known by

# seed DIRECTORY: what makes a node of a machine: below root/ what its root gets, beside it
# programs and images.
seed() {
	local root=$1/root image file
	mkdir -p "$1"/{programs,images} "$root$own" "$root"/etc/{iscsi,modules-load.d,sysctl.d} \
		"$root"/etc/systemd/{network,system.conf.d,system/multi-user.target.wants}
	cp "$programs"/{kubelet,kube-proxy} "$1/programs/"
	for image in csi-swiftblock-test busybox-test pause-1; do cp "$state/images/$image.tar" "$1/images/"; done
	cp "$state/apiserver.crt" "$root$own/"
	for file in "$name" proxy; do sed "s#$state/#$own/#" "$state/$file.kubeconfig" >"$root$own/$file.kubeconfig"; done
	echo "$name" >"$root/etc/hostname"
	echo "127.0.0.1 localhost
$address $name" >"$root/etc/hosts"
	echo "InitiatorName=iqn.2026-01.dev.swiftblock:$name" >"$root/etc/iscsi/initiatorname.iscsi"
	printf '%s\n' overlay br_netfilter iscsi_tcp >"$root/etc/modules-load.d/node.conf"
	printf '%s\n' net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1 >"$root/etc/sysctl.d/node.conf"
	printf '[Manager]\nDefaultTimeoutStartSec=900\n' >"$root/etc/systemd/system.conf.d/slow.conf"
	cat >"$root/etc/systemd/network/node.network" <<-END
		[Match]
		Driver=virtio_net
		[Network]
		Address=$address/24
		Gateway=$host
		KeepConfiguration=yes
	END
	node_files "$root" "$number" systemd <<-END
		shutdownGracePeriod: ${MACHINE_GRACE:-60s}
		shutdownGracePeriodCriticalPods: ${MACHINE_GRACE_CRITICAL:-20s}
	END
	unit images "Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'test -e /var/lib/images || { for i in /seed/images/*; do ctr -n k8s.io images import \$i || exit 1; done && touch /var/lib/images; }'" \
		"After=containerd.service"
	unit kube-proxy "ExecStart=/seed/programs/kube-proxy --kubeconfig $own/proxy.kubeconfig --hostname-override $name --proxy-mode iptables --conntrack-max-per-core 0 --conntrack-min 0"
	unit kubelet "ExecStart=/seed/programs/kubelet --config /var/lib/kubelet/config.yaml --kubeconfig $own/$name.kubeconfig --hostname-override $name --node-ip $address
Restart=always" "Requires=containerd.service images.service
After=containerd.service images.service"
	ln -s /lib/systemd/system/systemd-networkd.service "$root/etc/systemd/system/multi-user.target.wants/"
}

# unit NAME SERVICE [UNIT]: a unit that starts with the machine.
unit() {
	printf '[Unit]\nDescription=%s\n%s\n[Service]\n%s\n' "$1" "${3:-After=network.target}" "$2" >"$root/etc/systemd/system/$1.service"
	ln -s "../$1.service" "$root/etc/systemd/system/multi-user.target.wants/"
}

run() {
	number=$1 name=node$1 address=$2 host=$3 state=$4 programs=$5
	build
	local work size
	work=$(mktemp -d)
	seed "$work/seed"
	size=$(du -sm "$work/seed" | cut -f1)
	truncate -s $((size * 5 / 4 + 64))M "$state/$name.seed"
	mkfs.ext4 -q -F -O ^has_journal -d "$work/seed" "$state/$name.seed"
	rm -rf "$work"
	[ -e "$state/$name.disk" ] || qemu-img create -q -f qcow2 -b "$machine/root.img" -F raw "$state/$name.disk"
	qemu-system-x86_64 -M q35 -accel tcg,thread=multi,tb-size=512 -cpu Nehalem -smp "${MACHINE_CPUS:-2}" -m "${MACHINE_MEMORY:-3G}" \
		-nodefaults -no-user-config -display none -kernel "$machine/vmlinuz" -initrd "$machine/initrd.gz" \
		-append "console=ttyS0 loglevel=5 panic=-1 tsc=reliable mitigations=off net.ifnames=0 systemd.journald.forward_to_console=1" \
		-drive "file=$state/$name.disk,format=qcow2,if=virtio" -drive "file=$state/$name.seed,format=raw,if=virtio,readonly=on" \
		-netdev "tap,id=net,ifname=tap$((number - 1)),script=no,downscript=no" -device virtio-net-pci,netdev=net,romfile= \
		-device virtio-rng-pci -serial file:/dev/stdout </dev/null |
		while IFS= read -r line; do printf '%s %s\n' "$EPOCHREALTIME" "$line"; done >>"$state/log/$name.console"
}

case ${1:-} in
build) build ;;
run) run "${@:2}" ;;
*)
	sed -n '2,/^set/{/^#/s/^# \?//p}' "$0"
	exit 2
	;;
esac
