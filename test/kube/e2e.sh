#!/bin/bash
# e2e.sh [JOURNEY...]: what users do, on a real Kubernetes of two nodes with our chart: the
# cluster of cluster.sh, the chart installed by helm, and then the journeys of journeys.sh,
# installs.sh and operations.sh with real pods, and a part of Kubernetes' own suite for storage drivers;
# or the journeys that are named (install is the first, where there is a choice).
#
#   KEEP=1       leave the cluster: the next run finds it
#   E2E_FULL=1   also the journeys that take long, and the whole suite: hours
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
# shellcheck source=hack/lib.sh
. hack/lib.sh
# shellcheck source=test/kube/kubectl.sh
. test/kube/kubectl.sh
# shellcheck source=test/kube/journeys.sh
. test/kube/journeys.sh
# shellcheck source=test/kube/reboots.sh
. test/kube/reboots.sh
# shellcheck source=test/kube/installs.sh
. test/kube/installs.sh
# shellcheck source=test/kube/operations.sh
. test/kube/operations.sh

# shellcheck disable=SC2153 # ST_KEY and ST_AUTH are in swift.env
state=$(realpath -m "${KUBE_STATE:-.cache/kube}")
export KUBE_STATE=$state
namespace=storage
driver=csi.swiftblock.dev
# Limits of time bound what hangs, and are no part of what is asserted: a machine may be several times
# slower than the one on which they were found.
limit=600s
patience=3

main() {
	need_root "a cluster of its own"
	mkdir -p "$state/log"
	exec 3>&2 2> >(exec tee "$state/log/said" >&3)
	local began whole=$EPOCHREALTIME
	trap finish EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	if [ $# = 0 ]; then
		set -- "${journeys[@]}" suite_subset deletion
		[ -z "${E2E_FULL:-}" ] || set -- "${journeys[@]}" "${long[@]}" suite deletion
	fi
	if [ -z "${KEEP:-}" ]; then # what only these want of images, nodes need not take in
		case " $* " in *" database "* | *" upgrade "*) ;; *) export FEW_IMAGES=1 ;; esac
	fi
	# What takes all processors is done before there is a cluster, which would not be served in time.
	case " $* " in *" suite"*) test/kube/suite.sh prepare ;; esac
	cluster up
	eval "$(test/kube/cluster.sh env)"
	# shellcheck source=/dev/null
	. "$state/swift.env"
	hosts
	for journey; do
		began=$EPOCHREALTIME
		$journey
		kernels_are_content
		say "$journey: passed in $(seconds_since "$began") s"
	done
	say "passed: $# journeys in $(seconds_since "$whole") s, with the start of the cluster"
}

finish() {
	local status=$?
	exec 2>&3
	if [ $status != 0 ] && declare -F kube >/dev/null; then diagnose >&2 || true; fi
	[ -z "${prometheus:-}" ] || kill "$prometheus" 2>/dev/null || true
	[ -n "${KEEP:-}" ] || cluster down || say "the cluster has left something in $state"
	exit $status
}

# diagnose prints what tells why a journey failed, the most telling last.
diagnose() {
	local unheard_tries=1
	k get nodes,pods,pvc,volumesnapshots,volumeattachments -A -o wide
	k get events -A --sort-by=.lastTimestamp | tail -n 20
	local pod container node
	for pod in $(k -n "$namespace" get pods -o name); do
		for container in $(k -n "$namespace" get "$pod" -o jsonpath='{.spec.containers[*].name}'); do
			echo "--- $pod $container" && k -n "$namespace" logs "$pod" -c "$container" --tail=6
		done
	done
	test/guest/guest.sh look "${KUBE_NETNS:-sbkube}" 2>"$state/log/look"
	for node in node1 node2; do
		kube timeout 20 ssh -i "$state/ssh.key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \
			"root@$(k get node $node -o jsonpath='{.status.addresses[0].address}')" \
			'ps -eo stat,pcpu,wchan:20,args --sort=-pcpu | head -n 4 | cut -c1-90' || say "$node does not answer"
	done
	cut -c1-300 "$state/log/look"
	k get nodes
	k get pods -A | grep -vE ' ([0-9]+)/\1 +Running | Completed ' | tail -n 4 | cut -c1-160
	k get events -A --field-selector type=Warning --sort-by=.metadata.creationTimestamp | tail -n 4 | cut -c1-200
	machine
	tail -n 6 "$state/log/said" | cut -c1-200
	say "${journey:-the cluster}: failed"
}

# cluster keeps our stderr from the daemons that it starts: with KEEP they outlive us.
cluster() { test/kube/cluster.sh "$@" 3>&-; }

suite_subset() { test/kube/suite.sh subset; }

