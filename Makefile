# Everything a person or a CI job runs by hand. It needs GNU make, bash, Go with
# its module proxy, and for the Python SDK python3 (3.11 or later) with venv and
# PyPI; "make race" also needs a C compiler.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS   += --no-builtin-rules
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

GO ?= go
BIN := $(CURDIR)/.bin

PYTHON ?= python3

# Bound on one package's tests. All of them together aim at ten minutes on two
# cores; a package that comes near this bound by itself is too slow.
TEST_TIMEOUT ?= 8m

# The packages with goroutines: what they share is what the race detector is
# for. The core (fsm, lease) has none.
RACE_DIRS     ?= agent cmd consensus gossip link sdk/go sim uds
RACE_PACKAGES ?= $(patsubst %,./%/...,$(wildcard $(RACE_DIRS)))

FUZZ_TIME  ?= 20s
BENCH      ?= .
BENCH_TIME ?= 1s
# Where make install puts things.
PREFIX  ?= /usr
DESTDIR ?=
# For make mutants: a regular expression of rule names.
MUTANT     ?= .

# Each nested module is tidy by itself.
MODULES := . tools internal/gometricscompat deploy/schematest

.PHONY: help
help: ## list these targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## compile every package, and the commands into bin/
	$(GO) build ./...
	$(GO) build -trimpath -o bin/raftlock-sidecar ./cmd/sidecar
	$(GO) build -trimpath -o bin/raftlock ./cmd/raftlock

# PREFIX and DESTDIR as usual. Static, so that they run on any host.
.PHONY: install
install: ## install programs, units and completions (PREFIX=/usr DESTDIR=)
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/raftlock-sidecar ./cmd/sidecar
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/raftlock ./cmd/raftlock
	BIN=bin PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' deploy/install.sh

.PHONY: run
run: build ## one host, to try it out: prints the socket and what to type next
	./bin/raftlock-sidecar --dev

.PHONY: demo
demo: build ## a cluster of seven agents on this host, until Ctrl-C
	./bin/raftlock demo

.PHONY: trace
trace: ## one trace of a contended acquire, on real processes: printed, and as OTLP JSON for Jaeger
	RAFTLOCK_TRACE=$(CURDIR)/bin/trace.json $(GO) test -count=1 -run 'TestTrace$$' -v ./sim/processes

.PHONY: test
test: python-test ## run all tests, within ten minutes on two cores
	RAFTLOCK_PYTHON=$(PYTHON_DEV)/bin/python $(GO) test -timeout $(TEST_TIMEOUT) ./...
	$(GO) -C deploy/schematest test -timeout $(TEST_TIMEOUT) ./...

.PHONY: deploy-check
deploy-check: ## run what is deployed: units, image, manifests (most of it as root)
	$(GO) test -count=1 -v -timeout $(TEST_TIMEOUT) ./deploy/...
	$(GO) -C deploy/schematest test -count=1 -timeout $(TEST_TIMEOUT) ./...

.PHONY: race
race: ## run the tests of packages with goroutines under the race detector, the short way
	$(GO) test -race -short -timeout $(TEST_TIMEOUT) $(RACE_PACKAGES)

.PHONY: lint
lint: lint-format lint-vet lint-static python-lint ## check formatting, go vet, staticcheck, ruff, mypy

.PHONY: lint-format
lint-format:
	@bad=$$(gofmt -l .); if [[ -n "$$bad" ]]; then echo 'not formatted (gofmt -w mends it):'; echo "$$bad"; exit 1; fi

.PHONY: lint-vet
lint-vet:
	$(GO) vet ./...
	$(GO) vet -tags mutants ./...
	$(GO) -C internal/gometricscompat vet ./...
	$(GO) -C deploy/schematest vet ./...

.PHONY: lint-static
lint-static:
	$(GO) tool -modfile=tools/go.mod staticcheck ./...

