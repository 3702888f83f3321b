# shellcheck shell=bash
# operations.sh: what e2e.sh does in the cluster as its administrator, and what goes wrong
# there. journeys.sh says in which order.
# shellcheck disable=SC2154 # state, namespace, ST_AUTH and ST_KEY come from e2e.sh

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
finds() { ask query --data-urlencode "query=$1" | grep '"value":' >/dev/null; }

# What an administrator sees of a volume while Swift is away, and afterwards.
conditions() {
	need_writer
	[ -n "${prometheus:-}" ] || metrics
	local volume
	volume=$(volume_of data)
	until_true 60 "the volume is well" health_is "$volume" Good
	no_events_of_volumes
	k get swiftblockvolume "$volume"
	swift kill proxy
	until_true 180 "the volume's health tells that Swift is away" health_is "$volume" Degraded
	k get swiftblockvolume "$volume"
	until_true 30 "a condition" has_condition "$volume" SwiftUnreachable
	until_true 30 "an event" has_event_of_volume "$volume" SwiftUnreachable
	until_true 60 "an alert" finds 'ALERTS{alertname="SwiftblockSwiftUnreachable"}'
	writer_goes_on
	swift start >/dev/null
	until_true 180 "the volume is well again" health_is "$volume" Good
	until_true 30 "an event that it passed" has_event_of_volume "$volume" Passed SwiftUnreachable
	has_no_condition "$volume" SwiftUnreachable || die "the condition is still there"
	writer_goes_on
}

# The key of Swift's user is exchanged, and the Secret gets one that is mistyped: the pod writes on,
# and its volume says what to do. Then the Secret gets the good one, and nothing is restarted.
credentials() {
	local volume
	need_writer
	volume=$(volume_of data)
	until_true 180 "nobody needs the account of a class, whose Secret has the key, too" no_containers swiftother:demo
	until_true 60 "the volume is well" health_is "$volume" Good
	no_events_of_volumes
	secret_has mistyped
	exchange_key
	until_true 120 "a condition" has_condition "$volume" SwiftRefusesCredentials
	until_true 30 "an event" has_event_of_volume "$volume" SwiftRefusesCredentials 'put good credentials into the Secret'
	until_true 120 "the mistyped key is refused, too" node_says "$(node_of writer)" 'changed credentials of the object store are not used'
	writer_goes_on
	secret_has "$ST_KEY"
	until_true 120 "the volume is well again" health_is "$volume" Good
	until_true 30 "an event that it passed" has_event_of_volume "$volume" Passed SwiftRefusesCredentials
	has_no_condition "$volume" SwiftRefusesCredentials || die "the condition is still there"
	writer_goes_on
}

# secret_has KEY puts a key of Swift's user into the Secret that the chart names.
secret_has() {
	clouds "$1"
	k -n "$namespace" create secret generic swift "--from-file=$state/install/clouds.yaml" --dry-run=client -o yaml | k replace -f - >/dev/null
}

# exchange_key has Swift take another key, from its users of both accounts, and no token that it
# gave for the one before.
exchange_key() {
	openssl rand -hex 12 >"$state/swift/key"
	swift kill proxy memcached
	swift up | tr ' ' '\n' >"$state/swift.env"
	# shellcheck source=/dev/null
	. "$state/swift.env"
}

# node_says NODE WORDS: export has logged them lately.
node_says() { k -n "$namespace" logs "$(node_pod "$1")" -c export --since=5m | grep -F -- "$2" >/dev/null; }

# swift keeps our stderr from the servers that it starts, as cluster does.
swift() { kube env "ROOT=$state/swift" BIND=10.77.0.1 hack/swift.sh "$@" 3>&-; }
no_events_of_volumes() { k delete events -n default --field-selector involvedObject.kind=SwiftblockVolume --wait=false >/dev/null; }
health_is() { [ "$(k get swiftblockvolume "$1" -o jsonpath='{.status.health}')" = "$2" ]; }
conditions_of() { k get swiftblockvolume "$1" -o jsonpath='{.status.conditions[?(@.status=="True")].type}'; }
has_condition() { grep -qw "$2" <<<"$(conditions_of "$1")"; }
has_no_condition() {
	local said
	said=$(conditions_of "$1") && ! grep -qw "$2" <<<"$said"
}

