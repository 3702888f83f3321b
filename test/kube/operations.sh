# shellcheck shell=bash
# operations.sh: what e2e.sh does in the cluster as its administrator, and what goes wrong
# there. journeys.sh says in which order.
# shellcheck disable=SC2154 # state, namespace, ST_AUTH and ST_KEY come from e2e.sh

# The nodes register with the taint of the chart's node.startupTaint; pods get there when
# the driver does.
taint=csi.swiftblock.dev/agent-not-ready

tainted() { k get node "$1" -o jsonpath='{.spec.taints[*].key}' 2>/dev/null | grep -qF $taint; }
untainted() { ! tainted "$1"; }

install() {
	local node
	helm_upgrade --install --create-namespace --wait
	for node in node1 node2; do until_true 60 "$node without the start-up taint" untainted $node; done
	until_true 120 "the DaemonSet's pods ready" daemonset_is_ready
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
	k wait --for=condition=Complete job/early --timeout=120s >/dev/null
	gone job/early
	local event
	event=$(k -n "$namespace" logs deployment/csi-swiftblock-controller --all-pods -c controller | grep 'nodes are ready for volumes') ||
		die "the controller does not say that it took the taint"
	say "${event##*controller] }"
}

kept_back() { k get pods -l "job-name=$1" -o jsonpath='{.items[*].status.conditions[*].message}' | grep -qF "$taint"; }