# The Python SDK. Its virtual environments and caches are under $(BIN): one with
# what is current, to work with; one with the oldest that the package claims; and
# one to generate code.
PYTHON_DEV      := $(BIN)/python
PYTHON_OLDEST   := $(BIN)/python-oldest
PYTHON_GENERATE := $(BIN)/python-generate

PYTHON_SOURCES := sdk/python/pyproject.toml $(shell find sdk/python/src -name '*.py' -o -name '*.pyi')

export PYTHONPYCACHEPREFIX := $(BIN)/pycache
export PIP_CACHE_DIR       := $(BIN)/pip

PIP := bin/python -m pip --quiet --disable-pip-version-check --no-input install

# venv,DIRECTORY: an empty environment, or a word on what to install for it.
define venv
@$(PYTHON) -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	echo 'The Python SDK needs python3, 3.11 or later, with venv: apt-get install python3 python3-venv'; exit 1; }
rm -rf $(1)
$(PYTHON) -m venv $(1)
endef

$(PYTHON_DEV)/.made: sdk/python/requirements/dev.txt sdk/python/pyproject.toml
	$(call venv,$(PYTHON_DEV))
	$(PYTHON_DEV)/$(PIP) -r $<
	$(PYTHON_DEV)/$(PIP) --no-build-isolation --no-deps -e sdk/python
	@touch $@

$(PYTHON_GENERATE)/.made: sdk/python/requirements/generate.txt
	$(call venv,$(PYTHON_GENERATE))
	$(PYTHON_GENERATE)/$(PIP) -r $<
	@touch $@

$(PYTHON_OLDEST)/.made: sdk/python/requirements/oldest.txt
	$(call venv,$(PYTHON_OLDEST))
	$(PYTHON_OLDEST)/$(PIP) -r $<
	@touch $@

# As a user installs it.
$(PYTHON_OLDEST)/.installed: $(PYTHON_OLDEST)/.made $(PYTHON_SOURCES)
	$(PYTHON_OLDEST)/$(PIP) --force-reinstall --no-deps ./sdk/python
	@touch $@

.PHONY: python-venv
python-venv: $(PYTHON_DEV)/.made ## make .bin/python, a virtual environment with the Python SDK in it

PYTEST := bin/python -m pytest -p no:cacheprovider sdk/python/tests

.PHONY: python-test
python-test: build $(PYTHON_DEV)/.made $(PYTHON_OLDEST)/.installed ## run the Python SDK's tests, also with the oldest grpcio and protobuf
	@$(PYTHON_OLDEST)/$(PYTEST) >$(BIN)/python-oldest.log 2>&1 & oldest=$$!; failed=0; \
	echo 'with the newest:'; $(PYTHON_DEV)/$(PYTEST) || failed=1; \
	wait $$oldest || failed=1; echo 'with the oldest:'; cat $(BIN)/python-oldest.log; exit $$failed

