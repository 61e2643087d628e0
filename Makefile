# Targets a newcomer can guess. All need root, Linux, and the Rust and Go toolchains; `make setup` brings the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench clean-lab

# Tests of the real parts wait more than they compute: more of them than cores.
LAB_TEST_THREADS ?= 6

cache := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/kubelet-rs
target := $(or $(CARGO_TARGET_DIR),target)
deny := $(cache)/cargo/bin/cargo-deny
# Test programs by name: tests/x.rs or tests/x/main.rs.
programs_in = $(addprefix --test ,$(sort $(basename $(notdir $(wildcard $(1)/*.rs))) $(notdir $(patsubst %/main.rs,%,$(wildcard $(1)/*/main.rs)))))
quick_tests := $(call programs_in,tests)
lab_tests := $(call programs_in,integration/tests)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install and build what the lab needs (cached: the first run takes minutes)
	@integration/setup.sh

demo: setup ## a cluster on this machine: control plane, one node, a Deployment behind a Service; leaves it running
	cargo build --workspace --profile lab --bins
	$(target)/lab/lab demo

check: setup $(deny) ## formatting, lints, licences: no warnings
	cargo fmt --all -- --check
	@test -z "$$(gofmt -l integration/images)" || { gofmt -d integration/images; exit 1; }
	bash -n integration/setup.sh
	cargo clippy --workspace --all-targets -- -D warnings
	$(deny) --log-level error check licenses bans sources

test: check ## everything: checks, unit tests, in-process tests, then the real parts; ends with a count
	@set -o pipefail; log=$$(mktemp); \
	{ cargo test --workspace --lib --bins $(quick_tests) && \
	  cargo build --workspace --profile lab --bins && \
	  cargo test --workspace --no-fail-fast $(lab_tests) -- --test-threads=$(LAB_TEST_THREADS); } 2>&1 | tee $$log; \
	status=$$?; [ ! -x $(target)/lab/lab ] || $(target)/lab/lab sweep; integration/count-tests.sh $$log || status=1; rm -f $$log; exit $$status

bench: setup ## kubelet-rs beside upstream's kubelet and kube-proxy, in the same lab: docs/BENCHMARKS.md (ARGS=--help)
	cargo build --release --bin kubelet-rs
	cargo build --workspace --profile lab --bins
	KUBELET_RS_BIN=$(abspath $(target))/release/kubelet-rs $(target)/lab/bench $(ARGS)

clean-lab: ## end the demo, remove what crashed tests left
	@if [ -x $(target)/lab/lab ]; then $(target)/lab/lab clean; else echo "lab: nothing to remove: no lab was ever started from here"; fi

$(deny): | setup
	@echo "check: building cargo-deny (once)"
	cargo install cargo-deny --locked --root $(cache)/cargo
