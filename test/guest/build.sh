# shellcheck shell=bash
# build.sh: the guest's parts, made once: a Debian with a user-mode-linux kernel in it, and
# the shim that kernel needs on new processors. Sourced by guest.sh, after lib.sh.
#
# They are kept by a hash of their recipe, so that another clone of the project finds them
# and a change of the recipe makes new ones. GUEST_PACKAGES adds packages: "fio,tgt".

here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
guests=$(cache_dir)/guest
packages=$(sed '/^#/d' "$here/packages" | tr '\n' ',')${GUEST_PACKAGES:-}
key=$({ echo "$packages" && cat "$here/build.sh" "$here/fpstate.c"; } | sha256sum | cut -c1-16)
guest=$guests/$key # rootfs/, fpstate.so

build() {
	[ ! -d "$guest" ] || return 0
	[ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ] ||
		die "the guest is made of Debian packages for amd64: use a Debian 12 machine of that kind"
	need_root "building the guest"
	mkdir -p "$guests"
	exec 8>"$guests/lock"
	flock 8
	[ ! -d "$guest" ] || return 0 # another run has made it meanwhile
	local began=$EPOCHREALTIME
	need_packages gcc libc6-dev
	say "building the guest (about a minute)"
	rm -rf --one-file-system "$guests"/new.*
	new=$(mktemp -d "$guests/new.XXXXXX")
	trap 'rm -rf --one-file-system "$new"' EXIT
	chmod 755 "$new"
	gcc -O2 -Wall -shared -fPIC -o "$new/fpstate.so" "$here/fpstate.c" || die "cannot compile fpstate.c: see above"
	build_rootfs "$new/rootfs"
	mv "$new" "$guest"
	trap - EXIT
	flock -u 8
	say "built in $(seconds_since "$began") s: $(du -sh "$guest" | cut -f1)"
}

build_rootfs() {
	local root=$1 log=$guests/build.log release
	bootstrap "$log" "$root" --variant=minbase --include="$packages" --dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*'
	release=$(basename "$root"/usr/lib/uml/modules/*)
	mkdir -p "$root/lib/modules" "$root/share" "$root/old"
	ln -sfn "/usr/lib/uml/modules/$release" "$root/lib/modules/$release"
	chroot "$root" depmod "$release"
	# The first process: the init of the run, which is not part of the recipe.
	cat >"$root/init" <<-'END'
		#!/bin/sh
		mount -t hostfs -o "$GUEST_RUN" run /mnt && exec /mnt/init
	END
	chmod 755 "$root/init"
}