# has_event_of_volume VOLUME REASON [WORDS]
has_event_of_volume() {
	local said
	said=$(k get events -n default --field-selector "involvedObject.kind=SwiftblockVolume,involvedObject.name=$1,reason=$2" \
		-o jsonpath='{range .items[*]}{.type} {.message}{"\n"}{end}' | grep -F -- "${3:-}") &&
		say "$2: $(head -n 1 <<<"$said" | cut -c1-300)"
}

# A node is lost with a pod that writes records, and waits for the disk after each. An
# administrator says that it will not come back: the pod goes on elsewhere with what was published,
# which has no gap and is no older than what was known to be in Swift. A new machine takes the
# node's name.
# shellcheck disable=SC2016 # a program, not for this shell to expand
node_lost() {
	local pod node known written began said
	pod=$(traveller)
	node=$(node_of "$pod")
	in_pod "$pod" sh -c ': >/data/records
	{
		n=0
		while n=$((n + 1)); do echo $n | dd of=/data/records oflag=append conv=notrunc,fsync || exit; done
	} </dev/null >/dev/null 2>&1 &'
	until_true 60 "the pod writes records" has_records "$pod" 20
	known=$(records "$pod")
	published travel
	until_true 60 "the pod writes on" has_records "$pod" $((known + 20))
	kernels_are_content
	written=$(records "$pod")
	cluster node crash "${node#node}"
	become --for=condition=Ready=Unknown "node/$node"
	began=$EPOCHREALTIME
	k taint node "$node" node.kubernetes.io/out-of-service=nodeshutdown:NoExecute >/dev/null
	until_true 240 "the traveller is ready elsewhere" traveller_is_at "$(other_node "$node")"
	say "the pod runs on the other node $(seconds_since "$began") s after the node was given up"
	pod=$(traveller)
	said=$(in_sequence "$pod") || die "$pod: $said"
	has_records "$pod" "$known" || die "$pod has $(records "$pod") records, and $known were in Swift"
	say "of at least $written records $(records "$pod") are there, of which $known had to be"
	cluster node up "${node#node}"
	k taint node "$node" node.kubernetes.io/out-of-service- >/dev/null
	until_true 180 "the DaemonSet's pods ready" daemonset_is_ready
	rolled_out -n kube-system daemonset/host
}

records() { in_pod "$1" sh -c 'wc -l </data/records'; }
has_records() { [ "$(records "$1")" -ge "$2" ]; }

traveller_is_at() { traveller_is_ready && [ "$(node_of "$(traveller)")" = "$1" ]; }

# A node is drained while Swift is away: its pods go, and it is told how much only its journals
# have. Swift comes back, and nothing is left of that; all of it is elsewhere.
drain() {
	local pod node sum left
	# Nobody makes it again, so drain would refuse to end it.
	gone pod writer --ignore-not-found
	until_true 120 "the traveller's volume is the only one that is open" only_open travel
	pod=$(traveller)
	node=$(node_of "$pod")
	# What is written without Swift is written over what is there: to find room for a file, ext4
	# may have to read what is not cached, and would wait.
	writes_64_mib "$pod" /dev/zero
	swift kill proxy
	writes_64_mib "$pod" /dev/urandom
	sum=$(in_pod "$pod" md5sum /data/large)
	k drain "$node" --ignore-daemonsets --delete-emptydir-data "--timeout=$limit" >"$state/log/drain" 2>&1 ||
		die "no drain: $(tail -n 3 "$state/log/drain")"
	until_true 120 "a controller answers" in_driver volume ls --authority kubernetes >/dev/null
	# Not by k: what it says is read while it runs.
	kube timeout "$limit" kubectl -n "$namespace" exec deployment/csi-swiftblock-controller -c controller -- csi-swiftblock \
		nodes left "$node" --wait --authority kubernetes --certificates /etc/csi-swiftblock/certificates 2>"$state/log/left" 3>&- &
	left=$!
	until_true 60 "it is told what is left" grep -q 'Mi left in 1 volumes' "$state/log/left"
	say "$node: $(grep -m 1 'Mi left' "$state/log/left")"
	swift start >/dev/null
	wait $left || die "it is not told that nothing is left: $(tail -n 1 "$state/log/left")"
	expect none "$(host_shell "$node" 'iscsiadm -m session 2>/dev/null | grep swiftblock; echo none')"
	until_true 180 "the traveller is ready elsewhere" traveller_is_at "$(other_node "$node")"
	expect "$sum" "$(in_pod "$(traveller)" md5sum /data/large)"
	k uncordon "$node" >/dev/null
	controllers_are_there
	# Both are on the other node. One goes back, and with it a share of the pods that follow.
	gone -n "$namespace" "$(k -n "$namespace" get pods -l app.kubernetes.io/component=controller -o name | head -n 1)"
	controllers_are_there
}

