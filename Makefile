# make help lists the targets. Everything that is more than a command is in hack/.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help build test race lint generate verify demo conformance initiator initiator-smp sanity sanity-live e2e e2e-full e2e-node e2e-node-full kube mutants bench-engine bench-catalog bench-target fuzz swift-up swift-down clean distclean need-go soak catalog-swift image

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

need-go:
	@command -v go >/dev/null || { echo "make: there is no Go: install Go 1.26 or newer and put it on PATH" >&2; exit 1; }

build: need-go ## bin/csi-swiftblock, static
	CGO_ENABLED=0 go build -trimpath -ldflags=-s -o bin/ ./cmd/...

demo: need-go ## the whole product once, with real parts (SWIFT=real: on OpenStack Swift)
	@hack/demo.sh

test: need-go ## every proof, in nine stages (docs/testing.md)
	@hack/test.sh

race: need-go ## the unit tests, with the race detector
	@hack/test.sh race

soak: need-go ## the engine's random tests for hours: new cases, 500 rounds of kill -9 on a real Swift
	@hack/test.sh soak

catalog-swift: need-go ## 50 snapshots and clones of a Debian image on a real Swift, deleted in random order
	@hack/test.sh catalog-swift

conformance: need-go ## libiscsi's suite against our target and tgt
	@hack/test.sh conformance

initiator: need-go ## the Linux initiator against our target, in the guest
	@hack/test.sh initiator

initiator-smp: need-go ## a Linux with four processors against our target, with the race detector
	@test/conformance/smp.sh

sanity: need-go ## csi-sanity against the driver in one process
	@hack/test.sh sanity

sanity-live: need-go ## csi-sanity against the real processes and a kernel initiator (SWIFT=real: three Swift nodes, one failing)
	@hack/test.sh sanity-live

e2e-node: need-go ## the promises as scenarios, with kernel initiators and a real Swift
	@hack/test.sh e2e-node

e2e-node-full: need-go ## the same and what takes long: hours
	@E2E_FULL=1 hack/test.sh e2e-node

kube: need-go ## the authority in Kubernetes on a real etcd and kube-apiserver (minutes to build, once)
	@hack/test.sh kube

e2e: need-go ## what users do, on a real Kubernetes with our chart
	@test/kube/e2e.sh

e2e-full: need-go ## the same and what takes long: all of Kubernetes' storage suite, a node that reboots
	@E2E_FULL=1 test/kube/e2e.sh
	@MUTANT=1 test/kube/reboot.sh

image: need-go ## the image from the Dockerfile, with Debian's docker, and what is in it (up to half an hour)
	@test/image/image.sh $(FILE)

bench-engine: need-go ## the block engine against its peers (ARGS="-quick -force")
	go run ./test/bench/engine $(ARGS)

bench-catalog: build ## the catalog and the administrator's commands against fsync and curl (ARGS="-quick -force")
	go run ./test/bench/catalog $(ARGS)

bench-target: need-go ## our iSCSI target against tgt (ARGS="-quick -force")
	go run ./test/bench/target $(ARGS)

fuzz: need-go ## every fuzz target, FUZZ seconds in all (30)
	@hack/fuzz.sh $(FUZZ)

mutants: need-go ## defects made on purpose, each of which a test must notice
	go run ./test/mutants

lint: need-go ## formatting, vet, staticcheck, shellcheck, file lengths
	@hack/lint.sh

generate: need-go ## what is generated: wire protocol, resource definitions, manifests
	@hack/generate.sh

verify: need-go ## that what is generated is up to date, and go.mod tidy
	@hack/verify.sh

swift-up: ## a real OpenStack Swift on loopback, from Debian's packages
	@hack/swift.sh up

swift-down: ## stops it
	@hack/swift.sh down

clean: ## what was built in this tree
	rm -rf bin .cache

distclean: clean ## and the guest, which other clones share
	test/guest/guest.sh clean
