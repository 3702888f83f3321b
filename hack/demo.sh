#!/bin/bash
# demo.sh: the whole product once, with real parts: csi-swiftblock demo, on this machine
# if its kernel has an iSCSI initiator, else in the guest of test/guest.
#
#   SWIFT=real       on a real OpenStack Swift (hack/swift.sh) instead of the embedded one
#   DEMO_ON=guest    in the guest even where the machine could; DEMO_ON=host: only here
#
# It fails if the kernel that ran it logged an I/O error.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
# shellcheck source=hack/lib.sh
. hack/lib.sh

logs=.cache/demo
netns= # of the guest and of its Swift
iscsid= # its process, where we started it
swift=() # environment that names the store: empty for the one that the demo brings
swift_directory=

main() {
	need_root "the demo"
	mkdir -p "$logs"
	trap clean_up EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	local began=$EPOCHREALTIME on=${DEMO_ON:-}
	if [ -z "$on" ]; then
		if has_initiator; then on=host; else on=guest; fi
	fi
	case $on in
	guest)
		has_initiator || say "this kernel has no iSCSI initiator: the demo runs in a guest that has one"
		guest_begin
		make -s build
		guest_await || exit 1
		;;
	host)
		need_packages open-iscsi e2fsprogs procps
		make -s build
		;;
	*) die "DEMO_ON=$on: it is guest or host" ;;
	esac
	[ "${SWIFT:-}" != real ] || real_swift "$on"
	say "set up in $(seconds_since "$began") s"

	"demo_on_$on"
	no_io_errors "$logs/kernel.log"
	say "$(seconds_since "$began") s in all"
}

has_initiator() { [ -e /sys/class/iscsi_transport/tcp ] || modprobe -q iscsi_tcp 2>/dev/null; }

demo_on_guest() {
	local network=()
	[ -z "$netns" ] || network=(-n "$netns")
	test/guest/guest.sh run -t 900 -l "$logs/kernel.log" "${network[@]}" -- \
		env "${swift[@]}" bin/csi-swiftblock demo --state /var/lib/csi-swiftblock
}

demo_on_host() {
	local state=/var/lib/csi-swiftblock-demo mark="csi-swiftblock demo $$" status=0
	pgrep -x iscsid >/dev/null || { iscsid --foreground & iscsid=$!; }
	echo "$mark" >/dev/kmsg
	env "${swift[@]}" bin/csi-swiftblock demo --state "$state" || status=$?
	rmdir "$state" 2>/dev/null || true
	dmesg | sed "1,/$mark/d" >"$logs/kernel.log"
	return $status
}

# real_swift ON starts a Swift where the demo can reach it: a guest shares a network
# namespace with it.
real_swift() {
	swift_directory=$(mktemp -d "${TMPDIR:-/tmp}/csi-swiftblock-swift.XXXXXX")
	if [ "$1" = guest ]; then
		test/guest/guest.sh net up "swiftblock-$$"
		netns=swiftblock-$$
		swift_up "$swift_directory" 10.77.0.1 nsenter "--net=/run/netns/$netns"
	else
		swift_up "$swift_directory"
	fi
}

clean_up() {
	guest_abandon
	[ -z "$iscsid" ] || kill "$iscsid" || true
	[ -z "$swift_directory" ] || swift_wipe "$swift_directory"
	[ -z "$netns" ] || test/guest/guest.sh net down "$netns" || true
}

main
