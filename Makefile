# omni-syncd: `make help` lists what there is.
.DEFAULT_GOAL := help
SHELL := /bin/bash

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BENCH ?= .
FUZZTIME ?= 10s

.PHONY: help
help: ## Show this help
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/omni-syncd
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/omni-syncd ./cmd/omni-syncd

DIST ?= dist
ARCH ?= $(shell go env GOARCH)
# Packages sort by their version; what has no tag comes before everything that has one.
PACKAGE_VERSION = $(if $(filter v0% v1% v2% v3% v4% v5% v6% v7% v8% v9%,$(VERSION)),$(VERSION),0.0.0-dev.$(VERSION))

.PHONY: package
package: ## Build the deb and the rpm into dist/ (ARCH=arm64 for another machine)
	@mkdir -p $(DIST)
	CGO_ENABLED=0 GOOS=linux GOARCH=$(ARCH) go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o $(DIST)/omni-syncd-linux-$(ARCH) ./cmd/omni-syncd
	@set -e; for packager in deb rpm; do \
	  ARCH=$(ARCH) VERSION=$(PACKAGE_VERSION) BINARY=$(DIST)/omni-syncd-linux-$(ARCH) SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct 2>/dev/null || echo 0) \
	    go tool -modfile=tools/nfpm/go.mod nfpm package --config deploy/packages/nfpm.yaml --packager $$packager --target $(DIST)/; \
	done

# Both machines in one image; nothing that the machine it is built on has comes into it.
IMAGE_EPOCH = $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
BUILDAH = STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot buildah --root $(abspath $(DIST))/image/.storage/root --runroot $(abspath $(DIST))/image/.storage/run

.PHONY: image-files
image-files: ## Put what the image is made of into dist/image, for deploy/image/Dockerfile
	@rm -rf $(DIST)/image && mkdir -p $(DIST)/image/rootfs
	@install -d -m 0755 $(DIST)/image/rootfs $(DIST)/image/rootfs/etc $(DIST)/image/rootfs/etc/ssl $(DIST)/image/rootfs/etc/ssl/certs
	@install -d -m 1777 $(DIST)/image/rootfs/tmp
	go -C tools/roots run . > $(DIST)/image/roots.pem && install -m 0644 $(DIST)/image/roots.pem $(DIST)/image/rootfs/etc/ssl/certs/ca-certificates.crt
	@set -e; for arch in amd64 arm64; do echo "omni-syncd for linux/$$arch"; \
	  CGO_ENABLED=0 GOOS=linux GOARCH=$$arch go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o $(DIST)/image/omni-syncd-linux-$$arch ./cmd/omni-syncd; \
	done

.PHONY: image
image: image-files ## Build the image for amd64 and arm64 into dist/omni-syncd.oci.tar, without Docker (needs buildah)
	@$(BUILDAH) manifest create omni-syncd >/dev/null
	@# One after the other: side by side they come into the index in any order.
	@set -e; for arch in amd64 arm64; do \
	  $(BUILDAH) build --quiet --file deploy/image/Dockerfile --platform linux/$$arch --timestamp $(IMAGE_EPOCH) \
	    --build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) \
	    --manifest omni-syncd $(DIST)/image >/dev/null; \
	done
	@rm -f $(DIST)/omni-syncd.oci.tar
	@$(BUILDAH) manifest push --quiet --all omni-syncd oci-archive:$(DIST)/omni-syncd.oci.tar:$(VERSION)
	@rm -rf $(DIST)/image/.storage
	@echo $(DIST)/omni-syncd.oci.tar

.PHONY: demo
demo: build ## Try it: an Omni and a Git repository in one process (ONCE=1 exits when all is synced)
	./bin/omni-syncd demo $(if $(ONCE),--once)

.PHONY: test
test: ## Run all tests, with the race detector
	go test -race -timeout 15m ./...

.PHONY: test-packages
test-packages: ## Build, install, upgrade and purge the deb and the rpm, in a root of their own; as root
	OMNI_SYNCD_TEST_PACKAGES=1 go test -count=1 -timeout 15m ./deploy/packages

.PHONY: e2e
e2e: ## Run the conformance tests and the stories against the Omni that OMNI_ENDPOINT and OMNI_SERVICE_ACCOUNT_KEY name
	@test -n "$$OMNI_ENDPOINT" || { echo "set OMNI_ENDPOINT and OMNI_SERVICE_ACCOUNT_KEY; without them 'make test' runs the stories against the embedded Omni"; exit 2; }
	@go run ./test/e2e
	go test -count=1 -timeout 15m ./test/conformance
	go test -count=1 -timeout 15m -run 'TestStories' ./cmd/omni-syncd