writes_64_mib() { in_pod "$1" dd "if=$2" of=/data/large bs=1M count=64 conv=notrunc,fsync 2>/dev/null; }
only_open() { [ "$(open_volumes)" = "$(volume_of "$1")" ]; }

# Several Swift accounts: a class whose Secret names another one.
accounts() {
	local volume said
	example account AUTH "$ST_AUTH" USER swiftother:demo KEY "$ST_KEY"
	running pod/archived
	in_pod archived sh -c 'echo archived >/data/file && sync'
	volume=$(volume_of archived)
	said=$(containers swiftother:demo)
	grep -qF "$volume" <<<"$said" || die "the volume is not in its account"
	said=$(containers swiftblock:demo)
	! grep -F "$volume" <<<"$said" || die "the volume is in the driver's account"
	gone pod archived
	example account AUTH "$ST_AUTH" USER swiftother:demo KEY "$ST_KEY"
	running pod/archived
	expect archived "$(in_pod archived cat /data/file)"
	gone pod/archived pvc/archived

	k -n "$namespace" create secret generic stranger --from-literal="ST_AUTH=$ST_AUTH" \
		--from-literal=ST_USER=swiftother:nobody --from-literal="ST_KEY=$ST_KEY" >/dev/null
	class stranger "$(names_secret stranger)"
	claim stranger stranger
	event_of pvc/stranger 'check user, key and project of the credentials' 'credentials refused'
	gone pvc/stranger
	k delete storageclass stranger >/dev/null
	k -n "$namespace" delete secret stranger >/dev/null
}

