#!/bin/bash
# e2e.sh: what users do, on a real Kubernetes with our chart: the cluster of cluster.sh, the
# chart installed by helm, and then each journey below with real pods. KEEP=1 leaves the
# cluster, and the next run finds it.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
# shellcheck source=hack/lib.sh
. hack/lib.sh

state=$(realpath -m "${KUBE_STATE:-.cache/kube}")
export KUBE_STATE=$state
namespace=storage
journeys=(dynamic_claim pod_again snapshot_and_restore expansion export_killed bad_parameter deletion)

main() {
	need_root "a cluster of its own"
	trap finish EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	test/kube/cluster.sh up
	eval "$(test/kube/cluster.sh env)"
	install_chart
	local journey began
	for journey in "${journeys[@]}"; do
		began=$EPOCHREALTIME
		$journey
		say "$journey: passed in $(seconds_since "$began") s"
	done
	host_shell dmesg >"$state/log/kernel"
	no_io_errors "$state/log/kernel"
	say "passed"
}

finish() {
	local status=$?
	if [ $status != 0 ]; then diagnose >&2 || true; fi
	[ -n "${KEEP:-}" ] || test/kube/cluster.sh down
	exit $status
}

# diagnose prints what tells why a journey failed.
diagnose() {
	k get pods,pvc,volumesnapshots -A -o wide
	k get events -A --sort-by=.lastTimestamp | tail -n 15
	local container
	for container in controller csi-provisioner csi-attacher; do
		echo "--- $container" && k -n $namespace logs deployment/csi-swiftblock-controller -c $container --tail=8
	done
	for container in export node; do
		echo "--- $container" && k -n $namespace logs daemonset/csi-swiftblock-node -c $container --tail=8
	done
}

k() { kube kubectl "$@"; }

install_chart() {
	cat >"$state/values.yaml" <<-END
		clusterName: test
		image: {repository: swiftblock.test/csi-swiftblock, tag: test, pullPolicy: Never}
		swift:
		  env:
		$(sed -E 's/^([A-Z_]+)=(.*)/    - {name: \1, value: "\2"}/' "$state/swift.env")
		controller: {grace: 1m}
		node: {maxVolumes: 10}
		sidecars:
		  registry: swiftblock.test
		  pullPolicy: Never
		  provisioner: csi-provisioner:test
		  attacher: csi-attacher:test
		  resizer: csi-resizer:test
		  snapshotter: csi-snapshotter:test
		storageClasses:
		  - {name: swiftblock, default: true, parameters: {journalSize: 1Gi}}
		  - {name: wrong, parameters: {colour: blue}}
		snapshotClasses: [{name: swiftblock}]
	END
	kube helm upgrade --install csi-swiftblock charts/csi-swiftblock --namespace $namespace --create-namespace \
		-f "$state/values.yaml" --wait --timeout 4m >/dev/null
	k -n $namespace rollout status daemonset/csi-swiftblock-node --timeout 2m >/dev/null
}

# claim NAME SIZE [SOURCE [CLASS]] makes a claim; SOURCE is the YAML of a dataSource.
claim() {
	k apply -f - >/dev/null <<-END
		apiVersion: v1
		kind: PersistentVolumeClaim
		metadata: {name: $1}
		spec:
		  storageClassName: ${4:-swiftblock}
		  accessModes: [ReadWriteOnce]
		  resources: {requests: {storage: $2}}
		  ${3:+dataSource: $3}
	END
}

# pod NAME CLAIM COMMAND runs a shell command with the claim at /data.
pod() {
	k apply -f - >/dev/null <<-END
		apiVersion: v1
		kind: Pod
		metadata: {name: $1}
		spec:
		  restartPolicy: Never
		  terminationGracePeriodSeconds: 1
		  containers:
		    - name: main
		      image: swiftblock.test/busybox:test
		      imagePullPolicy: Never
		      command: [sh, -c, "$3"]
		      volumeMounts: [{name: data, mountPath: /data}]
		  volumes: [{name: data, persistentVolumeClaim: {claimName: $2}}]
	END
}

running() { k wait --for=condition=Ready "pod/$1" --timeout=180s >/dev/null; }
succeeded() { k wait --for=jsonpath='{.status.phase}'=Succeeded "pod/$1" --timeout=180s >/dev/null; }
gone() { k delete "$@" --wait --timeout=180s >/dev/null; }

# expect WANT GOT
expect() { [ "$2" = "$1" ] || die "want \"$1\", have \"$2\""; }

