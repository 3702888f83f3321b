# shellcheck shell=bash
# installs.sh: what e2e.sh does with the driver itself, as the cluster's administrator: it is
# installed, replaced, upgraded and uninstalled. journeys.sh says in which order.
# shellcheck disable=SC2154,SC2016 # state, namespace and ST_… come from e2e.sh; programs are not for this shell to expand

# The nodes register with the taint of the chart's node.startupTaint; pods get there when
# the driver does.
taint=csi.swiftblock.dev/agent-not-ready

taints_of() { k get node "$1" -o jsonpath='{.spec.taints[*].key}'; }
tainted() { grep -qF $taint <<<"$(taints_of "$1")"; }
untainted() {
	local said
	said=$(taints_of "$1") && ! grep -qF $taint <<<"$said"
}

# install does what docs/install.md says. The namespace and its Secrets may be there: an uninstall
# leaves them.
install() {
	local node
	if ! k get namespace "$namespace" >/dev/null 2>&1; then
		clouds "$ST_KEY"
		documented "With Helm" -e '/^helm install/,$d'
	fi
	helm_upgrade --wait
	for node in node1 node2; do until_true 60 "$node without the start-up taint" untainted $node; done
	until_true 120 "the DaemonSet's pods ready" daemonset_is_ready
}

# documented SECTION EDIT... runs the commands of a section of docs/install.md, those that begin
# with a namespace, in a directory that has what they name. The edits are of sed: the docs cannot
# know the test cluster's names.
documented() {
	local tree=$PWD directory=$state/install
	mkdir -p "$directory"
	ln -sfn "$tree/charts" "$directory/charts"
	awk -v title="## $1" '
		/^## / { here = $0 == title }
		/^```/ { on = 0 }
		here && /^```sh$/ { getline; on = /^kubectl create namespace / }
		on' docs/install.md | sed -E -e '' "${@:2}" >"$directory/commands"
	[ -s "$directory/commands" ] || die "docs/install.md: no commands in \"$1\""
	(cd "$directory" && kube env "PATH=$tree/bin:$PATH" bash -euo pipefail commands) >/dev/null
}

# clouds KEY writes the clouds.yaml of Swift's user, with a key.
clouds() {
	mkdir -p "$state/install"
	cat >"$state/install/clouds.yaml" <<-END
		clouds:
		  swift:
		    auth_type: v1password
		    auth: {auth_url: "$ST_AUTH", username: "$ST_USER", password: "$1"}
	END
}

# startup_taint: a pod waits for the driver on nodes that registered with the taint.
startup_taint() {
	local node
	for node in node1 node2; do tainted $node || die "$node did not register with the taint $taint"; done
	# A Job: kubelet may refuse the first pod that comes, when the scheduler has heard before it
	# that the taint is gone.
	k create job early --image=swiftblock.test/busybox:test -- true >/dev/null
	until_true 30 "the scheduler keeps the pod back" kept_back early
	install
	become --for=condition=Complete job/early
	gone job/early
	local event
	event=$(logs_of_controllers | grep 'nodes are ready for volumes') || die "no controller says that it took the taint"
	say "$(tail -n 1 <<<"$event")"
}

# logs_of_controllers prints those of the containers before, too, where one was started again.
logs_of_controllers() {
	local pod pods
	pods=$(k -n "$namespace" get pods -l app.kubernetes.io/component=controller -o name)
	for pod in $pods; do
		k -n "$namespace" logs "$pod" -c controller --previous 2>/dev/null || true
		k -n "$namespace" logs "$pod" -c controller || true
	done
}

kept_back() { grep -qF "$taint" <<<"$(k get pods -l "job-name=$1" -o jsonpath='{.items[*].status.conditions[*].message}')"; }

# helm_upgrade OPTION... is the documented command, with what the tests want besides. Helm takes
# the last of contradicting options. Where it did not reach the cluster it has done nothing.
helm_upgrade() {
	local said tries=5
	cat >"$state/values.yaml" <<-END
		image: {pullPolicy: Never}
		controller: {grace: 30s, look: 10s}
		node: {maxVolumes: 20, startupTaint: $taint}
		metrics: {enabled: true}
		sidecars:
		  pullPolicy: Never
		  provisioner: csi-provisioner:test
		  attacher: csi-attacher:test
		  resizer: csi-resizer:test
		  snapshotter: csi-snapshotter:test
		storageClasses:
		  - {name: swiftblock, default: true, parameters: {journalSize: 1Gi, rpo: 5s}}
	END
	until said=$(documented "With Helm" -e '/^helm install/,$!d' -e "s#^helm install#helm upgrade --install --timeout 15m -f $state/values.yaml#" \
		-e 's#REGISTRY(/sig-storage)?#swiftblock.test#; s#=TAG#=test#; s#=production#=test#' -e "\$s/( *#.*)?\$/ $*/" 2>&1); do
		if [[ $said != *"cluster unreachable"* ]] || [ $((tries -= 1)) -le 0 ]; then die "helm: $said"; fi
		sleep 5
	done
	[ -z "$said" ] || echo "$said" >&2
}

# The pods of the DaemonSet are replaced, as after an upgrade, while a pod writes.
daemonset_rolled() {
	k -n "$namespace" rollout restart daemonset/csi-swiftblock-node >/dev/null
	replace_nodes_pods
}