helm_upgrade() { # OPTION...
	cat >"$state/values.yaml" <<-END
		clusterName: test
		image: {repository: swiftblock.test/csi-swiftblock, tag: test, pullPolicy: Never}
		swift:
		  env:
		$(sed -E 's/^([A-Z_]+)=(.*)/    - {name: \1, value: "\2"}/' "$state/swift.env")
		controller: {grace: 30s, look: 10s}
		node: {maxVolumes: 20, startupTaint: $taint}
		metrics: {enabled: true}
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
	kube helm upgrade csi-swiftblock charts/csi-swiftblock --namespace "$namespace" \
		-f "$state/values.yaml" --timeout 5m "$@" >/dev/null
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
		k -n "$namespace" delete pod "$(node_pod node$i)" --wait --timeout=120s >/dev/null
		until_true 120 "the DaemonSet's pods ready" daemonset_is_ready $i
		[ $# = 0 ] || expect "swiftblock.test/csi-swiftblock:$1" "$(image_of "$(node_pod node$i)")"
		writer_goes_on
	done
}

controllers_are_there() { rolled_out -n "$namespace" deployment/csi-swiftblock-controller; }
image_of() { k -n "$namespace" get pod "$1" -o jsonpath='{.spec.containers[0].image}'; }

# daemonset_is_ready [UPDATED]: on both nodes, on at least so many of them as it is to be now.
daemonset_is_ready() {
	local desired ready updated
	read -r desired ready updated < <(k -n "$namespace" get daemonset csi-swiftblock-node \
		-o jsonpath='{.status.desiredNumberScheduled} {.status.numberReady} {.status.updatedNumberScheduled}')
	[ "$desired $ready" = "2 2" ] && [ "${updated:-0}" -ge "${1:-2}" ]
}

# The next release is installed while a pod writes. Then the old one is put back: where the
# next one wrote a newer format it does not start, says why, and leaves all as it is. Pods
# wait, until the next release is there again.
upgrade() {
	need_writer
	helm_upgrade --set image.tag=next
	controllers_are_there
	replace_nodes_pods next
	k delete pod writer --wait >/dev/null # its volume is closed, and opened anew by the next release
	need_writer
	local node pod count
	node=$(node_of writer)
	helm_upgrade
	pod=$(node_pod "$node")
	k -n "$namespace" delete pod "$pod" --wait --timeout=120s >/dev/null
	until_true 120 "the old release refuses" downgrade_is_refused "$node"
	count=$(host_shell "$node" 'grep -l "\"format\": 3" /var/lib/csi-swiftblock/export/*/record.json | wc -l')
	[ "$count" -gt 0 ] || die "no record of the next release is left"
	helm_upgrade --set image.tag=next
	k -n "$namespace" delete pod "$(node_pod "$node")" --wait --timeout=120s >/dev/null
	until_true 120 "the DaemonSet's pods ready" daemonset_is_ready
	writer_goes_on
	# Back for good: with no volume open, nothing has the newer format.
	gone deployment --all
	gone pod/writer
	until_true 120 "the volume is closed" all_closed
	helm_upgrade
	controllers_are_there
	k -n "$namespace" delete pod -l app.kubernetes.io/component=node --wait --timeout=120s >/dev/null
	until_true 120 "the DaemonSet's pods ready" daemonset_is_ready
	need_writer
}

downgrade_is_refused() {
	local said
	said=$(k -n "$namespace" logs "$(node_pod "$1")" -c export --tail=20 2>/dev/null | grep 'format 3, this release knows 1 and 2: use the release that wrote it') || return 1
	say "$(tail -n 1 <<<"$said" | cut -c1-300)"
}

all_closed() { [ -z "$(k get swiftblockvolumes -o jsonpath='{.items[?(@.record.opening.open==true)].metadata.name}')" ]; }

# need_writer makes the claim and the pod of claim.yaml, if they are not there. The claim may
# have grown.
need_writer() {
	local size
	size=$(k get pvc data -o jsonpath='{.spec.resources.requests.storage}' 2>/dev/null) || size=1Gi
	example claim 1Gi "$size"
	running pod/writer
	writer_goes_on
}

# Prometheus scrapes all processes of the driver, which are behind the chart's Service, and takes
# the chart's alerts. Debian's Prometheus cannot ask Kubernetes itself.
# shellcheck disable=SC2016 # a template, not for this shell to expand
metrics() {
	need_writer
	need_packages prometheus
	local targets
	targets=$(k -n "$namespace" get endpointslices -l kubernetes.io/service-name=csi-swiftblock-metrics -o go-template='
		{{- range .items}}{{$ports := .ports}}{{range .endpoints}}{{$address := index .addresses 0}}
		{{- range $ports}}{{printf "\"%s:%v\", " $address .port}}{{end}}{{end}}{{end}}')
	mkdir -p "$state/prometheus"
	cp charts/csi-swiftblock/files/alerts.yaml "$state/prometheus/"
	cat >"$state/prometheus/prometheus.yaml" <<-END
		global: {scrape_interval: 5s, evaluation_interval: 5s}
		rule_files: [alerts.yaml]
		scrape_configs:
		  - {job_name: csi-swiftblock-metrics, static_configs: [{targets: [${targets%, }]}]}
	END
	prometheus=
	kube prometheus --config.file="$state/prometheus/prometheus.yaml" --storage.tsdb.path="$state/prometheus/data" \
		--web.listen-address=127.0.0.1:9090 >"$state/log/prometheus.log" 2>&1 &
	prometheus=$!
	until_true 60 "Prometheus scrapes two of each of the three processes" finds 'count(up{job="csi-swiftblock-metrics"} == 1) == 6'
	until_true 30 "an open volume has figures" finds 'swiftblock_volume_published_age_seconds'
	expect 13 "$(ask rules | grep -o '"health":"ok"' | wc -l)"
}

ask() { kube curl -sf --noproxy '*' "http://127.0.0.1:9090/api/v1/$1" "${@:2}"; }

# finds EXPRESSION: Prometheus has something to answer.
finds() { ask query --data-urlencode "query=$1" | grep -q '"value":'; }

# What an administrator sees of a volume while Swift is away, and afterwards.
conditions() {
	need_writer
	[ -n "${prometheus:-}" ] || metrics
	local volume
	volume=$(volume_of data)
	until_true 60 "the volume is well" health_is "$volume" Good
	k get swiftblockvolume "$volume"
	swift kill proxy >/dev/null
	until_true 180 "the volume's health tells that Swift is away" health_is "$volume" Degraded
	k get swiftblockvolume "$volume"
	until_true 30 "a condition" has_condition "$volume" SwiftUnreachable
	until_true 30 "an event" has_event_of_volume "$volume" SwiftUnreachable
	until_true 60 "an alert" finds 'ALERTS{alertname="SwiftblockSwiftUnreachable"}'
	writer_goes_on
	swift start >/dev/null
	until_true 180 "the volume is well again" health_is "$volume" Good
	until_true 30 "an event that it passed" has_event_of_volume "$volume" Passed
	! has_condition "$volume" SwiftUnreachable || die "the condition is still there"
	writer_goes_on
}

swift() { kube env "ROOT=$state/swift" BIND=10.77.0.1 hack/swift.sh "$@"; }
health_is() { [ "$(k get swiftblockvolume "$1" -o jsonpath='{.status.health}')" = "$2" ]; }
has_condition() { k get swiftblockvolume "$1" -o jsonpath='{.status.conditions[?(@.status=="True")].type}' | grep -qw "$2"; }
has_event_of_volume() {
	local said
	said=$(k get events -n default --field-selector "involvedObject.kind=SwiftblockVolume,involvedObject.name=$1,reason=$2" -o jsonpath='{.items[0].type} {.items[0].message}') &&
		[ -n "$said" ] && say "$2: $(cut -c1-200 <<<"$said")"
}

# A node is drained: its pods go, and nothing is left of what only its journals had.
drain() {
	local node
	node=$(node_of "$(traveller)")
	kube kubectl drain "$node" --ignore-daemonsets --delete-emptydir-data --force --timeout=180s >/dev/null 2>&1 || die "no drain"
	until_true 120 "a controller answers" in_driver volume ls --authority kubernetes >/dev/null
	in_driver nodes left "$node" --wait --authority kubernetes --certificates /etc/csi-swiftblock/certificates
	expect '' "$(host_shell "$node" 'iscsiadm -m session 2>/dev/null | grep swiftblock')"
	until_true 180 "the traveller is ready elsewhere" traveller_is_at "$(other_node "$node")"
	k uncordon "$node" >/dev/null
	controllers_are_there
	# Both are on the other node. One goes back, and with it a share of the pods that follow.
	k -n "$namespace" delete "$(k -n "$namespace" get pods -l app.kubernetes.io/component=controller -o name | head -n 1)" --wait >/dev/null
	controllers_are_there
}

# Several Swift accounts: a class whose Secret names another one.
accounts() {
	local volume
	example account AUTH "$ST_AUTH" USER swiftother:demo KEY "$ST_KEY"
	running pod/archived
	in_pod archived sh -c 'echo archived >/data/file && sync'
	volume=$(volume_of archived)
	containers swiftother:demo | grep -qF "$volume" || die "the volume is not in its account"
	! containers swiftblock:demo | grep -F "$volume" || die "the volume is in the driver's account"
	k delete pod archived --wait >/dev/null
	example account AUTH "$ST_AUTH" USER swiftother:demo KEY "$ST_KEY"
	running pod/archived
	expect archived "$(in_pod archived cat /data/file)"
	gone pod/archived pvc/archived

	k -n "$namespace" create secret generic stranger --from-literal="ST_AUTH=$ST_AUTH" \
		--from-literal=ST_USER=swiftother:nobody --from-literal="ST_KEY=$ST_KEY" >/dev/null
	class stranger '{csi.storage.k8s.io/provisioner-secret-name: stranger, csi.storage.k8s.io/provisioner-secret-namespace: storage}'
	claim stranger stranger
	event_of pvc/stranger 'refused|credentials|401'
	gone pvc/stranger
	k delete storageclass stranger >/dev/null
	k -n "$namespace" delete secret stranger >/dev/null
}

# The authority is lost: somebody deleted the definitions, and all records with them, and a
# claim besides, while a pod writes. All of it comes back from Swift.
# shellcheck disable=SC2016 # a program, not for this shell to expand
disaster() {
	local pod node kept pv count lost
	need_writer
	in_pod writer sh -c 'echo kept >/data/file && sync'
	kept=$(volume_of data)
	k delete pod writer --wait >/dev/null
	until_true 120 "the volume is closed" closed "$kept"
	until_true 180 "what was deleted is gone from the account of a class, which recovery does not know" no_containers swiftother:demo
	pod=$(traveller)
	node=$(node_of "$pod")
	in_pod "$pod" sh -c 'echo published >/data/file && sync'
	published travel
	in_pod "$pod" sh -c 'i=0; while echo $((i += 1)) >/data/alive && sync; do sleep 0.1; done' 2>/dev/null &

	k -n "$namespace" scale deployment/csi-swiftblock-controller --replicas=0 >/dev/null
	k -n "$namespace" wait --for=delete pod -l app.kubernetes.io/component=controller --timeout=120s >/dev/null
	pv=$(k get pvc data -o jsonpath='{.spec.volumeName}')
	# The sidecars that would take their finalizers away are gone, too.
	k delete "pv/$pv" pvc/data --wait=false >/dev/null
	for lost in "pv/$pv" pvc/data; do
		k patch "$lost" --type=merge -p '{"metadata": {"finalizers": null}}' >/dev/null 2>&1 || true # it may be gone
	done
	k wait --for=delete "pv/$pv" pvc/data --timeout=30s >/dev/null
	k delete -f charts/csi-swiftblock/crds >/dev/null
	count=$(in_pod "$pod" cat /data/alive)
	until_true 30 "the pod writes without an authority" alive_is_past "$pod" "$count"

	k apply -f charts/csi-swiftblock/crds >/dev/null
	k wait --for=condition=Established crd/swiftblockvolumes.swiftblock.dev crd/swiftblockclaims.swiftblock.dev \
		crd/swiftblocksnapshots.swiftblock.dev crd/swiftblockpins.swiftblock.dev --timeout=30s >/dev/null
	recover --dry-run
	expect 0 "$(k get swiftblockvolumes -o name | wc -l)"
	recover
	k get swiftblockvolumes
	k -n "$namespace" scale deployment/csi-swiftblock-controller --replicas=2 >/dev/null
	controllers_are_there

	# What had been deleted a moment ago came back, too, and is deleted again.
	for lost in $(ids snapshot); do
		k get volumesnapshotcontents -o jsonpath='{.items[*].status.snapshotHandle}' | grep -qF "$lost" ||
			in_driver snapshot rm --authority kubernetes --cluster test "$lost" >/dev/null
	done
	for lost in $(ids volume); do
		[ "$lost" = "$kept" ] || k get pv -o jsonpath='{.items[*].spec.csi.volumeHandle}' | grep -qF "$lost" ||
			in_driver volume rm --authority kubernetes --cluster test "$lost" >/dev/null
	done
	until_true 120 "the node that was fenced stops serving" stands_still "$pod"
	k delete pod "$pod" --wait --timeout=180s >/dev/null
	until_true 240 "the traveller is ready" traveller_is_ready
	expect published "$(in_pod "$(traveller)" cat /data/file)"
	forgiven "$node"

	example static VOLUME "$kept"
	running pod/imported
	expect kept "$(in_pod imported cat /data/file)"
	gone pod/imported pvc/imported
	k delete pv imported >/dev/null
	until_true 60 "the volume is closed" closed "$kept"
	in_driver volume rm --authority kubernetes --cluster test "$kept" >/dev/null
}

alive_is_past() { [ "$(in_pod "$1" cat /data/alive)" -gt "$2" ]; }

stands_still() { ! in_pod "$1" sh -c 'echo >/data/alive && sync' 2>/dev/null; }

closed() { [ "$(k get swiftblockvolume "$1" -o jsonpath='{.record.opening.open}')" != true ]; }

# ids volume|snapshot prints the ids of all that the driver has.
ids() { in_driver "$1" ls --authority kubernetes --json | sed -nE 's/^ *"id": *"([^"]+)".*/\1/p'; }

# recover is run by the administrator, who has the cluster's and Swift's credentials.
recover() {
	# shellcheck disable=SC2046 # words
	kube env $(cat "$state/swift.env") bin/csi-swiftblock volume recover --authority kubernetes --cluster test "$@"
}

# Claims and snapshots are deleted in any order: what is left of them still works, and at the
# end nothing is left in Swift.
deletion() {
	local seed=${SWIFTBLOCK_SEED:-$RANDOM} object
	need_writer
	k delete volumesnapshot cut --ignore-not-found --wait >/dev/null
	snapshot
	example restore
	example clone
	running pod/restored pod/cloned
	say "SWIFTBLOCK_SEED=$seed"
	k delete deployment --all --wait >/dev/null
	k delete pod --all --wait >/dev/null
	for object in $(k get pvc,volumesnapshots -o name | shuf --random-source=<(yes "$seed")); do
		say "$object"
		k delete "$object" --wait --timeout=120s >/dev/null
	done
	for object in $(k get pv -o name); do k wait --for=delete "$object" --timeout=120s >/dev/null; done
	until_true 240 "no container is left in Swift" no_containers swiftblock:demo swiftother:demo
	expect 0 "$(k get swiftblockvolumes,swiftblocksnapshots -o name | wc -l)"
}

no_containers() { # USER...
	local user
	for user; do [ -z "$(containers "$user")" ] || return 1; done
}

# helm uninstall is refused while a volume is open. Afterwards the nodes have nothing of the
# driver; records and data stay, and a driver that is installed again goes on with them.
uninstall() {
	local said node volume
	need_writer
	in_pod writer sh -c 'echo stays >/data/file && sync'
	volume=$(volume_of data)
	said=$(kube helm uninstall csi-swiftblock --namespace "$namespace" --timeout 2m 2>&1) && die "uninstalled while a volume is open"
	k -n "$namespace" logs job/csi-swiftblock-uninstall | grep 'end the pods that use them' || die "the refusal does not say why: $said"
	writer_goes_on
	gone deployment --all
	gone pod/writer
	until_true 120 "all volumes are closed" all_closed
	kube helm uninstall csi-swiftblock --namespace "$namespace" --wait --timeout 3m >/dev/null 2>&1 || die "not uninstalled"
	k -n "$namespace" wait --for=delete pod --all --timeout=120s >/dev/null
	for node in node1 node2; do
		expect '' "$(host_shell $node 'iscsiadm -m session 2>/dev/null; grep -E "csi.swiftblock.dev|by-path" /proc/mounts; grep -al "^/usr/local/bin/csi-swiftblock" /proc/[0-9]*/cmdline')"
	done
	k get swiftblockvolume "$volume" >/dev/null
	containers swiftblock:demo | grep -qF "$volume"
	install
	need_writer
	expect stays "$(in_pod writer cat /data/file)"
}
