#!/bin/bash
# images.sh DIRECTORY PROGRAMS: the container images of the test cluster, as OCI archives,
# without docker and without a registry. PROGRAMS is what build.sh printed.
#
#   swiftblock.test/csi-swiftblock:test   the driver: Debian's packages that the Dockerfile needs, and our binary;
#                                         or IMAGE, a file that test/image/image.sh made
#   swiftblock.test/csi-swiftblock:next   the next release, whose nodes' records have a newer format; not with FEW_IMAGES
#   swiftblock.test/<sidecar>:test        each CSI sidecar alone
#   swiftblock.test/busybox:test          what the pods of the tests run; also as swiftblock.test/pause:1
#   swiftblock.test/postgres:test         Debian's PostgreSQL, with as much of the usual image's ways as the tests need;
#                                         not with FEW_IMAGES
#
# images.sh suite DIRECTORY PROGRAMS: those that Kubernetes' own storage suite asks for, under
# the names that it asks for. PROGRAMS is what build.sh suite printed. agnhost is the real one,
# on Debian's packages; the others are busybox: the suite wants a shell and its tools of them.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
# shellcheck source=hack/lib.sh
. hack/lib.sh

what=product
[ "$1" != suite ] || { what=suite && shift; }
images=$(realpath -m "$1")
programs=$2
prefix=swiftblock.test

