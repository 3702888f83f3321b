# shellcheck shell=bash
# reboots.sh: the journeys of reboot.sh. Node2 is a machine with systemd.
#
# Two pods on it write one record after the other, and tell a witness on node1 of each that
# was written: writer-0 when it is synced, writer-1 at once, so that its newest records are
# in the page cache alone. When they start they tell how many they have found.
# shellcheck disable=SC2154,SC2016 # state and namespace come from e2e.sh; programs are not for this shell to expand

reboot_limit=300 # seconds that going down may take, on a machine that is emulated

reboots_install() {
	k cordon node2 >/dev/null # the controller is to stay
	install
	k uncordon node2 >/dev/null
	k apply -f - >/dev/null <<-'END'
		apiVersion: v1
		kind: Pod
		metadata: {name: witness, labels: {app: witness}}
		spec:
		  nodeSelector: {kubernetes.io/hostname: node1}
		  containers:
		    - name: main
		      image: swiftblock.test/busybox:test
		      command: [nc, -ll, -p, "7000", -e, /bin/sh, -c, "cat >>/tmp/told"]
		---
		apiVersion: v1
		kind: Service
		metadata: {name: witness}
		spec: {selector: {app: witness}, ports: [{port: 7000}]}
		---
		apiVersion: apps/v1
		kind: StatefulSet
		metadata: {name: writer}
		spec:
		  serviceName: writer
		  replicas: 2
		  podManagementPolicy: Parallel
		  selector: {matchLabels: {app: writer}}
		  template:
		    metadata: {labels: {app: writer}}
		    spec:
		      nodeSelector: {kubernetes.io/hostname: node2}
		      terminationGracePeriodSeconds: 5
		      containers:
		        - name: main
		          image: swiftblock.test/busybox:test
		          command:
		            - sh
		            - -c
		            - |
		              touch /data/records
		              n=$(wc -l </data/records)
		              { echo $HOSTNAME found $n
		              while n=$((n + 1)); do
		                case $HOSTNAME in
		                writer-0) echo $n | dd of=/data/records oflag=append conv=notrunc,fsync 2>/dev/null || exit 1 ;;
		                *) echo $n >>/data/records || exit 1; sleep 0.1 ;;
		                esac
		                echo $HOSTNAME $n
		              done; } | nc $WITNESS_SERVICE_HOST 7000
		          volumeMounts: [{name: data, mountPath: /data}]
		  volumeClaimTemplates:
		    - metadata: {name: data}
		      spec: {storageClassName: swiftblock, accessModes: [ReadWriteOnce], resources: {requests: {storage: 2Gi}}}
	END
	running pod/witness
	until_true 600 "the writers write" writers_write
}

# told WRITER prints the last record that the witness was told of.
told() { in_pod witness awk -v name="$1" '$1 == name && $2 != "found" { last = $2 } END { print last + 0 }' /tmp/told; }

# lost WRITER prints what a writer has told of and did not find when it started again, and
# fails if that is anything; else it prints how often it has started, and with how much.
lost() {
	in_pod witness awk -v name="$1" '
		$1 != name { next }
		$2 != "found" { last = $2; next }
		{ starts++; found = $3 }
		$3 < last { print name " had told of " last " records, and found " $3; bad = 1 }
		END { if (bad) exit 1; print name " has started " starts " times, at last with " found " records, and lost none" }' /tmp/told
}

# writers_write: each has told of more than a moment ago.
writers_write() {
	local writer before
	for writer in writer-0 writer-1; do
		before=$(told $writer) && sleep 5 && [ "$(told $writer)" -gt "$before" ] || return 1
	done
}

# in_sequence WRITER: its records are 1, 2, 3…
in_sequence() { in_pod "$1" awk '$1 != NR { print "record " NR " is " $1; exit 1 }' /data/records; }

# kept WRITER: it has lost nothing.
kept() {
	local said
	said=$(lost "$1" && in_sequence "$1") || die "$1: $said"
	say "$said"
}

