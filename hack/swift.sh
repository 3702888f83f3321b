#!/bin/bash
# A real OpenStack Swift from Debian packages, without systemd and without /etc/swift, for tests and the demo.
#
#   hack/swift.sh up         install what is missing, configure, start; prints ST_AUTH=… ST_USER=… ST_KEY=… to eval.
#                            With the same key, the user swiftother:demo has an account of its own
#   hack/swift.sh start      start again what does not run
#   hack/swift.sh kill NAME… stop servers, for example object-2
#   hack/swift.sh down       stop all
#   hack/swift.sh status     list the servers; fails if one is dead or none was started
#   hack/swift.sh wipe       stop all and remove everything
#
#   ROOT   state, configuration, logs and data   (default ${TMPDIR:-/tmp}/swiftblock-swift)
#   NODES  1, or 3 with three replicas           (default 1)
#   BIND   address of the proxy                  (default 127.0.0.1); everything else listens on 127.0.0.1
#   PORT   of the proxy                          (default 28480); memcached has PORT+1, node i PORT+10i+{1,2,3}
#
# Only the proxy and one account, container and object server per node run: no replicator, auditor or updater. A
# replica that misses a change stays stale, which is what tests of the client want to see.
set -euo pipefail
ROOT=$(realpath -m "${ROOT:-${TMPDIR:-/tmp}/swiftblock-swift}")
NODES=${NODES:-1} BIND=${BIND:-127.0.0.1} PORT=${PORT:-28480}
ETC=$ROOT/etc RUN=$ROOT/run LOG=$ROOT/log DISKS=$ROOT/disks
PYTHON=/usr/bin/python3 # the one that Debian's packages are for

cd "$(dirname "$(readlink -f "$0")")/.."
# shellcheck source=hack/lib.sh
. hack/lib.sh

# each_server calls "$@ NAME KIND NODE PORT" for every storage server.
each_server() {
	local i
	for ((i = 1; i <= NODES; i++)); do
		"$@" account-$i account $i $((PORT + 10 * i + 1))
		"$@" container-$i container $i $((PORT + 10 * i + 2))
		"$@" object-$i object $i $((PORT + 10 * i + 3))
	done
}

configure() {
	local key f
	[ -s "$ROOT/key" ] || (umask 077; head -c 12 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$ROOT/key")
	key=$(cat "$ROOT/key")
	mkdir -p "$DISKS"
	: >"$DISKS/probe"
	$PYTHON -c 'import os, sys; os.setxattr(sys.argv[1], "user.swift.probe", b"x")' "$DISKS/probe" 2>/dev/null ||
		die "the file system of $DISKS takes no user attributes: set ROOT to a directory on ext4 or xfs"
	rm "$DISKS/probe"

	cat >"$ETC/swift.conf" <<CONF
[swift-hash]
swift_hash_path_prefix = swiftblock
swift_hash_path_suffix = swiftblock
[storage-policy:0]
name = default
default = yes
CONF

	local filters="catch_errors gatekeeper healthcheck cache listing_formats bulk tempauth copy container-quotas account-quotas"
	cat >"$ETC/proxy.conf" <<CONF
[DEFAULT]
bind_ip = $BIND
bind_port = $PORT
workers = 0
user = $(id -un)
swift_dir = $ETC
log_level = WARNING
[pipeline:main]
pipeline = $filters proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
$(patience)
error_suppression_interval = 2
[filter:tempauth]
use = egg:swift#tempauth
user_swiftblock_demo = $key .admin
user_swiftother_demo = $key .admin
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:$((PORT + 1))
# 0: come back to a restarted memcached at once; the default shuns it for 60 s, and all tokens with it.
error_suppression_interval = 0
CONF
	for f in $filters; do
		case $f in tempauth | cache) continue ;; esac
		printf '[filter:%s]\nuse = egg:swift#%s\n' "$f" "${f//-/_}" >>"$ETC/proxy.conf"
	done
	chmod 600 "$ETC/proxy.conf"
	each_server configure_server
	make_rings
}

