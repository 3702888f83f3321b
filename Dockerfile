# The image of csi-swiftblock, for all of its processes and both architectures, with a list of
# what is in it (SBOM) and of how it was made attached:
#
#	docker buildx build --platform linux/amd64,linux/arm64 --sbom=true --provenance=true \
#		--build-arg VERSION=… --build-arg REVISION=$(git rev-parse HEAD) --tag … --push .
#
# Nothing of the other architecture is run for it: the program is cross-compiled, and the image
# is BASE and two files.
#
# test/image/image.sh builds it with Debian's docker; test/kube/images.sh makes the image of the tests.
ARG GO=golang:1.26-bookworm
ARG BASE=debian:bookworm-slim

FROM --platform=$BUILDPLATFORM ${GO} AS build
ARG TARGETOS TARGETARCH VERSION=0.0.0-dev
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY cmd cmd
COPY pkg pkg
RUN CGO_ENABLED=0 GOOS=${TARGETOS} GOARCH=${TARGETARCH} \
	go build -trimpath -ldflags "-s -X main.version=${VERSION}" -o /csi-swiftblock ./cmd/csi-swiftblock

FROM ${BASE}
ARG BASE VERSION=0.0.0-dev REVISION=
# Of BASE we need nsenter, of util-linux, which every Debian has: the node process uses the tools
# of its host (iscsiadm, mkfs, mount), in the host's namespaces.
COPY --from=build /csi-swiftblock /usr/local/bin/csi-swiftblock
# The public authorities, for a Swift whose certificate is of one of them: the base has none.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
LABEL org.opencontainers.image.title="csi-swiftblock" \
	org.opencontainers.image.description="Block storage for Kubernetes on OpenStack Swift" \
	org.opencontainers.image.licenses="Apache-2.0" \
	org.opencontainers.image.source="https://github.com/swiftblock/csi-swiftblock" \
	org.opencontainers.image.documentation="https://github.com/swiftblock/csi-swiftblock/blob/main/docs/install.md" \
	org.opencontainers.image.version="${VERSION}" \
	org.opencontainers.image.revision="${REVISION}" \
	org.opencontainers.image.base.name="${BASE}"
# The controller's user; the chart runs the node's containers as root.
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/csi-swiftblock"]
