# shellcheck shell=bash
# journeys.sh: what e2e.sh does in the cluster as its user, one function each; installs.sh and
# operations.sh have what an administrator does. This is their order. Each uses manifests of docs/examples as
# they stand there, and removes what the next does not need.
# shellcheck disable=SC2154,SC2034 # state, namespace and driver come from e2e.sh, journeys goes there

journeys=(
	startup_taint
	dynamic_claim expansion export_killed daemonset_rolled
	snapshot restore clone many_readers
	raw_block bad_input static_import golden_image
	credentials encrypted moving node_lost drain accounts
)
# What takes long: with E2E_FULL=1.
long=(database disaster metrics conditions upgrade uninstall)

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
	until_true 60 "the writer has begun" writer_is_past -1
	before=$(in_pod writer cat /data/count)
	until_true 60 "the writer stands still at $before" writer_is_past "$before"
	expect Running "$(k get pod writer -o jsonpath='{.status.phase}')"
}

writer_is_past() { [ "$(in_pod writer cat /data/count)" -gt "$1" ]; }

# The file system grows under the pod that has it mounted.
expansion() {
	k patch pvc data -p '{"spec": {"resources": {"requests": {"storage": "2Gi"}}}}' >/dev/null
	become --for=jsonpath='{.status.capacity.storage}'=2Gi pvc/data
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
		case $(tr "\0" " " 2>/dev/null <$p/cmdline) in "/usr/local/bin/csi-swiftblock export "*) kill -KILL ${p#/proc/} ;; esac
	done'
	until_true 120 "export restarted" export_was_restarted "$node" "$restarts"
	writer_goes_on
}

export_restarts() {
	k -n "$namespace" get pod "$(node_pod "$1")" -o jsonpath='{.status.containerStatuses[?(@.name=="export")].restartCount}'
}

export_was_restarted() { [ "$(export_restarts "$1")" -gt "$2" ]; }

