# Everything a person or a CI job runs by hand. It needs GNU make, bash, and Go
# with its module proxy; "make race" also needs a C compiler.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS   += --no-builtin-rules
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

GO ?= go
BIN := $(CURDIR)/.bin

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
# For make mutants: a regular expression of rule names.
MUTANT     ?= .

# Each nested module is tidy by itself.
MODULES := . tools internal/gometricscompat

.PHONY: help
help: ## list these targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## compile every package, and the commands into bin/
	$(GO) build ./...
	$(GO) build -trimpath -o bin/raftlock-sidecar ./cmd/sidecar
	$(GO) build -trimpath -o bin/raftlock ./cmd/raftlock

.PHONY: run
run: build ## one host, to try it out: prints the socket and what to type next
	./bin/raftlock-sidecar --dev

.PHONY: demo
demo: build ## a cluster of seven agents on this host, until Ctrl-C
	./bin/raftlock demo

.PHONY: test
test: ## run all tests, within ten minutes on two cores
	$(GO) test -timeout $(TEST_TIMEOUT) ./...

.PHONY: race
race: ## run the tests of packages with goroutines under the race detector, the short way
	$(GO) test -race -short -timeout $(TEST_TIMEOUT) $(RACE_PACKAGES)

.PHONY: lint
lint: lint-format lint-vet lint-static ## check formatting, go vet, staticcheck

.PHONY: lint-format
lint-format:
	@bad=$$(gofmt -l .); if [[ -n "$$bad" ]]; then echo 'not formatted (gofmt -w mends it):'; echo "$$bad"; exit 1; fi

.PHONY: lint-vet
lint-vet:
	$(GO) vet ./...
	$(GO) vet -tags mutants ./...
	$(GO) -C internal/gometricscompat vet ./...

.PHONY: lint-static
lint-static:
	$(GO) tool -modfile=tools/go.mod staticcheck ./...

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
generate: $(GENERATORS) ## regenerate the Go code of every .proto
	PATH=$(BIN):$$PATH buf generate

.PHONY: verify
verify: lint verify-generated verify-tidy verify-structure ## check all but behaviour; changes nothing

# Generates into an empty directory and compares both ways, so that a stale
# file is found, and one whose .proto is gone.
.PHONY: verify-generated
verify-generated: $(GENERATORS)
	@fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	PATH=$(BIN):$$PATH buf generate -o "$$fresh"; \
	list() { (cd "$$1" && find . -name '*.pb.go' -not -path './.*/*' | sort); }; \
	if ! diff <(list .) <(list "$$fresh"); then echo 'generated files are missing or left over: make generate'; exit 1; fi; \
	for file in $$(list "$$fresh"); do \
		if ! diff -u "$$file" "$$fresh/$$file"; then echo "$$file is stale: make generate"; exit 1; fi; \
	done; \
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