# suite writes what came out of it into the tree, to be committed.
suite() {
	local status=0
	# One of its specs wants to give a node as many volumes as it may have, by one pod.
	gone pod writer --ignore-not-found
	test/kube/suite.sh || status=$?
	go run ./test/kube/report -of "$(<"$state/suite/of")" "$state"/suite/*/junit_01.xml >test/kube/results.md
	return $status
}

# in_driver COMMAND... runs our command line beside the controller, with our stdin.
in_driver() {
	k -n "$namespace" exec -i deployment/csi-swiftblock-controller -c controller -- csi-swiftblock "$@"
}

# example NAME [VALUE...] applies a manifest of docs/examples; manifest prints it, with the images
# of the test cluster and, where it has a place for a value, the pairs NAME VALUE put in.
example() { manifest "$@" | k apply -f - >/dev/null; }
manifest() {
	local file=docs/examples/$1.yaml edits=(-e 's#image: (busybox|postgres):.*#image: swiftblock.test/\1:test#')
	shift
	while [ $# -gt 0 ]; do
		edits+=(-e "s#\b$1\b#$2#")
		shift 2
	done
	sed -E "${edits[@]}" "$file"
}

# become waits until something is what kubectl wait can wait for.
become() { k wait "$@" "--timeout=$limit" >/dev/null; }
running() { become --for=condition=Ready "$@"; }
rolled_out() { k rollout status "$@" "--timeout=$limit" >/dev/null; }
gone() { k delete "$@" --wait "--timeout=$limit" >/dev/null; }
in_pod() { k exec "$1" -- "${@:2}"; }

# says WANT COMMAND...: that is what it prints.
says() { [ "$("${@:2}")" = "$1" ]; }

# expect WANT GOT
expect() { [ "$2" = "$1" ] || die "want \"$1\", have \"$2\""; }

# until_true SECONDS WHAT COMMAND... tries the command until it succeeds, for so long or, on a slow
# machine, some times as long. What the last attempt had to say is heard, of those before nothing.
until_true() {
	local until=$((SECONDS + $1 * patience)) what=$2 said=$state/log/attempt
	shift 2
	until "$@" 2>"$said"; do
		[ $SECONDS -lt $until ] || { cat "$said" >&2 && die "not in time: $what"; }
		sleep 1
	done
	cat "$said" >&2
}

# node_of POD prints the node that a pod is on; other_node NODE the one that is not NODE.
node_of() { k get pod "$1" -o jsonpath='{.spec.nodeName}'; }
other_node() { [ "$1" = node1 ] && echo node2 || echo node1; }

# node_pod NODE prints the driver's pod on a node.
node_pod() {
	k -n "$namespace" get pods -l app.kubernetes.io/component=node --field-selector "spec.nodeName=$1" \
		-o jsonpath='{.items[0].metadata.name}'
}

# hosts starts a pod on each node through which the tests see the host, whether or not the
# driver is there, and until late when the node goes down.
hosts() {
	k apply -f - >/dev/null <<-END
		apiVersion: apps/v1
		kind: DaemonSet
		metadata: {name: host, namespace: kube-system}
		spec:
		  selector: {matchLabels: {app: host}}
		  template:
		    metadata: {labels: {app: host}}
		    spec:
		      hostNetwork: true
		      hostPID: true
		      priorityClassName: system-node-critical
		      terminationGracePeriodSeconds: 1
		      tolerations: [{operator: Exists}]
		      containers:
		        - {name: host, image: "swiftblock.test/busybox:test", command: [sleep, "86400"], securityContext: {privileged: true}}
	END
	rolled_out -n kube-system daemonset/host
}

# host_shell NODE COMMAND runs a shell command as root in the namespaces of a node.
host_shell() {
	local pod
	pod=$(k -n kube-system get pods -l app=host --field-selector "spec.nodeName=$1,status.phase=Running" -o jsonpath='{.items[0].metadata.name}')
	k -n kube-system exec "$pod" -- nsenter -t 1 -m -u sh -c "$2"
}

# kernels_are_content reads the nodes' kernel logs.
kernels_are_content() {
	local node said
	for node in node1 node2; do
		host_shell $node dmesg >"$state/log/$node.dmesg"
		said=$(no_io_errors "$state/log/$node.dmesg" 2>&1) || die "$node: $said"
	done
}

# forgiven NODE empties the kernel log of a node that lost its volumes: their I/O errors are
# what must be.
forgiven() { host_shell "$1" 'dmesg -c' >"$state/log/$1.forgiven"; }

# containers USER prints the names of the containers in a Swift account. That it cannot tell is
# something else than that there is none.
containers() {
	local said
	said=$(kube curl -sSf -D - -o /dev/null -H "X-Auth-User: $1" -H "X-Auth-Key: $ST_KEY" "$ST_AUTH" | tr -d '\r') || return
	kube curl -sSf -H "X-Auth-Token: $(sed -n 's/^X-Auth-Token: //Ip' <<<"$said")" "$(sed -n 's/^X-Storage-Url: //Ip' <<<"$said")"
}

# volume_of CLAIM prints the id of a claim's volume.
volume_of() { k get pv "$(k get pvc "$1" -o jsonpath='{.spec.volumeName}')" -o jsonpath='{.spec.csi.volumeHandle}'; }

main "$@"