# A snapshot of a file system in use; what is written afterwards is not in it.
snapshot() {
	in_pod writer sh -c 'echo before >/data/golden && sync'
	example snapshot
	become --for=jsonpath='{.status.readyToUse}'=true volumesnapshot/cut
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

many_readers() {
	example readers
	rolled_out deployment/reader
	local pod
	for pod in $(k get pods -l app=reader -o jsonpath='{.items[*].metadata.name}'); do
		expect before "$(in_pod "$pod" cat /data/golden)"
		expect refused "$(in_pod "$pod" sh -c '(echo x >/data/x) 2>/dev/null && echo written || echo refused')"
	done
	expect 2 "$(k get pods -l app=reader -o jsonpath='{range .items[*]}{.spec.nodeName}{"\n"}{end}' | sort -u | wc -l)"
	gone deployment/reader pvc/library
}

# A database under load: what a snapshot has is consistent, and no row is missing that was
# committed before; nor after its pod was killed.
# shellcheck disable=SC2016 # a program, not for this shell to expand
database() {
	example database
	rolled_out statefulset/database
	local rows=$state/rows before loads
	: >"$rows"
	sql database-0 'create table ledger (n int primary key)' >/dev/null
	in_pod database-0 pgbench -q -i -U postgres >/dev/null 2>&1
	in_pod database-0 pgbench -U postgres -c 2 -T 600 >"$state/log/pgbench" 2>&1 &
	loads=$!
	in_pod database-0 sh -c 'i=0; while i=$((i + 1)); do echo "insert into ledger values ($i) returning n;"; done | psql -U postgres -qAt' \
		>"$rows" 2>/dev/null &
	loads+=" $!"
	until_true 120 "200 rows are committed" committed 200
	before=$(wc -l <"$rows")
	example backup
	become --for=jsonpath='{.status.readyToUse}'=true volumesnapshot/backup
	example database-restored
	running pod/database-restored
	database_is_whole database-restored "$before"

	before=$(wc -l <"$rows")
	k delete pod database-0 --grace-period=0 --force >/dev/null 2>&1
	# shellcheck disable=SC2086 # words
	wait $loads || true # their pod is gone
	rolled_out statefulset/database
	running pod/database-0
	database_is_whole database-0 "$(wc -l <"$rows")"
	gone pod/database-restored pvc/database-restored volumesnapshot/backup statefulset/database pvc/data-database-0
	k delete service/database >/dev/null
}

sql() { in_pod "$1" psql -U postgres -qAt -c "$2"; }
committed() { [ "$(wc -l <"$state/rows")" -ge "$1" ]; }

# database_is_whole POD ROWS: PostgreSQL's own check finds nothing, the load's books balance,
# and the ledger has at least so many rows, without a gap.
database_is_whole() {
	local have
	in_pod "$1" pg_amcheck -U postgres --all --install-missing --heapallindexed || die "$1 is damaged"
	expect t "$(sql "$1" 'select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history)
		and (select sum(tbalance) from pgbench_tellers) = (select sum(bbalance) from pgbench_branches)')"
	have=$(sql "$1" 'select count(*) from ledger')
	expect "$have" "$(sql "$1" 'select max(n) from ledger')"
	[ "$have" -ge "$2" ] || die "$1 has $have rows of $2 that were committed"
	say "$1: $have rows, of which $2 had to be there"
}

raw_block() {
	example block
	running pod/block
	in_pod block sh -c 'printf block | dd of=/dev/data bs=4096 seek=100 conv=fsync 2>/dev/null'
	gone pod block
	example block
	running pod/block
	expect block "$(in_pod block dd if=/dev/data bs=4096 skip=100 count=1 2>/dev/null | tr -d '\0')"
	gone pod/block pvc/block
}

# The pod of a Deployment goes to the other node, and its claim follows.
moving() {
	example deployment
	rolled_out deployment/traveller
	local pod from
	pod=$(traveller)
	from=$(node_of "$pod")
	k cordon "$from" >/dev/null
	gone pod "$pod"
	until_true 180 "the traveller is ready elsewhere" traveller_is_ready
	k uncordon "$from" >/dev/null
	# What was there before makes it ready, too.
	until_true 60 "the traveller has noted both nodes" says "$from $(other_node "$from") " in_pod "$(traveller)" sh -c "tr '\n' ' ' </data/log"
}

traveller() { k get pods -l app=traveller --field-selector=status.phase!=Failed -o jsonpath='{.items[0].metadata.name}'; }
traveller_is_ready() { k wait --for=condition=Ready pod -l app=traveller --timeout=5s >/dev/null 2>&1; }

# What a user or an administrator does wrong is told by an event that says what to do.
bad_input() {
	local said
	class unknown '{colour: blue}'
	claim unknown unknown
	event_of pvc/unknown 'unknown; known are' colour journalSize

	class keyless "$(names_secret nobody)"
	claim keyless keyless
	event_of pvc/keyless 'error getting secret' nobody 'not found'

	k -n "$namespace" create secret generic wrong-key --from-literal=ST_KEY=wrong \
		--from-literal="$(grep ^ST_AUTH= "$state/swift.env")" --from-literal="$(grep ^ST_USER= "$state/swift.env")" >/dev/null
	class locked "$(names_secret wrong-key)"
	claim locked locked
	event_of pvc/locked 'check user, key and project of the credentials' 'credentials refused'

	class unsealed '{encryption: aes-256-gcm}'
	claim unsealed unsealed
	event_of pvc/unsealed 'a class with encryption needs encryptionKey'

	k -n "$namespace" create secret generic short-key --from-literal=encryptionKey=secret >/dev/null
	class short "$(names_secret short-key 'encryption: aes-256-gcm')"
	claim short short
	event_of pvc/short 'want 32 random bytes in base64' encryptionKey 'openssl rand -base64 32'

	k get volumesnapshot cut >/dev/null 2>&1 || snapshot
	gone volumesnapshot/cut
	claim orphan swiftblock 'dataSource: {apiGroup: snapshot.storage.k8s.io, kind: VolumeSnapshot, name: cut}'
	event_of pvc/orphan 'error getting snapshot' '"cut" not found'

	said=$(k patch pvc data -p '{"spec": {"resources": {"requests": {"storage": "512Mi"}}}}' 2>&1) && die "a claim could shrink"
	explained 'field can not be less than'
	grep -qF 'field can not be less than' <<<"$said" || die "the refusal does not say why: $said"

	gone pvc/unknown pvc/keyless pvc/locked pvc/unsealed pvc/short pvc/orphan
	k delete storageclass unknown keyless locked unsealed short >/dev/null
	k -n "$namespace" delete secret wrong-key short-key >/dev/null
}

# names_secret SECRET [MORE] prints the parameters of a class that names a Secret.
names_secret() {
	echo "{csi.storage.k8s.io/provisioner-secret-name: $1, csi.storage.k8s.io/provisioner-secret-namespace: $namespace${2:+, $2}}"
}

class() { # NAME PARAMETERS
	k apply -f - >/dev/null <<-END
		{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: $1}, provisioner: $driver, parameters: $2}
	END
}

