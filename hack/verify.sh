#!/bin/bash
# verify.sh: go.mod is tidy, generated code is what its sources generate, Prometheus accepts the
# chart's alerts and raises each when it has to, and the Prometheus operator's definitions take
# what the chart makes for it. Works on a copy: the tree stays as it is.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
# shellcheck source=hack/lib.sh
. hack/lib.sh

# untidy prints what go mod tidy would change. It takes the modules of all tests, which may not have
# come: then it fails, and prints nothing.
untidy() {
	local said
	said=$(go mod tidy -diff) || [ -n "$said" ] || return
	echo "$said"
}

said=$(patiently untidy) || die "cannot tell whether go.mod is tidy: see above"
[ -z "$said" ] || die "go.mod is not tidy: run go mod tidy"
go mod verify >/dev/null || die "a module is not what go.sum says"

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$copy"
git -C "$copy" init -q
git -C "$copy" add -A
"$copy/hack/generate.sh"
git -C "$copy" diff --exit-code || die "generated code is out of date: run make generate and commit"

need_packages prometheus # promtool; no daemon is started
promtool check rules charts/csi-swiftblock/files/alerts.yaml >/dev/null
promtool test rules test/chart/alerts.test.yaml >/dev/null || die "the alerts are not what test/chart/alerts.test.yaml wants: see promtool test rules"
modules test/chart/operator -test ./...
go -C test/chart/operator test -count=1 ./... >&2 || die "what the chart makes does not fit the Prometheus operator's definitions: see above"
say "tidy, and generated code is up to date"
