#!/bin/bash
# smp.sh: a Linux with several processors against our target, which is built with the race
# detector: user-mode-linux has one processor and hides races, so this one is a Debian
# kernel in qemu. It is emulated and slow, but its processors are real threads; the target
# runs beside it, at full speed, and is killed and restarted in mid-work.
#
#   CPUS=4 test/conformance/smp.sh
#
# The root of that Linux is the guest of test/guest, in memory. What is done in it stands in
# smp-init.sh. The status is 0 when all of it is right and the target had no data race.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
# shellcheck source=hack/lib.sh
. hack/lib.sh
# shellcheck source=test/guest/build.sh
. test/guest/build.sh

limit=${LIMIT:-480} # seconds for the guest
iqn=iqn.2026-11.dev.swiftblock:ram
kernel=$guest/smp # vmlinuz, root.cpio
dir=
target=
qemu=

# prepare makes the kernel and the root, once for each guest.
prepare() {
	[ ! -d "$kernel" ] || return 0
	local new package version
	new=$(mktemp -d "$guest/smp.XXXXXX")
	package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-.*\)/\1/p' | head -1)
	version=${package#linux-image-}
	(cd "$new" && apt-get -q download "$package" >/dev/null) || die "cannot download $package: see above"
	dpkg -x "$new"/*.deb "$new/package"
	depmod -b "$new/package" "$version"
	mv "$new/package/boot/vmlinuz-$version" "$new/vmlinuz"
	{
		(cd "$guest/rootfs" && find . -path ./usr/lib/uml -prune -o -path ./usr/bin/linux.uml -prune -o -path ./init -prune \
			-o -path "./lib/modules" -prune -o -print0 | cpio -o -0 -H newc --quiet)
		(cd "$new/package" && find lib/modules -print0 | cpio -o -0 -H newc --quiet)
	} >"$new/root.cpio"
	rm -rf "$new/package" "$new"/*.deb
	mv "$new" "$kernel"
}

serve() {
	rm -f "$dir/url"
	"$dir/ramtarget" -addr "${portal:-127.0.0.1:0}" -iqn $iqn -size $((512 << 20)) -file "$dir/data" \
		>"$dir/url" 2>>"$dir/log" &
	target=$!
	for _ in {1..50}; do [ ! -s "$dir/url" ] || break; sleep 0.1; done
	portal=$(sed -n 's|iscsi://\([^/]*\)/.*|\1|p' "$dir/url")
	[ -n "$portal" ] || die "the target does not start: $(cat "$dir/log")"
}

boot() {
	local more=$dir/more
	mkdir "$more"
	cp test/conformance/smp-init.sh "$more/init"
	chmod 755 "$more/init"
	echo "${portal##*:} $iqn" >"$more/target"
	(cd "$more" && find . -print0 | cpio -o -0 -H newc --quiet) >"$dir/more.cpio"
	cat "$kernel/root.cpio" "$dir/more.cpio" >"$dir/initrd"
	timeout --kill-after 5 "$limit" qemu-system-x86_64 -M q35 -accel tcg,thread=multi -cpu Nehalem \
		-smp "${CPUS:-4}" -m 2G -nodefaults -display none -no-reboot -kernel "$kernel/vmlinuz" -initrd "$dir/initrd" \
		-append "console=ttyS0 quiet loglevel=4 panic=-1 tsc=reliable mitigations=off" \
		-netdev user,id=net -device virtio-net-pci,netdev=net,romfile= -device virtio-rng-pci \
		-serial "file:$dir/console" </dev/null &
	qemu=$!
}

cleanup() {
	[ -z "$qemu" ] || kill "$qemu" 2>/dev/null || true
	[ -z "$target" ] || kill -KILL "$target" 2>/dev/null || true
	[ -z "$dir" ] || rm -rf "$dir"
}

need_packages qemu-system-x86 cpio kmod gcc libc6-dev
build
prepare
dir=$(mktemp -d)
trap cleanup EXIT
CGO_ENABLED=1 go build -race -o "$dir/ramtarget" ./test/targets/ramtarget
serve
began=$EPOCHREALTIME
boot
until grep -q "smp-init: kill the target" "$dir/console" 2>/dev/null; do
	kill -0 $qemu 2>/dev/null || die "the guest has ended early: $(tail -n 30 "$dir/console")"
	sleep 0.5
done
kill -KILL $target
wait $target 2>/dev/null || true
sleep 2
serve
wait $qemu || say "qemu ended with status $?"
grep "smp-init:" "$dir/console" || true
races=$(grep -c "WARNING: DATA RACE" "$dir/log" || true)
[ "$races" = 0 ] || die "$races data races: $(head -c 4000 "$dir/log")"
grep -q "smp-init: all is right" "$dir/console" || die "failed: $(tail -n 30 "$dir/console")"
say "all is right, after $(seconds_since "$began") s"