claim() { # NAME CLASS [MORE]
	k apply -f - >/dev/null <<-END
		apiVersion: v1
		kind: PersistentVolumeClaim
		metadata: {name: $1}
		spec:
		  storageClassName: $2
		  accessModes: [ReadWriteOnce]
		  resources: {requests: {storage: 1Gi}}
		  ${3:-}
	END
}

# event_of KIND/NAME WORDS... waits for one event of the object that has all of the words. The
# first are those by which docs/operations.md says what to do.
event_of() {
	explained "$2"
	until_true 90 "an event of $1 that says ${*:2}; there is: $(events_of "$1")" has_event "$@"
	say "$1: $(events_of "$1" | grep -F -- "$2" | tail -n 1 | cut -c1-400)"
}

explained() { grep -qF -- "$1" docs/operations.md || die "docs/operations.md does not explain \"$1\""; }

events_of() { k get events --field-selector "involvedObject.name=${1#*/}" -o jsonpath='{range .items[*]}{.message}{"\n"}{end}'; }

has_event() {
	local said words
	said=$(events_of "$1") || return
	for words in "${@:2}"; do said=$(grep -F -- "$words" <<<"$said") || return 1; done
}

# An image is imported, used by a claim that names the volume, and cut; the snapshot outlives both.
static_import() {
	local image=$state/image volume
	mkdir -p "$image"
	echo imported >"$image/golden"
	truncate -s 64M "$image.raw"
	mkfs.ext4 -q -F -d "$image" "$image.raw"
	volume=$(in_driver image import --authority kubernetes --cluster test --name golden --size 64Mi --json - <"$image.raw" |
		sed -nE 's/.*"volume": *"([^"]+)".*/\1/p')
	[ -n "$volume" ] || die "image import does not say which volume it has made"
	example static VOLUME "$volume"
	running pod/imported
	expect imported "$(in_pod imported cat /data/golden)"
	example snapshot cut image data imported
	become --for=jsonpath='{.status.readyToUse}'=true volumesnapshot/image
	gone pod/imported pvc/imported
	gone pv/imported
	until_true 120 "the volume is closed" closed "$volume"
	in_driver volume rm --authority kubernetes --cluster test "$volume" >/dev/null
}

# The image of static_import for many pods.
golden_image() {
	example golden cut image
	rolled_out statefulset/worker
	local i
	for i in 0 1 2; do
		expect imported "$(in_pod worker-$i cat /data/golden)"
		until_true 60 "worker-$i has written to its copy" says worker-$i in_pod worker-$i cat /data/mine
	done
	k delete service/workers >/dev/null
	gone statefulset/worker volumesnapshot/image
	become --for=delete pvc/data-worker-0 pvc/data-worker-1 pvc/data-worker-2
}

