#!/bin/bash
# suite.sh: Kubernetes' own suite for storage drivers (e2e.test, External Storage) against
# our chart, on the running cluster where e2e.sh has installed it. suite/driver.yaml tells the
# suite what the driver can do.
#
#   suite.sh                all of it: hours
#   suite.sh subset         a fixed part, which make e2e runs: minutes
#   suite.sh FOCUS...       the specs whose names match one of the regular expressions
#   suite.sh prepare        none: builds what they take, before there is a cluster
#
# Those that suite/left-out names never run. PROCS (3) specs run at a time; those that the suite
# calls disruptive, as they stop kubelet, run afterwards and alone. Reports and the whole
# output are left in KUBE_STATE. TIMEOUT (4h) bounds each of the two parts; so does
# `pkill -TERM -x e2e.test` now. What did not run is in the report as skipped, without a reason.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
# shellcheck source=hack/lib.sh
. hack/lib.sh

# shellcheck source=test/kube/kubectl.sh
. test/kube/kubectl.sh

state=$(realpath -m "${KUBE_STATE:-.cache/kube}")
namespace=storage

# One spec for each thing that the driver does.
subset=(
	'Dynamic PV .xfs.*volumes should store data'
	'Dynamic PV .block volmode.*volumes should store data'
	'Dynamic PV .default fs.*provisioning should provision storage with snapshot data source \['
	'Dynamic PV .default fs.*provisioning should provision storage with pvc data source$'
	'Dynamic PV .default fs.*provisioning should mount multiple PV pointing to the same storage'
	'Dynamic PV .default fs.*subPath should support existing directory$'
	'Dynamic PV .block volmode.*volumeMode should fail to use a volume in a pod with mismatched mode'
	'Dynamic PV .block volmode.*multiVolume .*different volume mode and retain data across pod recreation on different node'
	'Dynamic PV .default fs.*fsgroupchangepolicy .OnRootMismatch.*, pod created .* new pod with same fsgroup skips'
	'Dynamic PV .default fs..allowExpansion.*volume-expand should resize volume when PVC is edited while pod is using it'
	'Dynamic Snapshot .delete policy.*snapshottable.*persistent'
	'Generic Ephemeral-volume .default fs. .late-binding.*ephemeral should create read/write'
	'Dynamic PV .default fs.*read-write-once-pod.*should block a second pod'
	'Dynamic PV .default fs.*volume-modify.*should modify volume that already has a VAC'
	'Dynamic PV .*volumeLimits should verify that all csinodes have volume limits'
)

main() {
	local focus=("$@") skip began=$EPOCHREALTIME
	need_root "a cluster of its own"
	made
	[ "$*" != prepare ] || return 0
	eval "$(test/kube/cluster.sh env)"
	images
	k apply -f - >/dev/null <<-END
		{apiVersion: storage.k8s.io/v1, kind: VolumeAttributesClass, metadata: {name: suite}, driverName: csi.swiftblock.dev, parameters: {iops: "5000"}}
	END
	if [ "$*" = subset ]; then focus=("${subset[@]}"); fi
	[ ${#focus[@]} -gt 0 ] || focus=("")
	printf 'suite.sh: %s\n' "${focus[@]/#/External.Storage.*}" >&2
	mapfile -t skip < <(sed -nE '/^#/!s/\t.*//p' test/kube/suite/left-out)
	export KUBE_SSH_USER=root KUBE_SSH_KEY_PATH=$state/ssh.key # specs that stop kubelet
	rm -rf "$state/suite"
	local status=0
	specs together "${PROCS:-3}" '!Disruptive' || status=$?
	# What matches nothing fails nothing.
	[ "$*" != subset ] || [ $status != 0 ] || [ "$(ran "$state/log/suite.together.log")" -ge ${#subset[@]} ] ||
		die "not all of the ${#subset[@]} specs have run: see above"
	[ "$*" = subset ] || specs alone 1 Disruptive || status=$?
	echo "Commit $(git rev-parse --short HEAD) on Kubernetes $(k get node node1 -o jsonpath='{.status.nodeInfo.kubeletVersion}'), two nodes on a machine" \
		"of $(nproc) cores, in $(seconds_since "$began") s until $(date -u +%F)" >"$state/suite/of"
	say "the reports: $state/suite/*/junit_01.xml, the output: $state/log/suite.*.log, in $(seconds_since "$began") s"
	return $status
}

# specs NAME PROCS LABELS runs the specs in focus that have the labels.
specs() {
	local status=0 log=$state/log/suite.$1.log
	mkdir -p "$state/suite/$1"
	kube "$programs/ginkgo" run --procs="$2" --no-color --silence-skips -v --timeout="${TIMEOUT:-4h}" --label-filter="$3" \
		"${focus[@]/#/--focus=External.Storage.*}" "${skip[@]/#/--skip=}" "$programs/e2e.test" -- \
		-kubeconfig "$KUBECONFIG" -provider local -num-nodes 2 -allowed-not-ready-nodes 0 -minStartupPods 0 \
		-storage.testdriver "$PWD/test/kube/suite/driver.yaml" -report-dir "$state/suite/$1" >"$log" 2>&1 || status=$?
	sed -nE '/^Ran [0-9]+ of/,$p' "$log" | sed -E '/^(Ginkgo ran|Test Suite)/d' >&2
	grep -E '^ *\[(FAIL|TIMEDOUT|PANICKED|INTERRUPTED)' "$log" | sort -u >&2 || true
	if [ $status != 0 ]; then reasons "$log" >&2 || true; fi
	return $status
}

ran() { sed -nE 's/^Ran ([0-9]+) of.*/\1/p' "$1" | tail -n 1; }

# reasons LOG prints what the specs that failed had to say.
reasons() { grep -E -A3 --no-group-separator '^ *\[(FAILED|TIMEDOUT|PANICKED)\] ' "$1" | grep -E '[a-zA-Z]' | awk '!seen[$0]++' | head -n 8 | cut -c1-240; }

# made sets programs, and from to the suite's images, made once by a recipe whose name is key.
made() {
	programs=$(test/kube/build.sh suite)
	key=$(sha256sum test/kube/images.sh | cut -c1-12)
	from=$programs/images-$key
	compgen -G "$from/pause*.tar" >/dev/null || test/kube/images.sh suite "$from" "$programs"
}

# images brings the images to the nodes that have them not.
images() {
	local pod
	mkdir -p "$state/images/$key"
	cp -u "$from"/*.tar "$state/images/$key"
	for pod in $(k -n $namespace get pods -l app.kubernetes.io/component=node -o name); do
		# shellcheck disable=SC2016 # a program, not for this shell to expand
		k -n $namespace exec "$pod" -c node -- nsenter --target 1 --mount -- sh -c '
			[ -e "/run/images-$1" ] || for image in "$2"/*.tar; do ctr -n k8s.io images import "$image" || exit; done
			touch "/run/images-$1"' sh "$key" "$state/images/$key" >>"$state/log/suite.images" 2>&1 || die "a node has not taken the images: $(tail -n 2 "$state/log/suite.images")"
	done
}

main "$@"