# replace_nodes_pods [TAG] deletes the DaemonSet's pods one by one: what comes has the tag.
replace_nodes_pods() {
	local i
	for i in 1 2; do
		gone -n "$namespace" pod "$(node_pod node$i)"
		until_true 120 "the DaemonSet's pods ready" daemonset_is_ready $i
		[ $# = 0 ] || expect "swiftblock.test/csi-swiftblock:$1" "$(image_of "$(node_pod node$i)")"
		writer_goes_on
	done
}

controllers_are_there() { rolled_out -n "$namespace" deployment/csi-swiftblock-controller; }
image_of() { k -n "$namespace" get pod "$1" -o jsonpath='{.spec.containers[0].image}'; }

# daemonset_is_ready [UPDATED]: on both nodes, on at least so many of them as it is to be now.
daemonset_is_ready() {
	local desired ready updated wanted seen
	read -r desired ready wanted seen updated < <(k -n "$namespace" get daemonset csi-swiftblock-node \
		-o jsonpath='{.status.desiredNumberScheduled} {.status.numberReady} {.metadata.generation} {.status.observedGeneration} {.status.updatedNumberScheduled}')
	[ "$desired $ready" = "2 2" ] && [ "$seen" = "$wanted" ] && [ "${updated:-0}" -ge "${1:-2}" ]
}

# The next release is installed while a pod writes. Then the old one is put back: where the
# next one wrote a newer format it does not start, says why, and leaves all as it is. Pods
# wait, until the next release is there again.
upgrade() {
	need_writer
	helm_upgrade --set image.tag=next
	controllers_are_there
	replace_nodes_pods next
	gone pod writer # its volume is closed, and opened anew by the next release
	need_writer
	local node pod count
	node=$(node_of writer)
	helm_upgrade
	pod=$(node_pod "$node")
	gone -n "$namespace" pod "$pod"
	until_true 120 "the old release refuses" downgrade_is_refused "$node"
	count=$(host_shell "$node" 'grep -l "\"format\": 3" /var/lib/csi-swiftblock/export/*/record.json | wc -l')
	[ "$count" -gt 0 ] || die "no record of the next release is left"
	helm_upgrade --set image.tag=next
	gone -n "$namespace" pod "$(node_pod "$node")"
	until_true 120 "the DaemonSet's pods ready" daemonset_is_ready
	writer_goes_on
	# Back for good: with no volume open, nothing has the newer format.
	gone deployment --all
	gone pod/writer
	until_true 120 "the volume is closed" all_closed
	helm_upgrade
	controllers_are_there
	gone -n "$namespace" pod -l app.kubernetes.io/component=node
	until_true 120 "the DaemonSet's pods ready" daemonset_is_ready
	need_writer
}

downgrade_is_refused() {
	local said
	said=$(k -n "$namespace" logs "$(node_pod "$1")" -c export --tail=20 2>/dev/null | grep 'format 3, this release knows 1 and 2: use the release that wrote it') || return 1
	say "$(tail -n 1 <<<"$said" | cut -c1-300)"
}

# open_volumes prints the ids of the volumes that a node writes.
open_volumes() { k get swiftblockvolumes -o jsonpath='{.items[?(@.record.opening.open==true)].metadata.name}'; }
all_closed() {
	local said
	said=$(open_volumes) && [ -z "$said" ]
}

# helm uninstall is refused while a volume is open. Afterwards the nodes have nothing of the
# driver; records and data stay, and a driver that is installed again goes on with them, with
# helm or without.
uninstall() {
	local said node volume
	need_writer
	in_pod writer sh -c 'echo stays >/data/file && sync'
	volume=$(volume_of data)
	said=$(kube helm uninstall csi-swiftblock --namespace "$namespace" --timeout 5m 2>&1) && die "uninstalled while a volume is open"
	k -n "$namespace" logs job/csi-swiftblock-uninstall | grep 'end the pods that use them' || die "the refusal does not say why: $said"
	writer_goes_on
	gone deployment --all
	gone pod/writer
	until_true 120 "all volumes are closed" all_closed
	kube helm uninstall csi-swiftblock --namespace "$namespace" --wait --timeout 15m >/dev/null 2>&1 || die "not uninstalled"
	become -n "$namespace" --for=delete pod --all
	for node in node1 node2; do
		expect nothing "$(host_shell $node 'iscsiadm -m session 2>/dev/null; grep -E "csi.swiftblock.dev|by-path" /proc/mounts; grep -al "^/usr/local/bin/csi-swiftblock" /proc/[0-9]*/cmdline; echo nothing')"
	done
	k get swiftblockvolume "$volume" >/dev/null
	grep -qF "$volume" <<<"$(containers swiftblock:demo)" || die "the volume's data are gone"
	without_helm
	install
	need_writer
	expect stays "$(in_pod writer cat /data/file)"
}

# without_helm installs from deploy/kubernetes, by the commands of docs/install.md: a pod goes on
# with its claim, a claim is made. Then all but the definitions is deleted again.
without_helm() {
	local namespace=csi-swiftblock file=$state/install/deploy/kubernetes/csi-swiftblock.yaml fresh
	mkdir -p "${file%/*}"
	sed -E -e 's#image: csi-swiftblock:.*#image: swiftblock.test/csi-swiftblock:test#' -e 's#=CLUSTER$#=test#' \
		-e 's#REGISTRY/sig-storage/([a-z-]+):.*#swiftblock.test/\1:test#' deploy/kubernetes/csi-swiftblock.yaml >"$file"
	clouds "$ST_KEY"
	documented "Without Helm"
	controllers_are_there
	until_true 120 "the DaemonSet's pods ready" daemonset_is_ready
	need_writer
	expect stays "$(in_pod writer cat /data/file)"
	claim fresh swiftblock
	become --for=jsonpath='{.status.phase}'=Bound pvc/fresh
	fresh=$(k get pvc fresh -o jsonpath='{.spec.volumeName}')
	gone pod/writer pvc/fresh
	become --for=delete "pv/$fresh"
	until_true 120 "all volumes are closed" all_closed
	gone -f "$file"
	gone "namespace/$namespace"
}