# patience prints for how long servers wait for each other. With several nodes that is short enough for tests in which
# one is dead or frozen. A single one gets more than the defaults, which a slow disk exceeds: a listing lacks what was
# just stored where its row takes more than a second, and for good where it does not arrive: there is no updater.
patience() {
	if [ "$NODES" = 1 ]; then
		printf '%s\n' 'node_timeout = 60' 'conn_timeout = 10' 'container_update_timeout = 30'
	else
		printf '%s\n' 'node_timeout = 3' 'conn_timeout = 0.5'
	fi
}

configure_server() { # NAME KIND NODE PORT
	mkdir -p "$DISKS/node$3/d$3"
	cat >"$ETC/$1.conf" <<CONF
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = $4
workers = 0
user = $(id -un)
swift_dir = $ETC
devices = $DISKS/node$3
mount_check = false
disable_fallocate = true
fallocate_reserve = 0
log_level = WARNING
$(patience)
recon_cache_path = $RUN
[pipeline:main]
pipeline = healthcheck $2-server
[filter:healthcheck]
use = egg:swift#healthcheck
[app:$2-server]
use = egg:swift#$2
CONF
}

# make_rings spreads every ring over all nodes, with a replica on each, unless they are there already.
make_rings() {
	local shape="nodes $NODES port $PORT"
	[ "$(cat "$ETC/shape" 2>/dev/null)" != "$shape" ] || return 0
	$PYTHON - "$ETC" "$NODES" "$PORT" <<'PY' || die "could not build the rings"
import sys
from swift.common.ring import RingBuilder
etc, nodes, port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for offset, kind in enumerate(('account', 'container', 'object'), start=1):
	builder = RingBuilder(part_power=6, replicas=nodes, min_part_hours=0)
	for i in range(1, nodes + 1):
		at = {'ip': '127.0.0.1', 'port': port + 10 * i + offset}
		builder.add_dev({'region': 1, 'zone': i, 'device': 'd%d' % i, 'weight': 1.0, 'meta': '',
						 'replication_ip': at['ip'], 'replication_port': at['port'], **at})
	builder.rebalance(seed=1)
	builder.get_ring().save('%s/%s.ring.gz' % (etc, kind))
PY
	echo "$shape" >"$ETC/shape"
}

# serve runs one Swift server with our swift.conf in place of /etc/swift/swift.conf.
serve() { # CONF SECTION
	exec $PYTHON -W ignore - "$ETC/swift.conf" "$@" <<'PY'
import sys
conf, section = sys.argv[2:]
from swift.common import utils
utils.SWIFT_CONF_FILE = sys.argv[1]
utils.validate_hash_conf()
from swift.common import constraints, storage_policy
constraints.reload_constraints()
storage_policy.reload_storage_policies()
from swift.common.wsgi import run_wsgi
extra = {}
if section == 'object-server':
	from swift.obj import server
	extra['global_conf_callback'] = server.global_conf_callback
sys.argv[0] = 'swift-' + section
sys.exit(run_wsgi(conf, section, **extra))
PY
}

# A process is ours if its command line names our directory: a pid file may be older than the last boot.
pid_of() {
	local pid
	pid=$(cat "$RUN/$1.pid" 2>/dev/null) && tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "$ROOT/" && echo "$pid"
}

# free_port refuses a taken port: Swift listens with SO_REUSEPORT, so a second one would start without an error and the
# kernel would deal the connections out between the two.
free_port() { # NAME KIND NODE PORT [ADDRESS]
	pid_of "$1" >/dev/null && return
	! (exec 3<>"/dev/tcp/${5:-127.0.0.1}/$4") 2>/dev/null || die "port $4 (for $1) is in use: set PORT to a free range"
}

launch() { # NAME COMMAND…
	local name=$1
	shift
	pid_of "$name" >/dev/null && return
	setsid "$@" >>"$LOG/$name.log" 2>&1 </dev/null &
	echo $! >"$RUN/$name.pid"
}

launch_server() { launch "$1" bash hack/swift.sh serve "$ETC/$1.conf" "$2-server"; }

