# Everything one does here. `make help` lists it.
#
# Tools beyond Go and make: gcc for the race detector, git for the version and for comparisons.
# staticcheck and benchstat come from go.mod (go tool), so that everybody has the same ones.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO       ?= go
PACKAGES ?= ./...
# A build inside a checkout without its .git must not fail over the stamp of the commit; the
# version comes from git by the linker where there is one.
export GOFLAGS := $(if $(findstring -buildvcs,$(GOFLAGS)),$(GOFLAGS),$(strip $(GOFLAGS) -buildvcs=false))
VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null)
LDFLAGS  := -s -w $(if $(VERSION),-X penstock/server.version=$(VERSION))

FUZZTIME ?= 10s
BENCH    ?= .
COUNT    ?= 6
BASE     ?= HEAD
ADDRESS  ?= 127.0.0.1:8080
NATS_PORT ?= 4222

# The race detector needs cgo and a C compiler.
CC_FOUND := $(shell command -v $${CC:-gcc} 2>/dev/null || command -v cc 2>/dev/null)
RACE     := $(if $(CC_FOUND),-race)

.PHONY: run run-cluster build test check fuzz simulate golden bench bench-record soak figures compare bench-scale link profile hooks help clean

run: build ## build bin/penstock and serve on 127.0.0.1:8080 with the demo feeds
	exec bin/penstock serve --demo --listen $(ADDRESS)

run-cluster: build ## three nodes on ports 8080 to 8082; the first has a NATS server in it and publishes the demo
	@dir=$$(mktemp -d); \
	trap 'trap - EXIT INT TERM; kill $$(jobs -p) 2>/dev/null; wait; rm -rf "$$dir"' EXIT INT TERM; \
	bin/penstock serve --listen 127.0.0.1:8080 --nats-embedded "$$dir" --nats-listen 127.0.0.1:$(NATS_PORT) --demo & \
	for i in $$(seq 100); do (exec 3<>/dev/tcp/127.0.0.1/8080) 2>/dev/null && break; sleep 0.1; done; \
	bin/penstock serve --listen 127.0.0.1:8081 --nats nats://127.0.0.1:$(NATS_PORT) & \
	bin/penstock serve --listen 127.0.0.1:8082 --nats nats://127.0.0.1:$(NATS_PORT) & \
	wait

build: ## build bin/penstock, one static file
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/penstock ./cmd/penstock

# The packages run in two lots, so that budgets and the commands of README.md are also held without
# the race detector, which changes sizes and allocations. They are compiled side by side and then run
# one after the other: each starts servers and clients enough for all cores.
test: ## vet, the house test, everything with the race detector; below ten minutes
	$(GO) vet $(PACKAGES)
	$(GO) test -run '^TestHouse' ./cmd/penstock
ifeq ($(RACE),)
	@echo 'no C compiler found (gcc): the race detector needs one, so everything runs without it' >&2
else
	CGO_ENABLED=1 $(GO) test -race -run '^$$' $(PACKAGES) >/dev/null
	CGO_ENABLED=1 $(GO) test -race -p 1 -timeout 5m $(PACKAGES)
endif
	$(GO) test -p 1 -timeout 4m $(PACKAGES)

check: ## what has to hold before every commit: gofmt, vet, staticcheck, the house test
	@unformatted=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go' 2>/dev/null || find . -name '*.go')); \
	if [ -n "$$unformatted" ]; then echo "gofmt -w these:" >&2; echo "$$unformatted" >&2; exit 1; fi
	$(GO) vet $(PACKAGES)
	$(GO) tool staticcheck $(PACKAGES)
	$(GO) test -run '^TestHouse' ./cmd/penstock

fuzz: ## every fuzz target for FUZZTIME (10s); what it finds lands in testdata/fuzz: commit it
	@for package in $$($(GO) list $(PACKAGES)); do \
		for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			echo "$$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done

simulate: ## sequencer and shards on a simulated ground, COUNT (12000) histories three times over; SEED=... COUNT=1 repeats a failure
	@$(GO) test -count 1 -timeout 30m -run '^TestStreamsKeepTheContract$$' ./server/fanout \
		-rapid.checks=$(if $(filter command line,$(origin COUNT)),$(COUNT),12000) $(if $(SEED),-rapid.seed=$(SEED)) -rapid.nofailfile 2>&1 \
		| awk '/\[rapid\] draw/ {next} /Failed test output:/ {skip = 1} /--- FAIL|^FAIL|^ok/ {skip = 0} !skip'

golden: ## write the golden files anew; read the diff, commit it only if you can explain each line
	$(GO) test -count 1 $$(grep -rl --include='*_test.go' 'flag.Bool("update"' . | xargs -n 1 dirname | sort -u) -update
	@git --no-pager diff --stat -- '*testdata*' || true

bench: ## compare with BASE (HEAD): both versions alternate COUNT times in one run, benchstat judges
	.ci/bench '$(BASE)' '$(BENCH)' $(COUNT) '$(PACKAGES)'

bench-record: ## run the benchmarks and keep them as bench/baseline/NAME.txt
	@mkdir -p bench/baseline
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -count $(COUNT) $(PACKAGES) | tee bench/baseline/$$(uname -m)-$$(nproc).txt

soak: ## a server under changing load for DURATION (30m): nothing may be lost, grow or leak
	$(GO) run ./bench soak -duration $(or $(DURATION),30m)

figures: ## measure what is promised beside bare loops in C, into bench/results/ and README.md (a quarter of an hour)
	$(GO) run ./bench
	$(GO) run ./bench table

compare: ## Penstock beside the peers that are installed, into bench/results/ and README.md (a quarter of an hour)
	$(GO) run ./bench compare
	$(GO) run ./bench table

link: build ## what flags for sockets do on wires that loopback is not: slow, narrow, lossy, broken (as root, five minutes)
	$(GO) run ./bench/link

bench-scale: ## 200,000 streams in one process under a low limit of descriptors, and upgrades under it, into bench/results/, docs/capacity.md and docs/upgrade.md (seven minutes)
	$(GO) run ./bench scale

profile: ## five seconds of a server's CPU time, by way of its debug door (serve --debug 127.0.0.1:6060)
	$(GO) tool pprof -top -nodecount 40 'http://127.0.0.1:6060/debug/pprof/profile?seconds=5'

hooks: ## run `make check` before every commit in this clone
	@printf '#!/bin/sh\nexec make check\n' > "$$(git rev-parse --git-path hooks)/pre-commit"
	@chmod +x "$$(git rev-parse --git-path hooks)/pre-commit"
	@echo 'make check now runs before every commit'

clean: ## remove what was built
	rm -rf bin dist bench/out

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "make %-13s %s\n", $$1, $$2 }'
