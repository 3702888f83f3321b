#!/bin/bash
# sanity.sh SUITE LOGS: csi-sanity against the real processes and the kernel initiator.
# Runs in the guest, in the repository's directory. SUITE is test/sanity, compiled; the
# processes log to the directory LOGS. The store is the embedded one, unless ST_AUTH names
# another. What it starts ends with the guest.
set -euo pipefail
suite=$1 logs=$2
state=/var/lib/csi-swiftblock
sockets=/run/csi-swiftblock
begun=() # processes

begin() {
	bin/csi-swiftblock "$@" >"$logs/$1.log" 2>&1 &
	begun+=($!)
}

# await NAME: until the socket is there; a process that has ended logged why.
await() {
	local until=$((SECONDS + 120))
	until [ -S "$sockets/$1.sock" ]; do
		if [ $SECONDS -ge $until ] || ! all_live; then
			tail -n 5 "$logs"/*.log >&2
			echo "sanity.sh: there is no $1.sock: see above" >&2
			exit 1
		fi
		sleep 0.1
	done
}

all_live() {
	local pid
	for pid in "${begun[@]}"; do kill -0 "$pid" 2>/dev/null || return 1; done
}

mkdir -p "$logs" $sockets
if [ -z "${ST_AUTH:-}" ]; then
	export ST_AUTH=http://127.0.0.1:8080/auth/v1.0 ST_USER=test:tester ST_KEY=testing
	begin swift-server --dir $state/swift
fi
begin controller --authority $state/authority --nodes guest
await openings
begin export --node guest --state $state/export
await export
begin node --node guest
await controller
await node
SANITY_CONTROLLER=$sockets/controller.sock SANITY_NODE=$sockets/node.sock "$suite" -test.v