await() { # NAME KIND NODE PORT [ADDRESS]
	local tries=3000 # five minutes: nine of them may start at once
	until [ "$(curl -s -o /dev/null -m 2 --noproxy '*' -w '%{http_code}' "http://${5:-127.0.0.1}:$4/healthcheck")" = 200 ]; do
		lives "$1" || die "$1 ended: $(tail -n 3 "$LOG/$1.log") (see $LOG/$1.log)"
		((tries-- > 0)) || die "$1 does not answer (see $LOG/$1.log)"
		sleep 0.1
	done
}

start() {
	free_port proxy proxy 0 "$PORT" "$BIND"
	free_port memcached memcached 0 $((PORT + 1))
	each_server free_port
	launch memcached memcached -u "$(id -un)" -l 127.0.0.1 -p $((PORT + 1)) -U 0 -m 64 -c 4096 -P "$RUN/memcached.pid"
	launch_server proxy proxy
	each_server launch_server
	each_server await
	await proxy proxy 0 "$PORT" "$BIND"
	await_account
	echo "ST_AUTH=http://$BIND:$PORT/auth/v1.0 ST_USER=swiftblock:demo ST_KEY=$(cat "$ROOT/key")"
}

# lives NAME. One that was launched just now may still have our command line.
lives() {
	local tries=100
	until pid_of "$1" >/dev/null; do
		kill -0 "$(cat "$RUN/$1.pid")" 2>/dev/null && ((tries-- > 0)) || return 1
		sleep 0.1
	done
}

# await_account waits until a token is handed out and a container can be made: the proxy shuns servers that it met
# before they listened.
await_account() {
	local tries=300 headers token url
	while :; do
		headers=$(curl -s -m 5 --noproxy '*' -D - -o /dev/null -H 'X-Auth-User: swiftblock:demo' -H @- "http://$BIND:$PORT/auth/v1.0" \
			<<<"X-Auth-Key: $(cat "$ROOT/key")" | tr -d '\r') || true
		token=$(sed -n 's/^X-Auth-Token: //Ip' <<<"$headers")
		url=$(sed -n 's/^X-Storage-Url: //Ip' <<<"$headers")
		if [ -n "$token" ] && curl -sf -m 10 --noproxy '*' -o /dev/null -X PUT -H @- "$url/ready" <<<"X-Auth-Token: $token"; then
			curl -sf -m 10 --noproxy '*' -o /dev/null -X DELETE -H @- "$url/ready" <<<"X-Auth-Token: $token" || true
			return
		fi
		((tries-- > 0)) || die "the account does not work (see $LOG/proxy.log)"
		sleep 0.2
	done
}

stop() { # NAME
	local pid tries=30
	if pid=$(pid_of "$1"); then
		kill -CONT -- "-$pid" 2>/dev/null || true
		kill -TERM -- "-$pid" 2>/dev/null || true
		while pid_of "$1" >/dev/null && ((tries-- > 0)); do sleep 0.1; done
		kill -KILL -- "-$pid" 2>/dev/null || true
		tries=100 # it is not gone at once, and may write as long
		while pid_of "$1" >/dev/null && ((tries-- > 0)); do sleep 0.1; done
	fi
	rm -f "$RUN/$1.pid"
}

names() {
	local f
	for f in "$RUN"/*.pid; do [ ! -e "$f" ] || basename "$f" .pid; done
}

status() {
	local name pid dead=
	[ -n "$(names)" ] || die "nothing was started under $ROOT"
	for name in $(names); do
		if pid=$(pid_of "$name"); then echo "$name runs as $pid"; else echo "$name is dead"; dead=1; fi
	done
	[ -z "$dead" ]
}

stop_all() {
	local name
	for name in $(names); do stop "$name"; done
}

case ${1:-} in
up)
	[ "$NODES" = 1 ] || [ "$NODES" = 3 ] || die "NODES=$NODES: 1 or 3"
	mkdir -p "$ETC" "$RUN" "$LOG"
	need_swift
	configure
	start
	;;
start)
	[ -s "$ETC/shape" ] || die "nothing is configured under $ROOT: run $0 up first"
	read -r _ NODES _ PORT <"$ETC/shape"
	start
	;;
kill)
	[ $# -gt 1 ] || die "kill which? see $0 status"
	for name in "${@:2}"; do stop "$name"; done
	;;
down) stop_all ;;
status) status ;;
wipe)
	stop_all
	rm -rf "$ETC" "$RUN" "$LOG" "$DISKS" "$ROOT/key"
	rmdir "$ROOT" 2>/dev/null || true
	;;
serve) serve "${@:2}" ;; # inner: one server in the foreground
*)
	sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
	exit 2
	;;
esac