# host_shell runs a command as root in the node's own namespaces.
host_shell() {
	k -n $namespace exec daemonset/csi-swiftblock-node -c node -- nsenter --target 1 --mount --uts -- sh -c "$1"
}

dynamic_claim() {
	claim data 1Gi
	pod writer data 'echo first >/data/file && sync && sleep 86400'
	running writer
	expect Bound "$(k get pvc data -o jsonpath='{.status.phase}')"
	expect first "$(k exec writer -- cat /data/file)"
	k get swiftblockvolumes
}

# Another pod finds what the first one wrote; the volume was detached in between.
pod_again() {
	gone pod writer
	pod reader data 'cat /data/file && echo second >/data/second && sync'
	succeeded reader
	expect first "$(k logs reader)"
	gone pod reader
}

snapshot_and_restore() {
	pod writer data 'echo before >/data/cut && sync && sleep 86400'
	running writer
	k apply -f - >/dev/null <<-END
		apiVersion: snapshot.storage.k8s.io/v1
		kind: VolumeSnapshot
		metadata: {name: cut}
		spec: {volumeSnapshotClassName: swiftblock, source: {persistentVolumeClaimName: data}}
	END
	k wait --for=jsonpath='{.status.readyToUse}'=true volumesnapshot/cut --timeout=120s >/dev/null
	k exec writer -- sh -c 'echo after >/data/cut && sync'
	claim restored 1Gi '{apiGroup: snapshot.storage.k8s.io, kind: VolumeSnapshot, name: cut}'
	pod restorer restored 'cat /data/cut'
	succeeded restorer
	expect before "$(k logs restorer)"
	expect after "$(k exec writer -- cat /data/cut)"
	gone pod restorer
}

# The file system grows under the pod that has it mounted.
expansion() {
	k patch pvc data -p '{"spec": {"resources": {"requests": {"storage": "2Gi"}}}}' >/dev/null
	k wait --for=jsonpath='{.status.capacity.storage}'=2Gi pvc/data --timeout=180s >/dev/null
	local mib
	mib=$(k exec writer -- df -m /data | awk 'END { print $2 }')
	[ "$mib" -gt 1800 ] || die "the file system has $mib MiB"
}

# export dies by kill -9 while a pod writes and syncs: the pod waits, and goes on.
# shellcheck disable=SC2016 # programs, not for this shell to expand
export_killed() {
	gone pod writer
	pod writer data 'i=0; while sync; do i=$((i+1)); echo $i >/data/counter || exit 1; done'
	running writer
	local restarts before after until=$((SECONDS + 120))
	restarts=$(export_restarts)
	host_shell 'for p in /proc/[0-9]*; do
		case $(tr "\0" " " <$p/cmdline) in *"csi-swiftblock export "*) kill -KILL ${p#/proc/} ;; esac
	done'
	until [ "$(export_restarts)" -gt "$restarts" ]; do
		[ $SECONDS -lt $until ] || die "export was not restarted"
		sleep 1
	done
	k -n $namespace wait --for=condition=Ready pod -l app.kubernetes.io/component=node --timeout=120s >/dev/null
	before=$(k exec writer -- cat /data/counter)
	sleep 5
	after=$(k exec writer -- cat /data/counter)
	[ "$after" -gt "$before" ] || die "the writer stands still at $before"
	expect Running "$(k get pod writer -o jsonpath='{.status.phase}')"
	say "the writer went on from $before to $after"
}

export_restarts() {
	k -n $namespace get pod -l app.kubernetes.io/component=node \
		-o jsonpath='{.items[0].status.containerStatuses[?(@.name=="export")].restartCount}'
}

# A mistake in a StorageClass is told by an event that names what is known.
bad_parameter() {
	claim wrong 1Gi '' wrong
	local said until=$((SECONDS + 60))
	until said=$(k get events --field-selector involvedObject.name=wrong -o jsonpath='{.items[*].message}') && grep -q colour <<<"$said"; do
		[ $SECONDS -lt $until ] || die "no event names the parameter: $said"
		sleep 1
	done
	grep -q journalSize <<<"$said" || die "the event does not say which parameters there are: $said"
	gone pvc wrong
}

# What is deleted is gone from Kubernetes, from the authority and from the node.
deletion() {
	gone pod writer
	gone pvc data restored
	gone volumesnapshot cut
	local left until=$((SECONDS + 180))
	until left=$(k get pv,volumesnapshotcontents,swiftblockclaims -o name) && [ -z "$left" ]; do
		[ $SECONDS -lt $until ] || die "left: $left"
		sleep 1
	done
	expect "" "$(host_shell 'ls /sys/class/iscsi_session')"
}

main
