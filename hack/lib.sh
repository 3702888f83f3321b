# shellcheck shell=bash
# lib.sh: what the project's shell scripts share. Sourced, never run.

# One variant of every package is compiled and cached; the race detector alone needs cgo.
export CGO_ENABLED=0

# die MESSAGE: one line, with the remedy in it, and the end of the script.
die() {
	echo "${0##*/}: $*" >&2
	exit 1
}

say() { echo "${0##*/}: $*" >&2; }

# need_root WHAT: refuses to go on as an ordinary user.
need_root() {
	[ "$(id -u)" = 0 ] || die "$1 needs root: run it with sudo, or as root"
}

# patiently COMMAND...: what comes through a network may be missed by chance: the command is tried
# five times, in some minutes.
patiently() {
	local pause
	for pause in 5 20 60 120; do
		"$@" && return
		say "again in $pause s: $(cut -c1-100 <<<"$*")"
		sleep $pause
	done
	"$@"
}

# seconds_since T0 prints the seconds since T0, a value of $EPOCHREALTIME.
seconds_since() { awk -v from="$1" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.1f", to - from }'; }

# machine prints how busy and how full the machine is, to be said where something failed on it.
machine() {
	echo "load $(cut -d' ' -f1-3 /proc/loadavg) on $(nproc) processors; free: $(awk '/^MemAvailable/ { printf "%d MiB", $2 / 1024 }' /proc/meminfo)" \
		"of memory, $(df -h --output=avail . | sed 1d | xargs) on disk, $(df -h --output=avail /dev/shm | sed 1d | xargs) in /dev/shm"
}

# cache_dir prints the directory for what is dear to make and safe to lose.
cache_dir() { echo "${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/csi-swiftblock"; }

# need_packages NAME...: installs the Debian packages that are missing. The packages
# start no daemon: a policy-rc.d forbids it while apt runs, unless the host has its own.
need_packages() {
	local package missing=()
	for package; do
		dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' || missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	command -v apt-get >/dev/null || die "missing: ${missing[*]}; this is no Debian, so install what provides them by hand"
	need_root "installing ${missing[*]}"
	say "installing ${missing[*]}"
	mkdir -p "$(cache_dir)"
	(
		# One installation at a time: policy-rc.d is removed only by the run that made it.
		exec 9>"$(cache_dir)/apt.lock"
		flock 9
		policy=/usr/sbin/policy-rc.d
		if [ ! -e $policy ]; then
			trap 'rm -f /usr/sbin/policy-rc.d' EXIT
			printf '#!/bin/sh\nexit 101\n' >$policy
			chmod +x $policy
		fi
		log=$(cache_dir)/apt.log
		patiently get_packages "$log" "${missing[@]}" ||
			die "apt-get could not install ${missing[*]} ($(grep '^E:' "$log" | tail -n 1)): mend the package sources, then run it again (log: $log)"
	) || exit 1
}

# get_packages LOG NAME...: package lists are fetched only when what is there does not do; whether
# all of them could be, the installation shows. apt waits for dpkg's lock, not for its own ones.
get_packages() {
	local install=(install -y --no-install-recommends "${@:2}")
	{ apt_get "${install[@]}" || { apt_get update || true; apt_get "${install[@]}"; }; } >"$1" 2>&1
}

apt_get() {
	DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@" </dev/null
}

# bootstrap LOG TARGET OPTION...: mmdebstrap makes TARGET, a directory or a tar file.
bootstrap() {
	need_packages mmdebstrap
	patiently bootstrap_once "$@" ||
		die "mmdebstrap failed ($(grep -m1 '^E:' "$1")): it needs Debian's package archive; mend the network, then run it again (log: $1)"
}

bootstrap_once() {
	rm -rf --one-file-system "$2" # what a try before this one has left
	mmdebstrap "${@:3}" bookworm "$2" >"$1" 2>&1
}

# debian_root NAME PACKAGES [OPTION...] prints the path of a tar file: a root of Debian's packages
# (mmdebstrap's OPTIONs), made once. PACKAGES may be empty.
debian_root() {
	local file new
	file=$(cache_dir)/roots/$1-$(sha256sum <<<"${*:2}" | cut -c1-16).tar
	if [ ! -e "$file" ]; then
		say "Debian's packages for $1"
		mkdir -p "${file%/*}"
		new=$(mktemp -p "${file%/*}" XXXXXX.tar)
		bootstrap "$new.log" "$new" --variant=essential ${2:+"--include=$2"} --dpkgopt='path-exclude=/usr/share/doc/*' \
			--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' "${@:3}"
		mv "$new" "$file"
		rm "$new.log"
	fi
	echo "$file"
}

# use_tools puts the tools pinned in hack/tools on PATH, built in the tree's .cache, and fetches what
# the tree is made of; tools_of MODULE puts those of another module there.
use_tools() {
	tools_of hack/tools
	modules . -test ./...
}

tools_of() {
	local bin
	bin=$PWD/.cache/tools
	patiently env "GOBIN=$bin" go -C "$1" install tool || die "cannot build the tools of $1: they come through the Go module proxy"
	PATH=$bin:$PATH
}

# modules DIRECTORY [-test] PACKAGE...: fetches all that the packages of a module, or their tests, too, are made of.
modules() {
	patiently go -C "$1" list -deps "${@:2}" >/dev/null || die "cannot load ${*:2} in $1: see above; modules come through the Go module proxy"
}

need_swift() { need_packages python3-swift memcached curl; }

# swift_up DIRECTORY [ADDRESS [COMMAND...]]: starts a real Swift that keeps everything in
# DIRECTORY and sets swift to the environment that names it. COMMAND, if given, is put
# before hack/swift.sh: nsenter, say; that may lead to where no package can be fetched.
# swift_wipe DIRECTORY ends and removes it.
swift_up() {
	local said
	need_swift
	# A range of ports of its own, so that several may run; swift.sh refuses one in use.
	said=$(env "ROOT=$1" "BIND=${2:-127.0.0.1}" "PORT=${PORT:-$((20000 + RANDOM % 80 * 100))}" "${@:3}" hack/swift.sh up) ||
		die "no Swift: see above"
	# shellcheck disable=SC2034 # for the caller
	read -ra swift <<<"$said"
}

# It is what a run ends with, whose verdict does not depend on it.
swift_wipe() { ROOT=$1 hack/swift.sh wipe || say "what is left of Swift is in $1"; }

# guest_begin starts to build the guest while the caller does something else; guest_await
# waits until it is there; guest_abandon ends a build that is still going on. A background
# job ignores Ctrl-C, so it gets a process group of its own to be ended by.
guest_begin() {
	setsid test/guest/guest.sh build </dev/null &
	building=$!
}

guest_await() {
	local guest=$building
	building=
	wait "$guest"
}

guest_abandon() {
	[ -z "${building:-}" ] || ! jobs -rp | grep -x "$building" >/dev/null || kill -- "-$building" 2>/dev/null || true
}

# no_io_errors KERNEL_LOG: the kernel that logged this saw no I/O error.
no_io_errors() {
	local status=0
	grep -E 'I/O error|(EXT4|XFS).*[Ee]rror|Call Trace' "$1" >&2 || status=$?
	[ $status != 0 ] || die "the kernel logged the errors above (the whole log: $1)"
	[ $status = 1 ] || die "the kernel's log cannot be read: $1"
	say "no I/O error in the kernel's log"
}