# archive NAME TAG ENTRYPOINT LAYER...: an OCI archive of tar files; ENTRYPOINT is JSON.
archive() {
	local name=$1 tag=$2 entrypoint=$3 layer layers=() diffs=() layout
	shift 3
	layout=$(mktemp -d -p "$work")
	mkdir -p "$layout/blobs/sha256"
	for layer; do
		cp "$layer" "$layout/blob"
		diffs+=("\"sha256:$(digest "$layout/blob")\"")
		layers+=("$(blob "$layout" application/vnd.oci.image.layer.v1.tar)")
	done
	cat >"$layout/blob" <<-END
		{"architecture": "$(dpkg --print-architecture)", "os": "linux",
		 "config": {"Entrypoint": $entrypoint, "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
		 "rootfs": {"type": "layers", "diff_ids": [$(comma "${diffs[@]}")]}}
	END
	local config manifest
	config=$(blob "$layout" application/vnd.oci.image.config.v1+json)
	cat >"$layout/blob" <<-END
		{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		 "config": $config, "layers": [$(comma "${layers[@]}")]}
	END
	manifest=$(blob "$layout" application/vnd.oci.image.manifest.v1+json \
		", \"annotations\": {\"io.containerd.image.name\": \"$prefix/$name:$tag\"}")
	echo "{\"schemaVersion\": 2, \"manifests\": [$manifest]}" >"$layout/index.json"
	echo '{"imageLayoutVersion": "1.0.0"}' >"$layout/oci-layout"
	tar -C "$layout" -cf "$images/$name-$tag.tar.new" oci-layout index.json blobs
	mv "$images/$name-$tag.tar.new" "$images/$name-$tag.tar"
	rm -rf "$layout"
}

digest() { sha256sum "$1" | cut -d' ' -f1; }

# blob LAYOUT TYPE [MORE] files LAYOUT/blob under its digest and prints its descriptor.
blob() {
	local hash size
	hash=$(digest "$1/blob")
	size=$(stat -c %s "$1/blob")
	mv "$1/blob" "$1/blobs/sha256/$hash"
	echo "{\"mediaType\": \"$2\", \"digest\": \"sha256:$hash\", \"size\": $size${3:-}}"
}

comma() { local IFS=,; echo "$*"; }

# layer TAR DIRECTORY
layer() { tar --numeric-owner --owner=0 --group=0 --mtime=@0 --sort=name -C "$2" -cf "$1" .; }

# base prints a root of Debian's packages with what the Dockerfile needs of its BASE.
base() { debian_root driver util-linux; }

# next_release builds DIRECTORY/csi-swiftblock with a newer format of a node's record, which
# reads those before, too. As that release is not yet written, a copy of one file is changed.
next_release() {
	local file=pkg/attach/record.go
	sed -E -e 's/^(\trecordFormat +)= 1$/\1= 3/' \
		-e 's/r.Format != recordFormat && r.Format != encryptedFormat/r.Format > recordFormat/' $file >"$work/record.go"
	[ "$(diff $file "$work/record.go" | grep -c '^>')" = 2 ] || die "$file is not what it was: mend next_release"
	[ -z "${FEW_IMAGES:-}" ] || exit 0
	echo "{\"Replace\": {\"$PWD/$file\": \"$work/record.go\"}}" >"$work/overlay.json"
	go build -overlay "$work/overlay.json" -trimpath -ldflags='-s -X main.version=next' -o "$1/" ./cmd/csi-swiftblock
}

# shellcheck disable=SC2016 # for the shell that mmdebstrap runs
postgres() {
	debian_root postgres postgresql-15 --dpkgopt='path-exclude=/usr/lib/*/libLLVM*' \
		--dpkgopt='path-exclude=/usr/lib/postgresql/*/lib/bitcode/*' --dpkgopt='path-exclude=/usr/lib/postgresql/*/lib/llvmjit.so' \
		--essential-hook='echo postgres:x:999:999::/var/lib/postgresql:/bin/sh >>"$1/etc/passwd"
			echo postgres:x:999: >>"$1/etc/group"
			mkdir "$1/etc/postgresql-common"
			echo "create_main_cluster = false" >"$1/etc/postgresql-common/createcluster.conf"'
}

need_packages mmdebstrap busybox-static
mkdir -p "$images"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir -p "$work"/busybox/{bin,etc,tmp,proc,sys,dev}
cp /bin/busybox "$work/busybox/bin/"
for applet in $(busybox --list | grep -vx busybox); do ln -sf busybox "$work/busybox/bin/$applet"; done
layer "$work/busybox.tar" "$work/busybox"

if [ $what = suite ]; then
	mkdir "$work/agnhost"
	cp "$programs/agnhost" "$work/agnhost/"
	layer "$work/agnhost.tar" "$work/agnhost"
	prefix=registry.k8s.io/e2e-test-images
	archive agnhost 2.56 '["/agnhost"]' "$(base)" "$work/agnhost.tar"
	# The suite writes with oflag=nocache, which Debian's busybox does not know, and whose shell
	# prefers its own dd to any other: both are others here. The shell knows "let", by which the suite
	# counts.
	for file in /bin/dd /bin/bash $(ldd /bin/dd /bin/bash | grep -o '/[^ :]* '); do
		install -D "$file" "$work/busybox$file"
	done
	ln -sf bash "$work/busybox/bin/sh"
	layer "$work/busybox.tar" "$work/busybox"
	archive busybox 1.37.0-1 null "$work/busybox.tar"
	archive nginx 1.14-4 null "$work/busybox.tar"
	archive jessie-dnsutils 1.7 null "$work/busybox.tar"
	prefix=registry.k8s.io
	archive pause 3.10.1 '["/bin/sleep", "2147483647"]' "$work/busybox.tar"
	exit
fi

archive busybox test null "$work/busybox.tar"
archive pause 1 '["/bin/sleep", "2147483647"]' "$work/busybox.tar"

make -s build
mkdir -p "$work"/{driver,next}/usr/local/bin
if [ -n "${IMAGE:-}" ]; then
	cp "$IMAGE" "$images/csi-swiftblock-test.tar"
else
	cp bin/csi-swiftblock "$work/driver/usr/local/bin/"
	layer "$work/driver.tar" "$work/driver"
	archive csi-swiftblock test '["/usr/local/bin/csi-swiftblock"]' "$(base)" "$work/driver.tar"
fi

for name in csi-provisioner csi-attacher csi-resizer csi-snapshotter; do
	mkdir "$work/$name"
	cp "$programs/$name" "$work/$name/"
	layer "$work/$name.tar" "$work/$name"
	archive $name test "[\"/$name\"]" "$work/$name.tar"
done

images+=/later # see node.sh
mkdir -p "$images"
next_release "$work/next/usr/local/bin"
layer "$work/next.tar" "$work/next"
archive csi-swiftblock next '["/usr/local/bin/csi-swiftblock"]' "$(base)" "$work/next.tar"

mkdir -p "$work/postgres/usr/local/bin" "$work/postgres/run/postgresql"
chmod 1777 "$work/postgres/run/postgresql"
for program in initdb postgres pg_isready psql pgbench pg_amcheck; do
	ln -s "/usr/lib/postgresql/15/bin/$program" "$work/postgres/usr/local/bin/"
done
cat >"$work/postgres/usr/local/bin/start" <<'END'
#!/bin/sh -e
[ -s "$PGDATA/PG_VERSION" ] || initdb --auth="$POSTGRES_HOST_AUTH_METHOD" --data-checksums >/dev/null
exec postgres -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories=/run/postgresql -c jit=off
END
chmod +x "$work/postgres/usr/local/bin/start"
layer "$work/postgres.tar" "$work/postgres"
archive postgres test '["/usr/local/bin/start"]' "$(postgres)" "$work/postgres.tar"
