#!/bin/bash
# lint.sh: what a machine can see of style. Prints what is wrong; silence is good.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
# shellcheck source=hack/lib.sh
. hack/lib.sh

longest=600 # lines of a Go file written by hand

use_tools
failed=0

# check WHAT COMMAND...: COMMAND fails and prints what is wrong with the tree, or succeeds.
check() {
	local what=$1 found
	shift
	found=$("$@" 2>&1) && return
	printf 'lint: %s:\n%s\n' "$what" "$found" >&2
	failed=1
}

# nothing shows its input and fails if there is any.
nothing() { ! grep .; }

sources() { git ls-files --cached --others --exclude-standard "$@"; }
handwritten() { sources '*.go' | xargs grep -L '^// Code generated .* DO NOT EDIT\.$'; }
scripts() { sources | xargs grep -lE '^#!/bin/(ba)?sh|^# shellcheck shell='; }

formatting() { handwritten | xargs gofumpt -l | nothing; }
lengths() { handwritten | xargs wc -l | awk -v longest=$longest '$2 != "total" && $1 > longest' | nothing; }
# A path of the machine somebody works on means nothing on another.
paths() { ! git grep -nIE "$PWD/|/(home|Users)/[a-z]+/" -- ':!hack/lint.sh'; }
whitespace() { git diff --check "$(git hash-object -t tree /dev/null)" -- ':!*.golden' ':!*.patch'; }
shell() { scripts | xargs shellcheck -x; }

# Each example is applied by a journey of test/kube.
examples() {
	local name
	for name in docs/examples/*.yaml; do
		name=$(basename "$name" .yaml)
		grep -qE "^[^#]*\bexample $name( |\$)" test/kube/*.sh || echo "$name"
	done | nothing
}

# Packages import only from floors below their own (docs/design.md, section 2).
# shellcheck disable=SC2016 # a template and a program, not for this shell to expand
floors() {
	go list -f '{{range .Imports}}{{$.ImportPath}} {{.}}{{"\n"}}{{end}}' ./cmd/... ./pkg/... |
		awk -v module="$(go list -m)/" '
			function noun(path) { sub("^" module "(pkg/)?", "", path); sub("/.*", "", path); return path }
			BEGIN {
				rows = "ballast durable ident internal keys|authority chunks class cluster delta host swift target trust|accounts cache preflight snapshots wire" \
					"|catalog image volume|attach|driver|cmd"
				for (i = split(rows, row, "|"); i > 0; i--)
					for (j = split(row[i], name, " "); j > 0; j--) floor[name[j]] = i
			}
			index($2, module) != 1 { next }
			{ from = noun($1); to = noun($2) }
			!(from in floor && to in floor) { print $1 " or " $2 " stands on no floor: say on which, here and in docs/design.md"; next }
			from != to && floor[from] <= floor[to] { print $1 " imports " $2 }
		' | nothing
}

need_packages shellcheck
check "not formatted by gofumpt" formatting
check "go vet" go vet ./...
check "staticcheck" staticcheck ./...
check "imports that do not go down" floors
check "shellcheck" shell
check "examples that no journey applies" examples
check "longer than $longest lines" lengths
check "paths of a machine" paths
check "white space" whitespace
[ $failed = 0 ] || die "mend what is listed above (gofumpt -w mends formatting)"
say "nothing to complain about"