KUBE = $(CURDIR)/bin/kube
# Packages that are about Kubernetes, and others with some tests that need a kube-apiserver,
# whose names begin with TestKube.
KUBE_ALL = ./test/kube ./pkg/replica ./test/failover
KUBE_SOME = ./pkg/access ./cmd/omni-syncd

.PHONY: kube
kube: ## Build etcd and kube-apiserver into bin/kube (minutes, once)
	CGO_ENABLED=0 go build -C test/kube/components -trimpath -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$$(go list -C test/kube/components -m -f '{{.Version}}' k8s.io/kubernetes)" -o $(KUBE)/ tool

.PHONY: test-kube
test-kube: kube ## Run the tests against a real kube-apiserver
	OMNI_SYNCD_TEST_KUBE=$(KUBE) go test -race -count=1 -timeout 15m $(KUBE_ALL)
	OMNI_SYNCD_TEST_KUBE=$(KUBE) go test -race -count=1 -timeout 15m -run '^TestKube' $(KUBE_SOME)

.PHONY: failover
failover: kube ## Break the replica that leads, FAILOVERS times in each test (60), on a real kube-apiserver
	OMNI_SYNCD_TEST_KUBE=$(KUBE) FAILOVERS=$(or $(FAILOVERS),60) go test -race -count=1 -timeout 60m -v ./test/failover

.PHONY: test-image
test-image: ## Build the image twice, look into it and run what is in it (needs buildah)
	OMNI_SYNCD_TEST_IMAGE=1 go test -count=1 -timeout 40m ./deploy/image

HELM = $(CURDIR)/bin/helm
.PHONY: helm
helm: ## Build helm and helm-docs into bin/helm
	CGO_ENABLED=0 go build -C tools/helm -trimpath -ldflags "-s -w" -o $(HELM)/ tool

.PHONY: test-chart
test-chart: helm ## Test the Helm chart, also against the kube-apiserver of `make test-kube` (UPDATE=1 writes its README and what it renders)
	OMNI_SYNCD_TEST_HELM=$(HELM) $(if $(wildcard $(KUBE)),OMNI_SYNCD_TEST_KUBE=$(KUBE)) go test -race -count=1 ./deploy/helm $(if $(UPDATE),-update)

.PHONY: test-costs
test-costs: ## Fail if a fleet or a change costs more requests or memory than it did
	go test -count=1 -run '^TestCosts$$' ./test/bench

.PHONY: bench
bench: ## Measure a large fleet beside upstream's own code: a table, and bench.json (CLUSTERS=…, LARGEST=…, PART=render|read|change|push|sync|growth)
	go test -count=1 -v -timeout 60m -run '^TestReport$$/$(PART)' ./test/bench -report $(CURDIR)/bench.json -commit $(VERSION) -clusters $(or $(CLUSTERS),1000) -largest $(or $(LARGEST),3000)

.PHONY: bench-parts
bench-parts: ## Run the benchmarks of single parts (BENCH=regexp)
	go test -run '^$$' -bench '$(BENCH)' -benchtime 5x -timeout 30m ./test/bench ./pkg/source ./pkg/omni ./pkg/render

.PHONY: chaos
chaos: ## Let go of everything at once, for long (SEED=…, STEPS=… or DURATION=…; 2000 steps)
	CHAOS_SEED=$(SEED) CHAOS_STEPS=$(or $(STEPS),$(if $(DURATION),,2000)) CHAOS_DURATION=$(DURATION) \
	  go test -race -count=1 -timeout 0 -v -run TestChaos ./test/chaos

.PHONY: fuzz
fuzz: ## Fuzz every parser for FUZZTIME each
	@set -e; for package in $$(go list ./...); do \
	  for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
	    echo "$$package $$target"; go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$package; \
	  done; \
	done

.PHONY: lint
lint: ## Check formatting, vet and staticcheck
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$unformatted" || { echo "not gofmt-clean: $$unformatted"; exit 1; }
	go vet ./...
	go tool staticcheck ./...

.PHONY: generate
generate: ## Generate the Go code of the API and of newer resources, and docs/api.md
	go tool -modfile=tools/go.mod buf lint
	go tool -modfile=tools/go.mod buf generate api
	go tool -modfile=tools/go.mod buf generate --template buf.gen.omni.yaml pkg/omni/installdisk

.PHONY: generate-check
generate-check: generate ## Fail if the checked-in generated code is not what is generated
	@git diff --exit-code -- api pkg/omni/installdisk docs/api.md && test -z "$$(git ls-files --others --exclude-standard -- api pkg/omni/installdisk docs)" || { echo "api/, pkg/omni/installdisk/ or docs/api.md is stale: commit what 'make generate' made"; exit 1; }

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin
