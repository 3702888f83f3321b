#!/bin/bash
# guest.sh: a Linux with an iSCSI initiator, where the machine's own kernel has none.
#
#   guest.sh build                      make the guest (once; minutes cold, nothing when made)
#   guest.sh run [OPTION...] -- COMMAND [ARGUMENT...]
#                                       boot it, run COMMAND as root in it, power it off
#   guest.sh net up|down NETNS [GUESTS] a network namespace for run -n: the host side has the
#                                       address 10.77.0.1, guest I (0, 1…) 10.77.0.(2+I);
#                                       they reach each other
#   guest.sh look [NETNS]               what the kernels of the guests that run, or of those in
#                                       NETNS, say of themselves, also where nothing else in them
#                                       answers. It is in their kernel logs, too: with call traces
#   guest.sh clean                      remove every guest made
#
#   -s DIR     the directory that is /share in the guest, and the command's working
#              directory (default: the repository)
#   -d SIZE    size of the disk at /var/lib/csi-swiftblock: ext4, sparse, new, gone after
#              the run (default 64G)
#   -m SIZE    memory (default 1G)
#   -t SECONDS time limit of the command (default 600)
#   -l FILE    where the guest's kernel log goes
#   -n NETNS   the network namespace that the guest's eth0 is in
#   -g I       which of that namespace's guests this is (default 0)
#
# The guest is user-mode-linux: a process. Its root is a Debian made by mmdebstrap, read
# only and shared by all runs, under the cache directory by a hash of its recipe; what a
# run writes goes to memory, except on the disk and in /share. Several runs at once are
# fine. The exit status is the command's; 125 says that the guest itself failed. A run
# that is interrupted or killed takes its guest with it.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=hack/lib.sh
. "$here/../../hack/lib.sh"

# shellcheck source=test/guest/build.sh
. "$here/build.sh"

host_address=10.77.0.1
most_mappings=1048576 # of a process on the host
guest_address() { echo "10.77.0.$((2 + $1))"; }

# net up|down NETNS [GUESTS]: a tap for each guest, between which the kernel routes.
net() {
	need_root "a network namespace"
	need_packages iproute2 procps
	case $1 in
	up)
		ip netns add "$2" || die "cannot make the network namespace $2: see above"
		ip -n "$2" link set lo up
		ip netns exec "$2" sysctl -q net.ipv4.ip_forward=1
		local i
		for ((i = 0; i < ${3:-1}; i++)); do
			ip -n "$2" tuntap add "tap$i" mode tap || die "cannot make a tap device: the kernel module tun is needed (modprobe tun)"
			ip -n "$2" address add $host_address peer "$(guest_address $i)" dev "tap$i"
			ip netns exec "$2" sysctl -q "net.ipv4.conf.tap$i.proxy_arp=1"
			ip -n "$2" link set "tap$i" up
		done
		;;
	down) ip netns delete "$2" ;;
	esac
}

