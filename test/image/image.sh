#!/bin/bash
# image.sh [FILE]: builds the image from the Dockerfile as it stands, with Debian's docker and
# without an image registry, and looks at what came out of it: who it runs as, what is in it,
# its labels; then the image of the other architecture, whose binary qemu starts. With FILE the
# image is saved there, for test/kube (IMAGE=FILE), and beside it FILE.spdx.json, the list of
# what is in it.
#
# The images that the Dockerfile begins with are made of Debian's packages and the machine's
# own Go. Of the other architecture the packages are only unpacked: for what they run when they
# are installed, and for containers, the whole machine's kernel would have to know an emulator.
# The daemon has its files under the cache directory, its socket in a mount namespace of its own,
# and no network but the machine's, for Debian's and Go's modules. What it has built it keeps: a
# run after which no source changed takes seconds.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
# shellcheck source=hack/lib.sh
. hack/lib.sh

prefix=swiftblock.test
image=$prefix/csi-swiftblock:test
version=0.0.0-test
revision=$(git rev-parse HEAD)
export DOCKER_HOST=unix:///run/docker.sock DOCKER_BUILDKIT=1
docker() { /usr/bin/docker "$@"; }

main() {
	if [ "${1:-}" != inside ]; then
		need_root "an image of its own"
		need_packages docker.io mmdebstrap qemu-user-static ca-certificates
		exec unshare --mount --pid --fork --kill-child --mount-proc --propagation private "$PWD/test/image/image.sh" inside "$@"
	fi
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	local began=$EPOCHREALTIME
	daemon
	bases
	build "$prefix/debian:bookworm" --tag "$image" .
	say "built in $(seconds_since "$began") s: $(docker image inspect -f '{{.Size}}' "$image" | numfmt --to=iec) bytes"
	runs_as_nobody
	has_what_it_needs
	is_labelled
	lists_what_it_has "$work/sbom.spdx.json"
	other_architecture
	if [ -n "${2:-}" ]; then
		docker save --output "$2" "$image"
		cp "$work/sbom.spdx.json" "$2.spdx.json"
	fi
	say "passed in $(seconds_since "$began") s"
}

daemon() {
	local data tries=300
	data=$(cache_dir)/docker
	mkdir -p "$data"
	mount -t tmpfs tmpfs /run
	dockerd --data-root "$data" --exec-root /run/docker --pidfile /run/docker.pid --host "$DOCKER_HOST" \
		--bridge=none --iptables=false >"$work/dockerd.log" 2>&1 &
	until docker version >/dev/null 2>&1; do
		((tries-- > 0)) || die "no docker: $(tail -n 3 "$work/dockerd.log")"
		sleep 0.2
	done
}

# bases imports what the Dockerfile's FROM lines name.
bases() {
	local go root
	go=$(go env GOVERSION)
	has_image "$prefix/debian:bookworm" || debian_root image-base '' --variant=apt |
		xargs cat | docker import - "$prefix/debian:bookworm" >/dev/null
	has_image "$prefix/debian:bookworm-arm64" || { # docker import makes only images of its own architecture
		root=$(debian_root image-base-arm64 '?essential' --architectures=arm64 --variant=extract)
		printf 'FROM scratch\nADD %s /\n' "${root##*/}" |
			docker build --quiet --platform linux/arm64 --tag "$prefix/debian:bookworm-arm64" --file - "${root%/*}" >"$work/build.log" 2>&1 ||
			die "no base for arm64: $(tail -n 20 "$work/build.log")"
	}
	has_image "$prefix/golang:$go" || {
		# With the machine's certificates, which may know its network's own.
		debian_root image-go ca-certificates --variant=apt \
			--customize-hook='copy-in /etc/ssl/certs /etc/ssl' --customize-hook="copy-in $(go env GOROOT) /usr/local" |
			xargs cat | docker import --change 'ENV PATH=/usr/local/go/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
			--change "ENV GOPROXY=$(go env GOPROXY)" - "$prefix/golang:$go" >/dev/null
	}
}

has_image() { docker image inspect "$1" >/dev/null 2>&1; }

build() { # BASE OPTION...
	docker build --quiet --network=host --build-arg "GO=$prefix/golang:$(go env GOVERSION)" --build-arg "BASE=$1" \
		--build-arg "VERSION=$version" --build-arg "REVISION=$revision" "${@:2}" >"$work/build.log" 2>&1 ||
		die "the Dockerfile does not build: $(tail -n 20 "$work/build.log")"
}

# in_image PROGRAM [ARGUMENT...] runs a program as the chart's controller does.
in_image() {
	docker run --rm --network=none --read-only --cap-drop=ALL --security-opt=no-new-privileges --entrypoint "$1" "$image" "${@:2}"
}

expect() { [ "$2" = "$1" ] || die "want \"$1\", have \"$2\""; }

