#!/bin/bash
# cluster.sh: a real Kubernetes on this machine, with nodes whose kernels have an iSCSI
# initiator, and a real Swift beside it. No image registry, no systemd, no docker.
#
#   cluster.sh up                 build what is missing, start everything, wait until the nodes are ready
#   cluster.sh node up|crash I    boot node I; end it like a machine that is lost, with its disk
#                                 (that of a guest goes with it, that of a machine does not)
#   cluster.sh env                what to eval to use it: KUBECONFIG, PATH, the function kube
#   cluster.sh down               stop everything and remove its state
#
# Everything is in a network namespace of its own: etcd, the API server, its controllers
# and Swift at 10.77.0.1, the nodes node1 and node2 at 10.77.0.2 and 10.77.0.3, guests of
# test/guest; pods of node I have addresses in 10.244.I.0/24. The state (keys, logs) is in
# KUBE_STATE, by default .cache/kube in the tree. With a KUBE_NETNS (sbkube) of its own,
# a second cluster runs beside the first. KUBE_NODES says what the nodes are ("guest guest"):
# guests of test/guest, which are fast, or machines of machine.sh, which have systemd.
#
# The cluster trusts everybody in its namespace; it is for tests.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
# shellcheck source=hack/lib.sh
. hack/lib.sh

state=$(realpath -m "${KUBE_STATE:-.cache/kube}")
netns=${KUBE_NETNS:-sbkube}
host=10.77.0.1
read -ra kinds <<<"${KUBE_NODES:-guest guest}"
nodes=${#kinds[@]}
node_address() { echo "10.77.0.$((1 + $1))"; }
export GUEST_PACKAGES=ca-certificates,conntrack,containerd,containernetworking-plugins,dropbear-bin,ethtool,iptables,runc,socat

bins=$(test/kube/build.sh)

inside() { nsenter "--net=/run/netns/$netns" "$@"; }
kubectl() { inside "$bins/kubectl" --kubeconfig "$state/admin.kubeconfig" "$@"; }

# launch NAME COMMAND...: starts a daemon in the namespace. It is running, or has ended, afterwards:
# at first it is a copy of this shell.
launch() {
	local name=$1
	shift
	! running "$name" || return 0
	setsid nsenter "--net=/run/netns/$netns" "$@" >>"$state/log/$name.log" 2>&1 </dev/null &
	echo $! >"$state/run/$name"
	until running "$name" || ! kill -0 $! 2>/dev/null; do sleep 0.05; done
}

# keep NAME COMMAND...: the same with one that is started again when it ends: those of Kubernetes give
# up where its API does not answer in ten seconds.
# shellcheck disable=SC2016 # a program, not for this shell to expand
keep() { launch "$1" bash -c 'while :; do "$@"; echo "$0 has ended with status $?"; sleep 1; done' "$@"; }

# running NAME: it is alive, and still the process that we started.
running() {
	local pid
	pid=$(cat "$state/run/$1" 2>/dev/null) && tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF -e "$bins/" -e guest.sh -e machine.sh
}

# finish NAME SIGNAL ends a daemon with all of its process group.
finish() {
	local pid tries=50
	if running "$1"; then
		pid=$(<"$state/run/$1")
		kill "-$2" -- "-$pid" 2>/dev/null || true
		while running "$1" && ((tries-- > 0)); do sleep 0.1; done
		kill -KILL -- "-$pid" 2>/dev/null || true
		tries=50 # it is not gone at once, and may write as long
		while running "$1" && ((tries-- > 0)); do sleep 0.1; done
	fi
	rm -f "$state/run/$1"
}

# await WHAT SECONDS DAEMON COMMAND...: until COMMAND succeeds. If it does not in time, or the daemon
# that it takes has ended, the last that was heard of both stands at the end.
await() {
	local what=$1 until=$((SECONDS + $2)) daemon=$3 log
	shift 3
	until "$@" >"$state/log/attempt" 2>&1; do
		if [ $SECONDS -ge $until ] || ! running "$daemon"; then
			for log in "$state/log/$daemon".* "$state/log/attempt"; do
				[ ! -s "$log" ] || { echo "--- $log" && tail -n 3 "$log" | cut -c1-240; } >&2
			done
			running "$daemon" || die "$what is not ready, as $daemon has ended: its last words are above"
			die "$what is not ready after $SECONDS s: see above"
		fi
		sleep 0.3
	done
}

# user NAME GROUP... makes a token for a user, and the kubeconfig NAME that uses it.
user() {
	local token
	token=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
	echo "$token,$2,$1,\"${3:-}\"" >>"$state/tokens.csv"
	cat >"$state/$1.kubeconfig" <<-END
		apiVersion: v1
		kind: Config
		clusters: [{name: test, cluster: {server: "https://$host:6443", certificate-authority: $state/apiserver.crt}}]
		users: [{name: user, user: {token: $token}}]
		contexts: [{name: test, context: {cluster: test, user: user}}]
		current-context: test
	END
}

configure() {
	mkdir -p "$state"/{log,run}
	[ ! -s "$state/tokens.csv" ] || return 0
	openssl ecparam -name prime256v1 -genkey -noout -out "$state/accounts.key"
	ssh-keygen -q -t ed25519 -N '' -C '' -f "$state/ssh.key"
	user admin admin system:masters
	user controllers system:kube-controller-manager
	user scheduler system:kube-scheduler
	user proxy system:kube-proxy
	local i
	for ((i = 1; i <= nodes; i++)); do user "node$i" "system:node:node$i" system:nodes; done
}

control_plane() {
	launch etcd "$bins/etcd" --name e --data-dir "$state/etcd" --unsafe-no-fsync --log-level warn
	launch kube-apiserver "$bins/kube-apiserver" --etcd-servers http://127.0.0.1:2379 \
		--bind-address 0.0.0.0 --advertise-address $host --cert-dir "$state" \
		--token-auth-file "$state/tokens.csv" --authorization-mode Node,RBAC \
		--enable-admission-plugins NodeRestriction --allow-privileged \
		--service-cluster-ip-range 10.96.0.0/16 --service-account-issuer https://kubernetes.default.svc \
		--service-account-key-file "$state/accounts.key" --service-account-signing-key-file "$state/accounts.key" \
		--kubelet-preferred-address-types InternalIP
	await "the API server" 600 kube-apiserver kubectl get --raw /readyz
	# These end at once where the roles are not there yet.
	keep kube-controller-manager "$bins/kube-controller-manager" --kubeconfig "$state/controllers.kubeconfig" \
		--root-ca-file "$state/apiserver.crt" --service-account-private-key-file "$state/accounts.key" \
		--use-service-account-credentials --leader-elect=false
	keep kube-scheduler "$bins/kube-scheduler" --kubeconfig "$state/scheduler.kubeconfig" --leader-elect=false
	local snapshots
	modules test/kube/tools/csi github.com/kubernetes-csi/external-snapshotter/client/v8/... # its directory may have gone
	snapshots=$(go -C test/kube/tools/csi list -m -f '{{.Dir}}' github.com/kubernetes-csi/external-snapshotter/client/v8)/config/crd
	await "the definitions of snapshots" 120 kube-apiserver kubectl apply -k "$snapshots"
	keep snapshot-controller "$bins/snapshot-controller" --kubeconfig "$state/admin.kubeconfig"
	await "the first service account" 300 kube-controller-manager kubectl -n default get serviceaccount default
}

# network makes the namespace and the ways to the nodes and their pods.
network() {
	[ ! -e "/run/netns/$netns" ] || return 0
	test/guest/guest.sh net up "$netns" "$nodes"
	local i
	for ((i = 1; i <= nodes; i++)); do inside ip route add "10.244.$i.0/24" via "$(node_address "$i")"; done
	inside ip route add default via "$(node_address 1)" # the API server wants one; nothing is behind it
}

node_boot() { # I
	local node=("$1" "$(node_address "$1")" "$host" "$state" "$bins")
	case ${kinds[$1 - 1]} in
	guest)
		launch "node$1" test/guest/guest.sh run -n "$netns" -g $(($1 - 1)) -m 3G -d 40G -t 86400 -l "$state/log/node$1.kernel" -- \
			test/kube/node.sh "${node[@]}"
		;;
	machine) launch "node$1" test/kube/machine.sh run "${node[@]}" ;;
	*) die "KUBE_NODES: guest and machine are known, not ${kinds[$1 - 1]}" ;;
	esac
}