.PHONY: python-lint
python-lint: $(PYTHON_DEV)/.made ## check the Python SDK and examples by ruff and mypy --strict
	$(PYTHON_DEV)/bin/ruff check --quiet --cache-dir $(BIN)/ruff sdk/python
	$(PYTHON_DEV)/bin/ruff format --quiet --check --diff --cache-dir $(BIN)/ruff sdk/python
	cd sdk/python && $(PYTHON_DEV)/bin/mypy --cache-dir $(BIN)/mypy
	$(PYTHON_DEV)/bin/ruff check --quiet --cache-dir $(BIN)/ruff --config sdk/python/pyproject.toml examples
	$(PYTHON_DEV)/bin/ruff format --quiet --check --diff --cache-dir $(BIN)/ruff --config sdk/python/pyproject.toml examples
	$(PYTHON_DEV)/bin/mypy --strict --cache-dir $(BIN)/mypy examples/*/*.py

# python-generate,DIRECTORY: the messages that the SDK uses. The files keep their
# names in the API (another copy in the same process is then the same), and lie
# in a package of their own.
define python-generate
$(PYTHON_GENERATE)/bin/python -W ignore -m grpc_tools.protoc -I. \
	--python_out=$(1) --pyi_out=$(1) api/raftlock/v1/read.proto api/raftlock/v1/session.proto && \
sed -i 's/^from api\.raftlock\.v1 import/from raftlock._proto import/' $(1)/api/raftlock/v1/*.py* && \
mv $(1)/api/raftlock/v1/*.py* $(1)/ && rmdir -p --ignore-fail-on-non-empty $(1)/api/raftlock/v1
endef

# The generators, at the versions tools/go.mod names.
GENERATORS := $(BIN)/buf $(BIN)/protoc-gen-go $(BIN)/protoc-gen-go-grpc

$(BIN)/buf:                package := github.com/bufbuild/buf/cmd/buf
$(BIN)/protoc-gen-go:      package := google.golang.org/protobuf/cmd/protoc-gen-go
$(BIN)/protoc-gen-go-grpc: package := google.golang.org/grpc/cmd/protoc-gen-go-grpc

$(GENERATORS): tools/go.mod tools/go.sum
	@mkdir -p $(BIN)
	$(GO) -C tools build -buildvcs=false -o $@ $(package)
	@touch $@

.PHONY: generate
generate: $(GENERATORS) $(PYTHON_GENERATE)/.made ## regenerate the Go and Python code of every .proto, and docs/reference-*.md
	PATH=$(BIN):$$PATH buf generate
	$(call python-generate,sdk/python/src/raftlock/_proto)
	RAFTLOCK_UPDATE_REFERENCE=1 $(GO) test -count=1 -run '^TestReferenceIsFresh$$' ./cmd/raftlock ./cmd/sidecar

.PHONY: verify
verify: lint verify-generated verify-tidy verify-structure ## check all but behaviour; changes nothing

# Generates into an empty directory and compares both ways, so that a stale
# file is found, and one whose .proto is gone.
.PHONY: verify-generated
verify-generated: $(GENERATORS) $(PYTHON_GENERATE)/.made
	@fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	PATH=$(BIN):$$PATH buf generate -o "$$fresh"; \
	list() { (cd "$$1" && find . -name '*.pb.go' -not -path './.*/*' | sort); }; \
	if ! diff <(list .) <(list "$$fresh"); then echo 'generated files are missing or left over: make generate'; exit 1; fi; \
	for file in $$(list "$$fresh"); do \
		if ! diff -u "$$file" "$$fresh/$$file"; then echo "$$file is stale: make generate"; exit 1; fi; \
	done; \
	mkdir "$$fresh/python"; \
	$(call python-generate,"$$fresh/python"); \
	if ! diff -ru --exclude=__init__.py --exclude=__pycache__ sdk/python/src/raftlock/_proto "$$fresh/python"; then \
		echo 'sdk/python/src/raftlock/_proto is stale: make generate'; exit 1; fi; \
	echo 'generated code is fresh'

.PHONY: verify-tidy
verify-tidy: $(MODULES:%=verify-tidy/%)

.PHONY: $(MODULES:%=verify-tidy/%)
$(MODULES:%=verify-tidy/%): verify-tidy/%:
	$(GO) -C $* mod tidy -diff

.PHONY: verify-structure
verify-structure:
	$(GO) test ./internal/structure/...

.PHONY: mutants
mutants: ## take out each safety rule and show that a test notices (MUTANT=regexp)
	$(GO) run ./internal/mutant/cmd/mutants -run '$(MUTANT)'

# go test fuzzes one target of one package at a time.
.PHONY: fuzz
fuzz: ## fuzz every target for FUZZ_TIME (20s)
	@{ grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . || true; } | sort | while IFS=: read -r file target; do \
		echo "fuzz $$(dirname "$$file") $${target#func }"; \
		$(GO) test -run '^$$' -fuzz "^$${target#func }\$$" -fuzztime $(FUZZ_TIME) "$$(dirname "$$file")"; \
	done

.PHONY: bench
bench: ## run the benchmarks (BENCH=regexp)
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchtime $(BENCH_TIME) ./...