# reboot reboots node2 and waits until it comes up again, which it prints the times of. With a
# limit that is given it prints "never" when it is still there by then.
reboot() { # [LIMIT]
	local began=$EPOCHREALTIME boot until=$((SECONDS + ${1:-$reboot_limit}))
	boot=$(machine_boot)
	host_shell node2 'systemctl reboot' || true
	until went_down "$began" >"$state/down"; do
		if [ $SECONDS -gt $until ]; then
			[ -n "${1:-}" ] || die "node2 does not go down within $reboot_limit s: see $state/log/node2.console"
			echo never
			return
		fi
		sleep 1
	done
	say "node2 went down in $(<"$state/down") s"
	until_true 900 "node2 is back" machine_is_back "$boot"
	say "node2 is ready $(seconds_since "$began") s after the reboot began"
}

# went_down SINCE prints how long it took.
went_down() {
	awk -v since="$1" '$1 > since && /reboot: Restarting system/ { printf "%.1f", $1 - since; found = 1; exit } END { exit !found }' "$state/log/node2.console"
}

machine_boot() { k get node node2 -o jsonpath='{.status.nodeInfo.bootID}'; }

machine_is_back() {
	[ "$(machine_boot)" != "$1" ] && k wait --for=condition=Ready node/node2 --timeout=5s >/dev/null 2>&1
}

# nothing_is_lost: the writers write on, and have what they had told of. Their file systems were
# unmounted: the journal of none had to be replayed.
nothing_is_lost() { # SINCE
	until_true 900 "the writers write again" writers_write
	kept writer-0
	kept writer-1
	expect nothing "$(host_shell node2 'dmesg | grep -E "EXT4-fs (error|warning)|EXT4-fs .sd.*recovery|blocked for more than|Call Trace|I/O error"; echo nothing')"
	expect "0 0" "$(host_shell node2 'cat /sys/fs/ext4/sd*/errors_count' | xargs)"
	if awk -v since="$1" '$1 > since' "$state/log/node2.console" | grep -E 'blocked for more than|Call Trace|EXT4-fs error'; then
		die "the console shows what is above"
	fi
}

# All is there, and kubelet ends pods before the driver.
reboot_in_order() {
	local began=$EPOCHREALTIME
	unit_is_there
	tools_ran_in_units
	reboot
	nothing_is_lost "$began"
	unit_is_there
}

unit_is_there() { until_true 120 "the host unit is active" host_shell node2 'systemctl is-active -q csi-swiftblock-host.service'; }

# tools_ran_in_units: the host's systemd knows of what was run for the volumes.
tools_ran_in_units() {
	local tool units
	units=$(host_shell node2 'journalctl -q -o cat _PID=1 | grep -oE "csi-swiftblock-[a-z0-9.]+-[0-9a-f]{16}[.]service" | sort -u')
	for tool in mkfs.ext4 mount; do
		grep -q "^csi-swiftblock-$tool-" <<<"$units" || die "$tool ran in no unit of the host: $units"
	done
	say "run in units of the host: $(sed -E 's/^csi-swiftblock-(.*)-.*/\1/' <<<"$units" | sort -u | xargs)"
}

# The driver's pod has gone and does not come back: writers wait, nobody unmounts, and what
# writer-1 has in the page cache has nowhere to go but to what the unit starts.
reboot_without_export() {
	local began=$EPOCHREALTIME
	driver_leaves
	reboot
	driver_returns
	nothing_is_lost "$began"
}

driver_leaves() {
	local pod
	pod=$(node_pod node2)
	k -n "$namespace" patch daemonset csi-swiftblock-node --type merge \
		-p '{"spec": {"template": {"spec": {"nodeSelector": {"kubernetes.io/hostname": "node1"}}}}}' >/dev/null
	k -n "$namespace" wait --for=delete "pod/$pod" --timeout=300s >/dev/null
}

driver_returns() {
	k -n "$namespace" patch daemonset csi-swiftblock-node --type json \
		-p '[{"op": "remove", "path": "/spec/template/spec/nodeSelector/kubernetes.io~1hostname"}]' >/dev/null
	until_true 600 "the DaemonSet's pods ready" daemonset_is_ready
}

# The same without the unit: it does not go down. What was synced is not lost even so.
reboot_without_unit() {
	driver_leaves
	host_shell node2 'rm /run/systemd/system/csi-swiftblock-host.service && systemctl daemon-reload && systemctl stop csi-swiftblock-host.service' || true
	expect never "$(reboot $reboot_limit)"
	say "without the host unit, node2 has not gone down after $reboot_limit s"
	cluster node crash 2
	cluster node up 2
	driver_returns
	until_true 900 "the writers write again" writers_write
	kept writer-0
}