node_await() { # I
	local limit=1200 # on a machine that has other work to do, too
	[ "${kinds[$1 - 1]}" = guest ] || limit=1800
	await "node$1" $limit "node$1" kubectl wait --for=condition=Ready "node/node$1" --timeout=5s
}

up() {
	need_root "a cluster of its own"
	need_packages iproute2 openssh-client openssl procps util-linux
	local began=$EPOCHREALTIME
	guest_begin
	trap guest_abandon EXIT
	# Here, as from within the namespace no package can be fetched.
	case " ${kinds[*]} " in *" machine "*) test/kube/machine.sh build ;; esac
	configure
	network
	control_plane
	PORT=28480 swift_up "$state/swift" $host nsenter "--net=/run/netns/$netns"
	printf '%s\n' "${swift[@]}" >"$state/swift.env"
	running node1 || test/kube/images.sh "$state/images" "$bins" # nodes take them in when they start
	guest_await || exit 1
	local i
	for ((i = 1; i <= nodes; i++)); do node_boot "$i"; done
	for ((i = 1; i <= nodes; i++)); do node_await "$i"; done
	say "up in $(seconds_since "$began") s"
}

down() {
	local name i
	for ((i = 1; i <= nodes; i++)); do finish "node$i" TERM; done
	for name in snapshot-controller kube-scheduler kube-controller-manager kube-apiserver etcd; do
		finish $name TERM
	done
	[ ! -e "$state/swift" ] || swift_wipe "$state/swift"
	[ ! -e "/run/netns/$netns" ] || test/guest/guest.sh net down "$netns"
	rm -rf "$state" || { sleep 2 && rm -rf "$state"; } # a guest that was killed may have written as long
}

case ${1:-} in
up) up ;;
down) down ;;
node)
	case ${2:-}${3:-} in
	up[1-"$nodes"]) node_boot "$3" && node_await "$3" ;;
	crash[1-"$nodes"]) finish "node$3" KILL ;;
	*) die "node up I, or node crash I; I is 1 to $nodes" ;;
	esac
	;;
env)
	echo "export KUBECONFIG=$state/admin.kubeconfig; PATH=$bins:\$PATH; kube() { nsenter --net=/run/netns/$netns \"\$@\"; }"
	;;
*)
	sed -n '2,/^set/{/^#/s/^# \?//p}' "$0"
	exit 2
	;;
esac