runs_as_nobody() {
	expect "uid=65532 gid=65532 groups=65532" "$(in_image id)"
	docker run --rm --network=none --read-only --cap-drop=ALL "$image" --help | grep 'Block storage for Kubernetes' >/dev/null ||
		die "the entry point is not our program"
}

# has_what_it_needs: nsenter, public certificates, our static binary, and no package that neither
# the base has nor the Dockerfile names.
# shellcheck disable=SC2016 # for dpkg-query
has_what_it_needs() {
	in_image nsenter --version >/dev/null
	in_image grep -q 'BEGIN CERTIFICATE' /etc/ssl/certs/ca-certificates.crt || die "no public authorities: Swift by https is refused"
	docker run --rm --network=none --entrypoint dpkg-query "$prefix/debian:bookworm" -W -f '${Package}\n' | sort >"$work/base"
	in_image dpkg-query -W -f '${Package}\n' | sort >"$work/have"
	expect '' "$(comm -13 "$work/base" "$work/have")"
	expect '' "$(in_image find /usr/bin /usr/sbin /usr/local -name 'gcc*' -o -name go -o -name 'mkfs.ext4' -o -name iscsiadm)"
	expect /usr/local/bin/csi-swiftblock "$(in_image find /usr/local -type f)"
	local container
	container=$(docker create "$image")
	docker cp "$container:/usr/local/bin/csi-swiftblock" "$work/csi-swiftblock"
	docker rm "$container" >/dev/null
	go version -m "$work/csi-swiftblock" >"$work/modules"
	grep -q 'build.*CGO_ENABLED=0' "$work/modules" || die "the binary is not static"
}

is_labelled() {
	local label
	for label in "title csi-swiftblock" "licenses Apache-2.0" "version $version" "revision $revision" \
		"base.name $prefix/debian:bookworm"; do
		expect "${label#* }" "$(docker image inspect -f "{{index .Config.Labels \"org.opencontainers.image.${label%% *}\"}}" "$image")"
	done
}

# lists_what_it_has FILE writes an SPDX document: Debian's packages and Go's modules, by what
# the image itself says of them. (A release has buildx make one, see the Dockerfile.)
# shellcheck disable=SC2016 # for dpkg-query
lists_what_it_has() {
	{
		in_image dpkg-query -W -f 'deb debian/${Package} ${Version}\n'
		awk '$1 == "dep" { print "golang", $2, $3 }' "$work/modules"
	} | awk -v revision="$revision" -v created="$(date -u +%FT%TZ)" '
		BEGIN {
			printf "{\"spdxVersion\": \"SPDX-2.3\", \"dataLicense\": \"CC0-1.0\", \"SPDXID\": \"SPDXRef-DOCUMENT\", \"name\": \"csi-swiftblock\",\n" \
				" \"documentNamespace\": \"https://swiftblock.dev/spdx/%s\",\n" \
				" \"creationInfo\": {\"created\": \"%s\", \"creators\": [\"Tool: test/image/image.sh\"]}, \"packages\": [", revision, created
		}
		{
			printf "%s\n  {\"SPDXID\": \"SPDXRef-%d\", \"name\": \"%s\", \"versionInfo\": \"%s\", \"downloadLocation\": \"NOASSERTION\", \"filesAnalyzed\": false,\n" \
				"   \"externalRefs\": [{\"referenceCategory\": \"PACKAGE-MANAGER\", \"referenceType\": \"purl\", \"referenceLocator\": \"pkg:%s/%s@%s\"}]}", \
				(NR > 1 ? "," : ""), NR, $2, $3, $1, $2, $3
		}
		END { print "]}" }' >"$1"
	python3 -c 'import json, sys
names = [p["name"] for p in json.load(open(sys.argv[1]))["packages"]]
assert "debian/util-linux" in names and "google.golang.org/grpc" in names, names
print(len(names), "packages are listed", file=sys.stderr)' "$1"
}

# other_architecture: an image for arm64 of programs for arm64.
other_architecture() {
	local container
	build "$prefix/debian:bookworm-arm64" --platform linux/arm64 --tag "$image-arm64" .
	expect 'arm64 65532:65532 [/usr/local/bin/csi-swiftblock]' \
		"$(docker image inspect -f '{{.Architecture}} {{.Config.User}} {{.Config.Entrypoint}}' "$image-arm64")"
	container=$(docker create --platform linux/arm64 "$image-arm64")
	docker cp "$container:/usr/local/bin/csi-swiftblock" "$work/csi-swiftblock-arm64"
	docker cp --follow-link "$container:/usr/bin/nsenter" "$work/nsenter"
	docker rm "$container" >/dev/null
	expect "b7 00" "$(od -An -tx1 -j18 -N2 "$work/nsenter" | xargs)" # ELF: e_machine
	go version -m "$work/csi-swiftblock-arm64" | grep GOARCH=arm64 >/dev/null || die "not a binary for arm64"
	qemu-aarch64-static "$work/csi-swiftblock-arm64" --help | grep 'Block storage for Kubernetes' >/dev/null
}

main "$@"
