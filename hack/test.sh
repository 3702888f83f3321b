#!/bin/bash
# test.sh [STAGE...]: the proofs, all of them or those named. Every stage prints its
# output, and at the end stands one line for each, and what those that failed had to say. A stage
# that fails does not stop the next; the exit status is 1 then.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
# shellcheck source=hack/lib.sh
. hack/lib.sh

stages=(race swift mutants sanity conformance initiator demo sanity-live e2e-node)

# Debian packages of a stage. Those of all stages are installed at once: much the fastest.
declare -A packages=(
	[race]="gcc libc6-dev e2fsprogs xfsprogs qemu-utils"
	[swift]="python3-swift memcached curl mmdebstrap e2fsprogs qemu-utils"
	[catalog-swift]="python3-swift memcached curl mmdebstrap e2fsprogs qemu-utils"
	[soak]="python3-swift memcached curl"
	[conformance]="tgt libiscsi-bin"
	[demo]="mmdebstrap gcc libc6-dev"
	[e2e-node]="python3-swift memcached curl"
)

logs=.cache/test
summary=()
failed=()

main() {
	[ $# = 0 ] || stages=("$@")
	mkdir -p "$logs"
	use_tools
	local stage needed=()
	for stage in "${stages[@]}"; do
		read -ra more <<<"${packages[$stage]:-}"
		needed+=("${more[@]}")
	done
	need_packages "${needed[@]}"
	# The guest is built while the first stages run; the demo waits for it.
	trap guest_abandon EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	case " ${stages[*]} " in *" demo "* | *" initiator "*) guest_begin 2>"$logs/guest.log" ;; esac
	for stage in "${stages[@]}"; do prove "$stage"; done
	printf '\n=== summary\n'
	printf '%s\n' "${summary[@]}"
	[ ${#failed[@]} -gt 0 ] || return 0
	for stage in "${failed[@]}"; do why "$stage" $((14 / ${#failed[@]})); done
	say "$(machine)"
	return 1
}

# why STAGE LINES prints the last lines of a stage that tell of a failure, or the last ones of all
# where none does. Who looks at a run sees the end of what it printed, and may see nothing else.
why() {
	local telling='^=== FAIL|^ *(---|\[) ?(FAIL|TIMEDOUT|PANICKED)|[a-z0-9_]+\.go:[0-9]+: |^(panic|fatal error): |DATA RACE|^[a-zA-Z0-9_.-]+: |survived|stale'
	printf '\n=== why %s failed (%s)\n' "$1" "$logs/$1.log"
	{ grep -E -A1 --no-group-separator "$telling" "$logs/$1.log" | grep -vE '^(counted|mutants): [0-9]' || tail -n "$2" "$logs/$1.log"; } | tail -n "$2" | cut -c1-240
}

# Lines that the proofs sum up with.
sums='s/.*(DONE|csi-sanity:) //p
s/^((ours|tgt): .* of [0-9]+)$/\1/p
s/^--- ((PASS|FAIL): .*)/\1/p
s/^=== (FAIL: .*)/\1/p
s/^kernel.sh: (all is right)/\1/p
s/^(counted|mutants): ([0-9].*)/\2/p
/^demo passed/p'

# prove STAGE runs it and notes its verdict, time and sums.
prove() {
	local stage=$1 began=$EPOCHREALTIME verdict=ok result
	printf '\n=== %s\n' "$stage"
	run "$stage" 2>&1 | tee "$logs/$stage.log" || { verdict=FAILED && failed+=("$stage"); }
	result=$(sed -nE "$sums" "$logs/$stage.log" | paste -sd ';')
	summary+=("$(printf '%-12s %-7s %6s s  %s' "$stage" "$verdict" "$(seconds_since "$began")" "$result")")
}

run() {
	case $1 in
	race) go vet ./... && gotest -timeout 20m ./cmd/... ./pkg/... ;;
	swift)
		SWIFTBLOCK_KILL_ROUNDS=20 on_swift gotest -count=1 -run 'RealSwift|OnAStore|Kill' \
			./pkg/swift/swifttest ./pkg/snapshots ./pkg/volume ./pkg/catalog &&
			disk=$(test/catalog/disk.sh small) &&
			SWIFTBLOCK_DISK=$disk on_swift gotest -count=1 ./test/catalog &&
			NODES=3 SWIFTBLOCK_NODE_AWAY=2 on_swift gotest -count=1 -run '^TestRealSwift$' ./pkg/swift/swifttest
		;;
	catalog-swift)
		disk=$(test/catalog/disk.sh full) &&
			SWIFTBLOCK_DISK=$disk SWIFTBLOCK_SNAPSHOTS=50 on_swift go test -v -count=1 -timeout 2h ./test/catalog
		;;
	soak)
		# The kills first: they print what was done so far, the models only how they end.
		SWIFTBLOCK_KILL_ROUNDS=500 on_swift go test -race -v -count=1 -timeout 4h -run '^TestKill$' ./pkg/volume &&
			RAPID_CHECKS=5000 on_swift gotest -count=1 -timeout 12h -skip '^TestKill$' \
				./pkg/delta ./pkg/volume ./pkg/catalog
		;;
	mutants) go run ./test/mutants -within "${MUTANTS:-150s}" ;;
	kube) programs=$(test/kube/build.sh etcd kube-apiserver) && SWIFTBLOCK_KUBE=$programs gotest -count=1 ./pkg/authority/kube ./pkg/cluster ./test/chart ;;
	sanity) go test -count=1 -v ./test/sanity ;;
	conformance) go run ./test/conformance -o "$logs/conformance.table" ;;
	demo) hack/demo.sh ;;
	initiator)
		go build -o bin/ramtarget ./test/targets/ramtarget &&
			in_guest initiator test/conformance/kernel.sh bin/ramtarget "${AWAY:-45}"
		;;
	sanity-live) hack/sanity-live.sh ;;
	e2e-node) hack/e2e-node.sh ;;
	*) die "no stage $1: there are ${!packages[*]}" ;;
	esac
}

# gotest ARGUMENTS of go test: runs tests with the race detector, and prints at the end
# what they have logged as counted.
gotest() {
	local events=$logs/tests.json status=0
	CGO_ENABLED=1 gotestsum --format pkgname --hide-summary skipped --jsonfile "$events" -- -race "$@" || status=$?
	sed -nE 's/.*"Output":" *[a-z_]+\.go:[0-9]+: (counted: .*)\\n".*/\1/p' "$events"
	return $status
}

# on_swift COMMAND...: runs it with a real Swift of its own that ST_AUTH, ST_USER and
# ST_KEY name; with SWIFTBLOCK_NODE_AWAY=N its node N is dead.
on_swift() (
	directory=$(mktemp -d "${TMPDIR:-/tmp}/csi-swiftblock-swift.XXXXXX")
	trap 'swift_wipe "$directory"' EXIT
	trap 'exit 130' INT TERM
	swift_up "$directory"
	export "${swift[@]}"
	local away=${SWIFTBLOCK_NODE_AWAY:-}
	[ -z "$away" ] || ROOT=$directory hack/swift.sh kill "account-$away" "container-$away" "object-$away"
	"$@"
)

# in_guest STAGE COMMAND...: runs COMMAND in the guest, whose kernel must see no I/O error.
in_guest() {
	local kernel_log=$logs/$1.kernel
	shift
	test/guest/guest.sh run -t $((1800 + ${AWAY:-0})) -l "$kernel_log" -- "$@" && no_io_errors "$kernel_log"
}

main "$@"
