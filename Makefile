# Targets a newcomer can guess. All need root, Linux, and the Rust and Go toolchains; `make setup` brings the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup suites demo test check bench conformance clean-lab

# Tests of the real parts, and those with real packets, wait more than they compute: more of them than cores.
LAB_TEST_THREADS ?= 6

cache := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/kubelet-rs
target := $(or $(CARGO_TARGET_DIR),target)
# As integration/src/leftovers.rs has it.
labs := $(or $(KUBELET_RS_LAB_DIR),$(or $(TMPDIR),/tmp)/kubelet-rs-lab)
# The tools of `check`, as the code was written with. Another Rust has other lints: it shows them, and fails no build that has nothing to do with them.
rust_of_lints := 1.95
deny_version := 0.20.2
deny := $(cache)/bin/cargo-deny-$(deny_version)/bin/cargo-deny
# Test programs by name: tests/x.rs or tests/x/main.rs.
programs_in = $(addprefix --test=,$(sort $(basename $(notdir $(wildcard $(1)/*.rs))) $(notdir $(patsubst %/main.rs,%,$(wildcard $(1)/*/main.rs)))))
quick_tests := $(call programs_in,tests)
lab_tests := $(call programs_in,integration/tests)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install and build what the lab needs (cached: the first run takes minutes)
	@integration/setup.sh

suites: setup ## upstream's end-to-end suite and its images, for `test` and `conformance` (cached: the first run takes minutes)
	@integration/setup.sh conformance

demo: setup ## a cluster on this machine: control plane, one node, a Deployment behind a Service; leaves it running
	cargo build --workspace --profile lab --bins
	$(target)/lab/lab demo

check: setup $(deny) ## formatting, lints, licences: no warnings (lints: with the Rust they are written for)
	cargo fmt --all -- --check
	@test -z "$$(gofmt -l integration/images)" || { gofmt -d integration/images; exit 1; }
	bash -n integration/setup.sh
	@case "$$(rustc --version)" in \
	  "rustc $(rust_of_lints)."*) strict="-D warnings" ;; \
	  *) strict=; echo "check: lints are those of another Rust than $(rust_of_lints): shown, and no failure" ;; \
	esac; set -x; cargo clippy --workspace --all-targets -- $$strict
	$(deny) --log-level error check licenses bans sources

test: check suites ## everything: checks, unit tests, in-process tests, then the real parts; ends with a count
	@set -o pipefail; log=$$(mktemp); \
	{ cargo test --workspace --lib --bins $(filter-out --test=proxy_kernel,$(quick_tests)) && \
	  cargo test --test proxy_kernel -- --test-threads=$(LAB_TEST_THREADS) && \
	  cargo build --workspace --profile lab --bins && \
	  cargo test --workspace --no-fail-fast $(lab_tests) -- --test-threads=$(LAB_TEST_THREADS); } 2>&1 | tee $$log; \
	status=$$?; [ ! -x $(target)/lab/lab ] || $(target)/lab/lab sweep; integration/count-tests.sh $$log || status=1; rm -f $$log; exit $$status

# The labs of the benchmark are in memory: an ext4 that has just removed thousands of files is slow to make others, and measures that.
bench_labs := $(or $(KUBELET_RS_LAB_DIR),/dev/shm/kubelet-rs-lab)

bench: setup ## kubelet-rs beside upstream's kubelet and kube-proxy, in the same lab: docs/BENCHMARKS.md (ARGS=--help)
	cargo build --release --bin kubelet-rs
	cargo build --workspace --profile lab --bins
	KUBELET_RS_LAB_DIR=$(bench_labs) KUBELET_RS_BIN=$(abspath $(target))/release/kubelet-rs $(target)/lab/bench $(ARGS)

conformance: suites ## every spec of upstream's suite that concerns a node: docs/CONFORMANCE.md (ARGS=--help)
	cargo build --workspace --profile lab --bins
	$(target)/lab/conformance $(ARGS)

clean-lab: ## end the demo, remove what crashed tests left
	@found=$$(ls -d $(labs) $(bench_labs) 2>/dev/null | sort -u); \
	[ -n "$$found" ] || { echo "lab: nothing to remove: no lab was ever started on this machine"; exit; }; \
	[ -x $(target)/lab/lab ] || cargo build -p integration --profile lab --bin lab || exit 1; \
	for labs in $$found; do KUBELET_RS_LAB_DIR=$$labs $(target)/lab/lab clean || exit 1; done

$(deny): | setup
	@echo "check: building cargo-deny (once)"
	cargo install cargo-deny --version $(deny_version) --locked --root $(cache)/bin/cargo-deny-$(deny_version)
