#!/bin/bash
# build.sh [NAME...]: the programs that make a Kubernetes cluster, built from their sources,
# which come through the Go module proxy: no image registry is needed. Without names: all of
# them. Prints the directory where they are; a program that is there is not built again.
#
# build.sh suite: those of Kubernetes' own suite for storage drivers. The suite takes many
# minutes, so it is built with a low priority, and apart from the others.
#
# The versions are pinned in tools/*/go.mod, one module for each set that was released
# together, and in suite/go.mod. The programs are kept in the cache directory by a hash
# of those, so that another clone finds them.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
# shellcheck source=hack/lib.sh
. hack/lib.sh

if [ "$*" = suite ]; then
	set --
	name=suite from=(test/kube/suite)
	renice -n 10 $$ >/dev/null
else
	name=bin from=(test/kube/tools/*)
fi
bins=$(cache_dir)/kube/$name-$(cat "${from[@]/%//go.mod}" | sha256sum | cut -c1-16)

# programs lists name, module and import path of everything there is to build.
programs() {
	local module path name tools
	for module in "${from[@]}"; do
		tools=$(patiently go -C "$module" list tool) || return
		for path in $tools; do
			name=$(sed -E 's#/server/v[0-9]+$##; s#.*/##' <<<"$path") # etcd is .../etcd/server/v3
			echo "$name $module $path"
		done
	done
	[ "${from[*]}" != test/kube/suite ] || echo "e2e.test test/kube/suite ."
}

build() { # NAME MODULE PATH
	local flags='-s -w' how=(build) tests=() version package began=$EPOCHREALTIME
	exec 9>"$bins/$1.lock" # another run may be building the same
	flock 9
	[ ! -x "$bins/$1" ] || return 0
	if [[ $2 =~ (kubernetes|suite)$ ]]; then # they ask each other for their versions
		version=$(go -C "$2" list -m -f '{{.Version}}' k8s.io/kubernetes)
		for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
			flags+=" -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=$(cut -d. -f2 <<<"$version")"
		done
	fi
	[ "$3" != . ] || how=(test -c -vet=off) tests=(-test) # else vet looks at all of Kubernetes
	modules "$2" "${tests[@]}" "$3"
	go -C "$2" "${how[@]}" -trimpath -ldflags "$flags" -o "$bins/$1.new" "$3" 9>&- || die "cannot build $1: see above"
	mv "$bins/$1.new" "$bins/$1"
	say "built $1 in $(seconds_since "$began") s"
}

mkdir -p "$bins"
list=$(programs) || die "cannot tell what there is to build: see above"
while read -r name module path; do
	case " ${*:-$name} " in *" $name "*) build "$name" "$module" "$path" ;; esac
done <<<"$list"
for name; do [ -x "$bins/$name" ] || die "there is no program $name"; done
echo "$bins"
