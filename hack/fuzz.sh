#!/bin/bash
# fuzz.sh [SECONDS]: runs every fuzz target of the tree, SECONDS in all (30), shared
# evenly between them. The seeds and what was found before, under testdata/fuzz of each
# package, are part of every `go test`; an input that fails here is added there: commit it.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
# shellcheck source=hack/lib.sh
. hack/lib.sh

total=${1:-30}
targets=()

main() {
	[[ $total =~ ^[0-9]+$ ]] || die "SECONDS is a number, not $total"
	find_targets
	[ ${#targets[@]} -gt 0 ] || die "there are no fuzz targets"
	# At least a second for each: go's fuzzing needs a moment to begin.
	local each=$((total / ${#targets[@]})) target package name failed=0
	[ $each -ge 1 ] || each=1
	for target in "${targets[@]}"; do
		package=${target% *} name=${target#* }
		say "$package $name, $each s"
		go test -run '^$' -fuzz "^$name\$" -fuzztime "${each}s" -fuzzminimizetime 1x "$package" |
			grep -v '^fuzz: elapsed' || failed=1
	done
	[ $failed = 0 ] || die "inputs that fail are in testdata/fuzz: mend what they show, and commit them"
}

# find_targets fills targets with "PACKAGE NAME". Only packages that have one are asked.
find_targets() {
	local package name packages
	mapfile -t packages < <(grep -rl --include='*_test.go' '^func Fuzz' cmd pkg test | xargs -r -n1 dirname | sort -u)
	for package in "${packages[@]}"; do
		for name in $(go test -list '^Fuzz' "./$package" | grep '^Fuzz'); do
			targets+=("./$package $name")
		done
	done
}

main
