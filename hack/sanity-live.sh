#!/bin/bash
# sanity-live.sh: csi-sanity against the real processes and the kernel's initiator, in the
# guest. It fails if the guest's kernel logged an I/O error.
#
#   SWIFT=real   on an OpenStack Swift of three nodes, of which one dies and comes back,
#                behind the times, again and again, instead of the embedded one
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
# shellcheck source=hack/lib.sh
. hack/lib.sh

logs=.cache/test
netns=swiftblock-$$
swift=()
swift_directory=
failing= # the process that makes the node fail

main() {
	need_root "csi-sanity with a kernel's initiator"
	mkdir -p "$logs"
	trap clean_up EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	guest_begin
	make -s build
	go test -c -o .cache/sanity.test ./test/sanity
	guest_await || exit 1
	local network=()
	if [ "${SWIFT:-}" = real ]; then
		three_nodes
		network=(-n "$netns")
	fi
	test/guest/guest.sh run -t 1800 -l "$logs/sanity-live.kernel" "${network[@]}" -- \
		env "${swift[@]}" test/guest/sanity.sh .cache/sanity.test "$logs/sanity-live"
	no_io_errors "$logs/sanity-live.kernel"
}

three_nodes() {
	export NODES=3
	test/guest/guest.sh net up "$netns"
	swift_directory=$(mktemp -d "${TMPDIR:-/tmp}/csi-swiftblock-swift.XXXXXX")
	swift_up "$swift_directory" 10.77.0.1 nsenter "--net=/run/netns/$netns"
	fail_again_and_again &
	failing=$!
}

# fail_again_and_again ends, all servers running, when the file "over" is there.
fail_again_and_again() {
	while sleep 8 && [ ! -e "$swift_directory/over" ]; do
		ROOT=$swift_directory hack/swift.sh kill account-2 container-2 object-2
		sleep 8
		ROOT=$swift_directory BIND=10.77.0.1 nsenter "--net=/run/netns/$netns" hack/swift.sh start >/dev/null
		say "a node of three was away"
	done
}

clean_up() {
	guest_abandon
	[ -z "$failing" ] || { touch "$swift_directory/over"; wait "$failing" || true; rm -f "$swift_directory/over"; }
	[ -z "$swift_directory" ] || swift_wipe "$swift_directory"
	[ ! -e "/run/netns/$netns" ] || test/guest/guest.sh net down "$netns" || true
}

main "$@"
