#!/bin/bash
# chart.sh: what is generated from the chart: its README (by helm-docs), deploy/kubernetes for
# those who use no helm, and the renders of test/chart, in which a change of the chart shows.
# Then that the chart takes the documented commands, and refuses the values of test/chart/refused,
# each with the message in its first line.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
# shellcheck source=hack/lib.sh
. hack/lib.sh

chart=charts/csi-swiftblock
tools_of hack/tools/helm-docs
helm=$(test/kube/build.sh helm)/helm

render() { # VALUES [OPTION...]
	"$helm" template csi-swiftblock $chart --namespace csi-swiftblock --kube-version 1.34 -f "$@"
}

"$helm" lint --quiet $chart -f test/chart/renders/least.values.yaml >&2

for values in test/chart/renders/*.values.yaml; do
	render "$values" >"${values%.values.yaml}.golden"
done

# Without the definitions: who deletes what this file makes would delete all records with them.
{
	echo "# Generated from $chart by make generate; the values are in deploy/values.yaml."
	render deploy/values.yaml | sed 's/--cluster=kubernetes$/--cluster=CLUSTER/'
} >deploy/kubernetes/csi-swiftblock.yaml

# It ends with 0 when it fails; its own strict mode sees only descriptions of an older form.
said=$(helm-docs --chart-search-root $chart --sort-values-order file --log-level warn 2>&1)
[ -z "$said" ] || die "helm-docs: $said"
! grep '|  |$' $chart/README.md >&2 || die "the values above have no description: write it as # -- in values.yaml"

for page in README.md docs/install.md; do
	command=$(sed -n '/^helm install /,/[^\\]$/p' $page)
	said=$([ -n "$command" ] && eval "${command/helm install/"$helm" template --kube-version 1.34}" 2>&1) || die "$page: helm refuses its command: $said"
done

# The alert for processes finds the Service of metrics by its name, whatever a release is called.
jobs=$(sed -nE 's/.*up\{job=~"(.*)"\}.*/\1/p' $chart/files/alerts.yaml)
for release in s storage-csi-swiftblock {long,csi-swiftblock}-name-of-a-release-with-as-many-letters; do
	found=$("$helm" template "$release" $chart --kube-version 1.34 -f test/chart/renders/all.values.yaml |
		awk '/^kind: /{ kind = $2 } /^  name: /&& kind == "Service" { print $2; kind = "" }' | grep -xcE "$jobs" || true)
	[ "$found" = 1 ] || die "of release $release the alerts find $found Services of metrics by $jobs, and there is one"
done

for values in test/chart/refused/*.yaml; do
	wanted=$(sed -n '1s/^# //p' "$values")
	said=$(render test/chart/renders/least.values.yaml -f "$values" 2>&1) && die "$values is not refused"
	grep -qF -- "$wanted" <<<"$said" || die "$values is refused with another message than \"$wanted\": $said"
done
