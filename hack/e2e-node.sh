#!/bin/bash
# e2e-node.sh [FLAG...]: the scenarios of test/e2e, on a real OpenStack Swift and two guests in
# a network namespace: the tests and the first node run in one, the second node in the
# other. FLAGs are those of go test: -test.run=TestZombie. The first scenario that fails ends
# the run: what it leaves on the nodes would fail those after it.
#
#   E2E_FULL=1   also what takes long (make e2e-node-full)
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
# shellcheck source=hack/lib.sh
. hack/lib.sh

logs=.cache/e2e
netns=swiftblock-$$
swift=()
swift_directory=
second= # the process of the second guest

main() {
	need_root "the end-to-end tests"
	mkdir -p "$logs"
	trap clean_up EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	guest_begin
	make -s build
	go test -c -o .cache/e2e.test ./test/e2e
	tar -C "$(go env GOROOT)" -czf "$logs/tree.tar.gz" src/cmd/compile src/runtime # a large source tree
	guest_await || exit 1
	test/guest/guest.sh net up "$netns" 2
	swift_directory=$(mktemp -d "${TMPDIR:-/tmp}/csi-swiftblock-swift.XXXXXX")
	swift_up "$swift_directory" 10.77.0.1 nsenter "--net=/run/netns/$netns"

	local status=0 limit=3000 environment=(E2E_BINARY=bin/csi-swiftblock "E2E_FULL=${E2E_FULL:-}" "E2E_LOGS=$logs")
	[ -z "${E2E_FULL:-}" ] || limit=10800
	setsid test/guest/guest.sh run -n "$netns" -g 1 -t $((limit + 120)) -l "$logs/second.kernel" -- \
		env "${environment[@]}" E2E_AGENT=10.77.0.3:9000 .cache/e2e.test >"$logs/second.log" 2>&1 &
	second=$!
	test/guest/guest.sh run -n "$netns" -g 0 -m 2G -t $((limit + 60)) -l "$logs/first.kernel" -- \
		env "${swift[@]}" "${environment[@]}" E2E_ADDRESS=10.77.0.2 E2E_SECOND=10.77.0.3:9000 \
		.cache/e2e.test -test.v -test.failfast -test.timeout="${limit}s" "$@" || status=$?
	if [ $status != 0 ] && ! kill -0 "$second" 2>/dev/null; then
		tail -n 5 "$logs/second.log" >&2
		say "the second guest has ended before: its last words are above"
	fi
	return $status
}

clean_up() {
	guest_abandon
	[ -z "$second" ] || kill -- "-$second" 2>/dev/null || true
	[ -z "$swift_directory" ] || swift_wipe "$swift_directory"
	[ ! -e "/run/netns/$netns" ] || test/guest/guest.sh net down "$netns" || true
}

main "$@"
