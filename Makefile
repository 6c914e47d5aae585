# Everything a newcomer, a maintainer and CI run. `make help` lists it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

WASM_TARGET := wasm32-wasip1
CARGO_DENY_VERSION := 0.20.2
TOOLS := $(CURDIR)/target/tools
DENY := $(TOOLS)/bin/cargo-deny-$(CARGO_DENY_VERSION)

# One target folder, whatever the environment says: the tests, the demo and the examples look for
# the module at target/$(WASM_TARGET)/release/tenant_filter.wasm.
export CARGO_TARGET_DIR := $(CURDIR)/target

# $(call need,command,how to get it)
need = command -v $(1) >/dev/null || { echo "missing tool '$(1)': $(2)" >&2; exit 1; }

.PHONY: help
help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 22

.PHONY: demo
demo: wasm envoy ## a real Envoy enforces tenancy before your eyes (ONCE=1: exit after the table)
	@cargo build --locked -p tenantgate
	@exec cargo run -q --locked -p tenantgate -- demo $(if $(filter 1,$(ONCE)),--once)

.PHONY: test
test: wasm envoy ## all tests, in the tiny Envoy and in the real one
	@exec python3 .ci/test.py

.PHONY: test-counts
test-counts: wasm envoy ## all tests, then commit-ready counts in .ci/test-counts
	@exec python3 .ci/test.py --write-counts

.PHONY: check
check: check-scripts check-format check-lints check-docs check-dependencies ## formatting, lints, docs, dependencies

.PHONY: fmt
fmt: tool-cargo ## format the Rust code
	@cargo fmt --all

.PHONY: wasm
wasm: wasm-target ## the filter: target/wasm32-wasip1/release/tenant_filter.wasm
	@cargo build --release --locked -p tenant-filter --target $(WASM_TARGET)

.PHONY: envoy
envoy: tool-python3 ## the pinned Envoy: target/envoy/…/envoy
	@envoy/fetch.sh

# --- parts of `make check` ---

.PHONY: check-scripts
check-scripts: tool-python3
	@python3 -B -m unittest discover -q -s .ci -p '*_test.py'

.PHONY: check-format
check-format: tool-cargo
	@cargo fmt --all --check

# The filter is linted for the target it ships for, everything else natively, tests included.
.PHONY: check-lints
check-lints: wasm-target
	@cargo clippy --locked --workspace --exclude tenant-filter --all-targets -- -D warnings
	@cargo clippy --locked -p tenant-filter --target $(WASM_TARGET) -- -D warnings

.PHONY: check-docs
check-docs: export RUSTDOCFLAGS := -D warnings
check-docs: wasm-target
	@cargo doc --locked --no-deps --workspace --exclude tenant-filter
	@cargo doc --locked --no-deps -p tenant-filter --target $(WASM_TARGET)

.PHONY: check-dependencies
check-dependencies: $(DENY)
	@$(DENY) --locked check --hide-inclusion-graph bans licenses sources
	@if $(DENY) --locked fetch db 2>/dev/null; then \
	    $(DENY) --locked check --disable-fetch advisories; \
	else \
	    echo "advisories not checked: their database cannot be reached from here" >&2; \
	fi

# The name carries the version, so that a new pin installs anew. Its own release profile would take
# three times as long to build what then runs for a second.
$(DENY): export CARGO_PROFILE_RELEASE_LTO := off
$(DENY): export CARGO_PROFILE_RELEASE_CODEGEN_UNITS := 16
$(DENY): export CARGO_PROFILE_RELEASE_OPT_LEVEL := 1
$(DENY): | tool-cargo
	@echo "installing cargo-deny $(CARGO_DENY_VERSION) into target/tools (once, about two minutes)"
	@CARGO_TARGET_DIR=$(TOOLS)/build cargo install -q --locked cargo-deny --version $(CARGO_DENY_VERSION) --root $(TOOLS)
	@rm -rf $(TOOLS)/build
	@mv $(TOOLS)/bin/cargo-deny $@

# --- prerequisites: one clear line each ---

.PHONY: tool-cargo
tool-cargo:
	@$(call need,cargo,install Rust with rustup (https://rustup.rs))
	@$(call need,cc,install a C compiler ('sudo apt-get install build-essential'; macOS: 'xcode-select --install'))

.PHONY: tool-python3
tool-python3:
	@$(call need,python3,install Python 3.9 or newer ('sudo apt-get install python3'; macOS: 'xcode-select --install'))

.PHONY: wasm-target
wasm-target: tool-cargo
	@if [ ! -d "$$(rustc --print target-libdir --target $(WASM_TARGET))" ]; then \
	    $(call need,rustup,it adds the Rust target $(WASM_TARGET); install it from https://rustup.rs); \
	    rustup target add $(WASM_TARGET); \
	fi