run() {
	local share limit=600 memory=1G disk=64G kernel_log='' netns='' number=0 option
	share=$(dirname "$(dirname "$here")")
	while getopts s:d:m:t:l:n:g: option; do
		case $option in
		s) share=$(readlink -f "$OPTARG") ;;
		d) disk=$OPTARG ;;
		m) memory=$OPTARG ;;
		t) limit=$OPTARG ;;
		l) kernel_log=$OPTARG ;;
		n) netns=$OPTARG ;;
		g) number=$OPTARG ;;
		*) exit 2 ;;
		esac
	done
	shift $((OPTIND - 1))
	[ $# -gt 0 ] || die "run needs a command: guest.sh run -- COMMAND"
	need_root "running the guest"
	[ -z "$kernel_log" ] || rm -f "$kernel_log" # that of a run before this one
	build
	need_packages e2fsprogs util-linux

	# Each page of a guest's process may be a mapping of its own on the host, which allows 65530
	# by default: a process of more than 256 MiB would be ended.
	local mappings=/proc/sys/vm/max_map_count
	[ "$(<$mappings)" -ge $most_mappings ] || echo $most_mappings >$mappings ||
		say "cannot raise vm.max_map_count to $most_mappings: processes of more than 256 MiB may be ended in the guest"

	local began=$EPOCHREALTIME
	new_run
	trap finish EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	cp "$here/init" "$run/init"
	echo "$netns" >"$run/netns"
	printf '%q ' "$@" >"$run/command"
	truncate -s "$disk" "$run/disk"
	mkfs.ext4 -q -F -E nodiscard "$run/disk"

	# UML would switch a terminal to raw mode, and Ctrl-C would no longer be a signal: so it
	# writes to a pipe.
	exec 6> >(exec cat)
	local cat=$!
	# The kernel's log tells of I/O errors. By default this kernel's has 16 KiB, and what comes takes
	# the place of what was there.
	# A pid namespace of its own: whatever kills its first process ends all of the guest's
	# processes; that one dies with this script.
	local enter=() network=()
	[ -z "$netns" ] || enter=(nsenter "--net=/run/netns/$netns") network=("eth0=tuntap,tap$number" "GUEST_NET=$(guest_address "$number")/24")
	TMPDIR=/dev/shm LD_PRELOAD=$guest/fpstate.so setsid "${enter[@]}" \
		setpriv --pdeathsig KILL unshare --pid --fork --kill-child timeout --kill-after 5 "$limit" \
		"$guest/rootfs/usr/bin/linux.uml" "mem=$memory" "ubd0=$run/disk" "uml_dir=$run/" umid=uml quiet \
		log_buf_len=1M root=/dev/root rootfstype=hostfs "rootflags=$guest/rootfs" ro init=/init \
		"GUEST_RUN=$run" "GUEST_SHARE=$share" "${network[@]}" \
		con=null con0=null,fd:2 con1=null,fd:1 </dev/null >&6 2>"$run/console" 7>&- &
	uml=$!
	exec 6>&-
	local ended=0
	wait "$uml" || ended=$?
	uml=
	wait "$cat" || true

	[ -z "$kernel_log" ] || cp "$run/kernel.log" "$kernel_log" 2>/dev/null || cp "$run/console" "$kernel_log"
	if [ -s "$run/status" ]; then
		say "booted in $(<"$run/boot") s, ran $(seconds_since "$began") s in all"
		exit "$(<"$run/status")"
	fi
	tail -n 20 "$run/console" >&2
	say "its memory is in /dev/shm: $(machine)"
	if [ $SECONDS -ge "$limit" ]; then
		say "the command did not end within $limit s: raise -t, or see what it waits for"
	elif [ -s "$run/boot" ]; then
		say "the guest died while the command ran (status $ended): its last words are above; more memory (-m) may help"
	else
		say "the guest did not boot (status $ended): its last words are above; it needs ptrace, /dev/shm with exec and $memory of memory"
	fi
	exit 125
}

# new_run makes the run's directory, locked while the run lives, after removing what
# killed runs left: a directory whose lock nobody holds.
new_run() {
	exec 8>"$guests/lock"
	flock 8
	local left
	for left in "$guests"/run.*; do
		[ ! -e "$left" ] || ! flock -n "$left/lock" true || rm -rf "$left"
	done
	run=$(mktemp -d "$guests/run.XXXXXX")
	exec 7>"$run/lock"
	flock 7
	flock -u 8
}

# finish ends the guest of this run, if it still runs, and removes the run's directory.
finish() {
	if [ -n "${uml:-}" ]; then
		kill -KILL -- "-$uml" 2>/dev/null || kill -KILL "$uml" 2>/dev/null || true
		wait "$uml" 2>/dev/null || true
	fi
	rm -rf "$run" || true # the next run takes what is left
}

# look prints the waiting tasks' stacks, and says a line for each guest. One that has died
# without taking its socket away does not answer.
look() {
	local run load memory told waiting
	need_packages python3
	for run in "$guests"/run.*; do
		[ -S "$run/uml/mconsole" ] || continue
		[ -z "${1:-}" ] || grep -qxsF -- "$1" "$run/netns" || continue
		load=$(ask proc loadavg | tr -s '\n ' ' ')
		memory=$(ask proc meminfo | awk '/^ *(MemFree|MemAvailable|Dirty|Writeback):/ { printf "%s %d MiB ", $1, $2 / 1024 }')
		told=$(stat -c %s "$run/console")
		ask sysrq 9 >/dev/null
		ask sysrq w >/dev/null
		sleep 0.5
		waiting=$(tail -c "+$((told + 1))" "$run/console" | tr -d '\0\r')
		echo "$waiting"
		say "guest of \"$(cut -c1-60 "$run/command")\": load$load memory: ${memory}waiting in the kernel:" \
			"$(sed -nE 's/^.*task:([^ ]+) .*/\1/p' <<<"$waiting" | paste -sd ' ')"
	done
}

ask() { "$here/mconsole" "$run/uml/mconsole" "$@" 2>&1 || true; } # of look

case ${1:-} in
build) build ;;
look) look "${@:2}" ;;
run)
	shift
	run "$@"
	;;
net) net "${@:2}" ;;
clean) rm -rf "$guests" ;;
*)
	sed -n '2,/^set/{/^#/s/^# \?//p}' "$0"
	exit 2
	;;
esac