# The authority is lost: somebody deleted the definitions, and all records with them, and a
# claim besides, while a pod writes. All of it comes back from Swift, and the claim as it was.
# shellcheck disable=SC2016 # a program, not for this shell to expand
disaster() {
	local pod node kept pv size count lost said
	need_writer
	in_pod writer sh -c 'echo kept >/data/file && sync'
	kept=$(volume_of data)
	gone pod writer
	until_true 120 "the volume is closed" closed "$kept"
	until_true 180 "what was deleted is gone from the account of a class, which recovery does not know" no_containers swiftother:demo
	pod=$(traveller)
	node=$(node_of "$pod")
	in_pod "$pod" sh -c 'echo published >/data/file && sync'
	published travel
	in_pod "$pod" sh -c 'i=0; while echo $((i += 1)) >/data/alive && sync; do sleep 0.1; done' 2>/dev/null &

	k -n "$namespace" scale deployment/csi-swiftblock-controller --replicas=0 >/dev/null
	become -n "$namespace" --for=delete pod -l app.kubernetes.io/component=controller
	pv=$(k get pvc data -o jsonpath='{.spec.volumeName}')
	size=$(k get pv "$pv" -o jsonpath='{.spec.capacity.storage}')
	# The sidecars that would take their finalizers away are gone, too.
	k delete "pv/$pv" pvc/data --wait=false >/dev/null
	for lost in "pv/$pv" pvc/data; do
		k patch "$lost" --type=merge -p '{"metadata": {"finalizers": null}}' >/dev/null 2>&1 || true # it may be gone
	done
	become --for=delete "pv/$pv" pvc/data
	k delete -f charts/csi-swiftblock/crds >/dev/null
	count=$(in_pod "$pod" cat /data/alive)
	until_true 30 "the pod writes without an authority" alive_is_past "$pod" "$count"

	k apply -f charts/csi-swiftblock/crds >/dev/null
	become --for=condition=Established crd/swiftblockvolumes.swiftblock.dev crd/swiftblockclaims.swiftblock.dev \
		crd/swiftblocksnapshots.swiftblock.dev crd/swiftblockpins.swiftblock.dev
	recover --dry-run
	said=$(k get swiftblockvolumes -o name)
	expect '' "$said"
	recover
	k get swiftblockvolumes
	k -n "$namespace" scale deployment/csi-swiftblock-controller --replicas=2 >/dev/null
	controllers_are_there

	# What had been deleted a moment ago came back, too, and is deleted again.
	said=$(k get volumesnapshotcontents -o jsonpath='{.items[*].status.snapshotHandle}')
	for lost in $(ids snapshot); do
		grep -qF "$lost" <<<"$said" ||
			in_driver snapshot rm --authority kubernetes --cluster test "$lost" >/dev/null
	done
	said=$(k get pv -o jsonpath='{.items[*].spec.csi.volumeHandle}')
	for lost in $(ids volume); do
		[ "$lost" = "$kept" ] || grep -qF "$lost" <<<"$said" ||
			in_driver volume rm --authority kubernetes --cluster test "$lost" >/dev/null
	done
	until_true 120 "the node that was fenced stops serving" stands_still "$pod"
	gone pod "$pod"
	until_true 240 "the traveller is ready" traveller_is_ready
	expect published "$(in_pod "$(traveller)" cat /data/file)"
	forgiven "$node"

	# The first of static.yaml's manifests, for the claim of claim.yaml, which is made as it was.
	manifest static VOLUME "$kept" imported data 64Mi "$size" | sed '/^---/,$d' | k apply -f - >/dev/null
	become --for=jsonpath='{.status.phase}'=Available pv/data # else another one could be made
	need_writer
	expect "$kept" "$(volume_of data)"
	expect kept "$(in_pod writer cat /data/file)"
	gone pod/writer pvc/data
	k delete pv data >/dev/null
	until_true 60 "the volume is closed" closed "$kept"
	in_driver volume rm --authority kubernetes --cluster test "$kept" >/dev/null
}

alive_is_past() { [ "$(in_pod "$1" cat /data/alive)" -gt "$2" ]; }

stands_still() { says stands in_pod "$1" sh -c '(echo >/data/alive && sync) 2>/dev/null && echo writes || echo stands'; }

closed() {
	local open
	open=$(k get swiftblockvolume "$1" -o jsonpath='{.record.opening.open}') || return
	[ "$open" != true ]
}

# ids volume|snapshot prints the ids of all that the driver has.
ids() { in_driver "$1" ls --authority kubernetes --json | sed -nE 's/^ *"id": *"([^"]+)".*/\1/p'; }

# recover is run by the administrator, who has the cluster's and Swift's credentials.
recover() {
	kube env "OS_CLIENT_CONFIG_FILE=$state/install/clouds.yaml" bin/csi-swiftblock volume recover --authority kubernetes --cluster test "$@"
}

# Claims and snapshots are deleted in any order: what is left of them still works, and at the
# end nothing is left in Swift.
deletion() {
	local seed=${SWIFTBLOCK_SEED:-$RANDOM} object objects
	need_writer
	gone volumesnapshot cut --ignore-not-found
	snapshot
	example restore
	example clone
	running pod/restored pod/cloned
	say "SWIFTBLOCK_SEED=$seed"
	gone deployment --all
	gone pod --all
	objects=$(k get pvc,volumesnapshots -o name | shuf --random-source=<(yes "$seed"))
	for object in $objects; do
		say "$object"
		gone "$object"
	done
	objects=$(k get pv -o name)
	for object in $objects; do become --for=delete "$object"; done
	until_true 240 "no container is left in Swift" no_containers swiftblock:demo swiftother:demo
	objects=$(k get swiftblockvolumes,swiftblocksnapshots -o name)
	expect '' "$objects"
}

no_containers() { # USER...
	local user said
	for user; do
		said=$(containers "$user") || return
		[ -z "$said" ] || { echo "$user has: $(xargs <<<"$said")" >&2 && return 1; }
	done
}
