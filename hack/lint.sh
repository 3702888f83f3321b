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
whitespace() { git diff --check "$(git hash-object -t tree /dev/null)" -- ':!*.golden'; }
shell() { scripts | xargs shellcheck -x; }

need_packages shellcheck
check "not formatted by gofumpt" formatting
check "go vet" go vet ./...
check "staticcheck" staticcheck ./...
check "shellcheck" shell
check "longer than $longest lines" lengths
check "paths of a machine" paths
check "white space" whitespace
[ $failed = 0 ] || die "mend what is listed above (gofumpt -w mends formatting)"
say "nothing to complain about"