# What a volume of an encrypted class holds is not to be read in Swift, where that of another
# one is. It is cloned, and used again, after the class's key was exchanged, and once more when
# the former key is gone.
encrypted() {
	local key next mark plain names said
	key=$(openssl rand -base64 32) next=$(openssl rand -base64 32)
	example encrypted KEY "$key"
	running pod/diary
	mark=$(writes_mark diary) plain=$(writes_mark writer)
	published diary
	published data
	in_swift "$plain" || die "what a plain volume holds is not found in Swift: not to find it proves nothing"
	! in_swift "$mark" || die "what an encrypted volume holds is found in Swift"
	k -n "$namespace" patch secret vault -p "{\"stringData\": {\"encryptionKey\": \"$next\", \"encryptionKeyPrevious\": \"$key\"}}" >/dev/null
	claim copy vault 'dataSource: {kind: PersistentVolumeClaim, name: diary}'
	gone pod diary
	example encrypted KEY "$next"
	k run copy --image=swiftblock.test/busybox:test --restart=Never --overrides='{"spec": {
		"terminationGracePeriodSeconds": 1, "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "copy"}}],
		"containers": [{"name": "copy", "image": "swiftblock.test/busybox:test", "command": ["sleep", "86400"],
			"volumeMounts": [{"name": "data", "mountPath": "/data"}]}]}}' >/dev/null
	running pod/diary pod/copy
	expect "$mark" "$(mark_of diary)"
	expect "$mark" "$(mark_of copy)"
	k -n "$namespace" patch secret vault --type=json -p '[{"op": "remove", "path": "/data/encryptionKeyPrevious"}]' >/dev/null
	said=$(class_keys)
	mapfile -t names <<<"$said"
	expect 2 ${#names[@]}
	said=$(in_driver keys forget --authority kubernetes "${names[0]}" 2>&1) && die "a key that a volume needs was forgotten"
	grep -qF 'wraps the keys of' <<<"$said" || die "the refusal does not say why: $said"
	in_driver keys rewrap --authority kubernetes --cluster test "${names[@]}" >&2
	in_driver keys forget --authority kubernetes "${names[0]}"
	expect "${names[1]}" "$(class_keys)"
	claim again vault 'dataSource: {kind: PersistentVolumeClaim, name: diary}'
	gone pod diary
	example encrypted KEY "$next"
	become --for=jsonpath='{.status.phase}'=Bound pvc/again
	running pod/diary
	expect "$mark" "$(mark_of diary)"
	gone pod/diary pod/copy pvc/diary pvc/copy pvc/again
	k delete storageclass vault >/dev/null
	k -n "$namespace" delete secret vault >/dev/null
}

# class_keys prints the names of the keys that wrap something, the one of the oldest volume first.
class_keys() { in_driver keys ls --authority kubernetes | sed 1d | sort -k 3,4 | awk '{print $1}'; }

# writes_mark POD has a pod write a mark, among what nothing can compress, and prints the mark.
writes_mark() {
	local mark
	mark=$(openssl rand -hex 16)
	in_pod "$1" sh -c "{ printf $mark; head -c 65536 /dev/urandom; } >/data/noise && sync"
	echo "$mark"
}

mark_of() { in_pod "$1" head -c 32 /data/noise; }
in_swift() { grep -qraF "$1" "$state/swift/disks"; }

# published CLAIM waits until all that was written to a claim is in Swift: that is what a
# snapshot waits for.
published() {
	k apply -f - >/dev/null <<-END
		apiVersion: snapshot.storage.k8s.io/v1
		kind: VolumeSnapshot
		metadata: {name: published-$1}
		spec: {volumeSnapshotClassName: swiftblock, source: {persistentVolumeClaimName: $1}}
	END
	become --for=jsonpath='{.status.readyToUse}'=true "volumesnapshot/published-$1"
	gone "volumesnapshot/published-$1"
}
