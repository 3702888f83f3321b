# shellcheck shell=bash
# journeys.sh: what e2e.sh does in the cluster, one function each, in this order. Each uses
# manifests of docs/examples as they stand there, and removes what the next does not need.
# shellcheck disable=SC2154,SC2034 # state, namespace and driver come from e2e.sh, journeys goes there

journeys=(install dynamic_claim expansion export_killed daemonset_rolled snapshot restore clone golden_image many_readers)

install() {
	cat >"$state/values.yaml" <<-END
		clusterName: test
		image: {repository: swiftblock.test/csi-swiftblock, tag: test, pullPolicy: Never}
		swift:
		  env:
		$(sed -E 's/^([A-Z_]+)=(.*)/    - {name: \1, value: "\2"}/' "$state/swift.env")
		controller: {grace: 30s}
		node: {maxVolumes: 20}
		sidecars:
		  registry: swiftblock.test
		  pullPolicy: Never
		  provisioner: csi-provisioner:test
		  attacher: csi-attacher:test
		  resizer: csi-resizer:test
		  snapshotter: csi-snapshotter:test
		storageClasses:
		  - {name: swiftblock, default: true, parameters: {journalSize: 1Gi, rpo: 5s}}
		snapshotClasses: [{name: swiftblock}]
	END
	kube helm upgrade --install csi-swiftblock charts/csi-swiftblock --namespace "$namespace" --create-namespace \
		-f "$state/values.yaml" --wait --timeout 5m >/dev/null
	until_true 120 "the DaemonSet's pods ready" daemonset_is_ready
}

# A claim is bound, mounted in a pod, written and read.
dynamic_claim() {
	example claim
	running pod/writer
	expect Bound "$(k get pvc data -o jsonpath='{.status.phase}')"
	writer_goes_on
	k get swiftblockvolumes
}

# writer_goes_on: the pod of claim.yaml writes, and has not seen an error.
writer_goes_on() {
	local before
	before=$(in_pod writer cat /data/count)
	until_true 60 "the writer stands still at $before" writer_is_past "$before"
	expect Running "$(k get pod writer -o jsonpath='{.status.phase}')"
}

writer_is_past() { [ "$(in_pod writer cat /data/count)" -gt "$1" ]; }

# The file system grows under the pod that has it mounted.
expansion() {
	k patch pvc data -p '{"spec": {"resources": {"requests": {"storage": "2Gi"}}}}' >/dev/null
	k wait --for=jsonpath='{.status.capacity.storage}'=2Gi pvc/data --timeout=180s >/dev/null
	local mib
	mib=$(in_pod writer df -m /data | awk 'END { print $2 }')
	[ "$mib" -gt 1800 ] || die "the file system has $mib MiB"
	writer_goes_on
}

# export dies by kill -9 while a pod writes: the pod waits, and goes on.
# shellcheck disable=SC2016 # programs, not for this shell to expand
export_killed() {
	local node restarts
	node=$(node_of writer)
	restarts=$(export_restarts "$node")
	host_shell "$node" 'for p in /proc/[0-9]*; do
		case $(tr "\0" " " <$p/cmdline 2>/dev/null) in "/usr/local/bin/csi-swiftblock export "*) kill -KILL ${p#/proc/} ;; esac
	done'
	until_true 120 "export restarted" export_was_restarted "$node" "$restarts"
	writer_goes_on
}

export_restarts() {
	k -n "$namespace" get pod "$(node_pod "$1")" -o jsonpath='{.status.containerStatuses[?(@.name=="export")].restartCount}'
}

export_was_restarted() { [ "$(export_restarts "$1")" -gt "$2" ]; }

# The pods of the DaemonSet are replaced, as after an upgrade, while a pod writes.
daemonset_rolled() {
	k -n "$namespace" rollout restart daemonset/csi-swiftblock-node >/dev/null
	local i
	for i in 1 2; do
		k -n "$namespace" delete pod "$(node_pod node$i)" --wait --timeout=120s >/dev/null
		until_true 120 "the DaemonSet's pods ready" daemonset_is_ready $i
		writer_goes_on
	done
}

# daemonset_is_ready [UPDATED]: on both nodes, on so many of them as it is to be now.
daemonset_is_ready() {
	local numbers
	numbers=$(k -n "$namespace" get daemonset csi-swiftblock-node \
		-o jsonpath='{.status.desiredNumberScheduled} {.status.numberReady} {.status.updatedNumberScheduled}')
	[ "$numbers" = "2 2 ${1:-2}" ]
}

# A snapshot of a file system in use; what is written afterwards is not in it.
snapshot() {
	in_pod writer sh -c 'echo before >/data/golden && sync'
	example snapshot
	k wait --for=jsonpath='{.status.readyToUse}'=true volumesnapshot/cut --timeout=120s >/dev/null
	in_pod writer sh -c 'echo after >/data/golden && sync'
}

restore() {
	example restore
	running pod/restored
	expect before "$(in_pod restored cat /data/golden)"
	expect after "$(in_pod writer cat /data/golden)"
	gone pod/restored pvc/restored
}

clone() {
	example clone
	running pod/cloned
	expect after "$(in_pod cloned cat /data/golden)"
	in_pod cloned sh -c 'echo clone >/data/golden && sync'
	expect after "$(in_pod writer cat /data/golden)"
	gone pod/cloned pvc/cloned
}

golden_image() {
	example golden
	rolled_out statefulset/worker
	local i
	for i in 0 1 2; do
		expect before "$(in_pod worker-$i cat /data/golden)"
		expect worker-$i "$(in_pod worker-$i cat /data/mine)"
	done
	k delete service/workers >/dev/null
	gone statefulset/worker
	k wait --for=delete pvc/data-worker-0 pvc/data-worker-1 pvc/data-worker-2 --timeout=180s >/dev/null
}

many_readers() {
	example readers
	rolled_out deployment/reader
	local pod
	for pod in $(k get pods -l app=reader -o jsonpath='{.items[*].metadata.name}'); do
		expect before "$(in_pod "$pod" cat /data/golden)"
		! in_pod "$pod" sh -c 'echo x >/data/x' 2>/dev/null || die "$pod could write"
	done
	expect 2 "$(k get pods -l app=reader -o jsonpath='{range .items[*]}{.spec.nodeName}{"\n"}{end}' | sort -u | wc -l)"
	gone deployment/reader pvc/library
}
