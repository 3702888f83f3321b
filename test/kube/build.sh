#!/bin/bash
# build.sh [NAME...]: the programs that make a Kubernetes cluster, built from their sources,
# which come through the Go module proxy: no image registry is needed. Without names: all of
# them. Prints the directory where they are; a program that is there is not built again.
#
# The versions are pinned in tools/*/go.mod, one module for each set that was released
# together. The programs are kept in the cache directory by a hash of those, so that another
# clone finds them.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
# shellcheck source=hack/lib.sh
. hack/lib.sh

tools=test/kube/tools
bins=$(cache_dir)/kube/bin-$(cat $tools/*/go.mod | sha256sum | cut -c1-16)

# programs lists name, module and import path of everything there is to build.
programs() {
	local module path name
	for module in "$tools"/*; do
		for path in $(go -C "$module" list tool); do
			name=$(sed -E 's#/server/v[0-9]+$##; s#.*/##' <<<"$path") # etcd is .../etcd/server/v3
			echo "$name $module $path"
		done
	done
}

build() { # NAME MODULE PATH
	local flags='-s -w' version package began=$EPOCHREALTIME
	exec 9>"$bins/$1.lock" # another run may be building the same
	flock 9
	[ ! -x "$bins/$1" ] || return 0
	if [ "$2" = $tools/kubernetes ]; then # they ask each other for their versions
		version=$(go -C "$2" list -m -f '{{.Version}}' k8s.io/kubernetes)
		for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
			flags+=" -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=$(cut -d. -f2 <<<"$version")"
		done
	fi
	go -C "$2" build -trimpath -ldflags "$flags" -o "$bins/$1.new" "$3" || die "cannot build $1: see above"
	mv "$bins/$1.new" "$bins/$1"
	say "built $1 in $(seconds_since "$began") s"
}

mkdir -p "$bins"
while read -r name module path; do
	case " ${*:-$name} " in *" $name "*) build "$name" "$module" "$path" ;; esac
done < <(programs)
echo "$bins"
