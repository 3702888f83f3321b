#!/bin/bash
# disk.sh small|full: prints the path of a raw disk image with an ext4 full of Debian
# packages: about 100 MiB of files, or more than 1 GiB. It is made once per recipe and
# kept in the cache directory; making it takes the network.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=hack/lib.sh
. "$here/../../hack/lib.sh"

packages=base-files,bash,coreutils,e2fsprogs,git,perl-base
case ${1:-} in
small) ;;
full) packages+=,g++,golang-1.19-go,golang-1.19-src,linux-image-amd64,llvm-14,openjdk-17-jre-headless ;;
*) die "which? disk.sh small|full" ;;
esac

images=$(cache_dir)/disk
key=$({ echo "$packages" && cat "$here/disk.sh"; } | sha256sum | cut -c1-16)
disk=$images/$1-$key.raw

# make fills an ext4 that has a quarter of its blocks free.
make() {
	local new=$1 log=$images/build.log kib
	bootstrap "$log" "$new/root" --quiet --variant=extract --include="$packages"
	kib=$(du -sk "$new/root" | cut -f1)
	truncate -s $(((kib * 5 / 4 + 65536) / 4 * 4))K "$new/disk.raw"
	mke2fs -q -F -t ext4 -L root -d "$new/root" "$new/disk.raw" >>"$log" 2>&1 || die "mke2fs failed: see $log"
}

if [ ! -e "$disk" ]; then
	need_root "unpacking packages with their owners"
	need_packages e2fsprogs
	mkdir -p "$images"
	exec 9>"$images/lock"
	flock 9
	if [ ! -e "$disk" ]; then # nor has another run made it meanwhile
		rm -rf --one-file-system "$images"/new.*
		new=$(mktemp -d "$images/new.XXXXXX")
		trap 'rm -rf --one-file-system "$new"' EXIT
		make "$new"
		mv "$new/disk.raw" "$disk"
	fi
fi
echo "$disk"
