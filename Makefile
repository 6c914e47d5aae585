# Everything a newcomer, a maintainer and CI run. `make help` lists it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

# What the filter ships for, and a target without clocks, files or environment, on which the engine is
# checked so that it stays pure.
WASM_TARGET := wasm32-wasip1
PURE_TARGET := wasm32-unknown-unknown
CARGO_DENY_VERSION := 0.20.2
TOOLS := $(CURDIR)/target/tools
DENY := $(TOOLS)/bin/cargo-deny-$(CARGO_DENY_VERSION)
CARGO_MUTANTS_VERSION := 27.1.0
CARGO_MUTANTS := $(TOOLS)/bin/cargo-mutants-$(CARGO_MUTANTS_VERSION)

# What libFuzzer needs to see which input reaches what: what cargo-fuzz says too, without its sanitizers, which
# are for a nightly Rust and for unsafe code.
FUZZ_FLAGS := -Cpasses=sancov-module $(addprefix -Cllvm-args=-sanitizer-coverage-,level=4 inline-8bit-counters pc-table trace-compares)
FUZZ_TARGETS := $(sort $(basename $(notdir $(wildcard host-tests/fuzz/fuzz_targets/*.rs))))

# One target folder, whatever the environment says: the tests, the demo and the examples look for
# the module at target/$(WASM_TARGET)/release/tenant_filter.wasm.
export CARGO_TARGET_DIR := $(CURDIR)/target

# How to see whether a tool is there, and how to get it. What comes with Rust is not missed beside Rust.
without_cargo := ! command -v cargo
probe_cargo := command -v cargo
hint_cargo := install Rust with rustup (https://rustup.rs)
probe_cc := command -v cc
hint_cc := install a C compiler (Debian or Ubuntu: apt-get install build-essential, macOS: xcode-select --install)
probe_c++ := command -v c++
hint_c++ := install a C++ compiler (Debian or Ubuntu: apt-get install build-essential, macOS: xcode-select --install)
probe_python3 := command -v python3
hint_python3 := install Python 3.9 or newer (Debian or Ubuntu: apt-get install python3, macOS: xcode-select --install)
probe_clippy := $(without_cargo) || cargo clippy --version
hint_clippy := rustup component add clippy
probe_rustfmt := $(without_cargo) || cargo fmt --version
hint_rustfmt := rustup component add rustfmt
has_target = [ -d "$$(rustc --print target-libdir --target $(1))" ]
probe_$(WASM_TARGET) = $(without_cargo) || $(call has_target,$(WASM_TARGET)) || command -v rustup
hint_$(WASM_TARGET) := a target of Rust; install rustup (https://rustup.rs), which adds it
probe_$(PURE_TARGET) = $(without_cargo) || $(call has_target,$(PURE_TARGET)) || command -v rustup
hint_$(PURE_TARGET) := $(hint_$(WASM_TARGET))
BUILD_TOOLS := cargo cc $(WASM_TARGET)
FUZZ_TOOLS := cargo cc c++
CHECK_TOOLS := $(BUILD_TOOLS) c++ $(PURE_TARGET) rustfmt clippy python3
# An Envoy that is there already needs no fetching.
ENVOY_TOOLS := $(if $(ENVOY_BIN),,python3)

# $(call need,tools): one line for each that is missing, all of them before anything is built.
need = missing=0; $(foreach tool,$(1),{ $(probe_$(tool)); } >/dev/null 2>&1 || \
    { echo "missing tool '$(tool)': $(hint_$(tool))" >&2; missing=1; };) exit $$missing

# Cargo uses every core by itself, and what a target needs is looked for before it begins.
.NOTPARALLEL:

.PHONY: help
help: ## list the targets
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 22

.PHONY: demo
demo: demo-tools wasm envoy ## a real Envoy enforces tenancy before your eyes (ONCE=1: exit after the table)
	@cargo build --locked -p tenantgate
	@exec cargo run -q --locked -p tenantgate -- demo $(if $(filter 1,$(ONCE)),--once)

.PHONY: test
test: test-tools wasm probe envoy redis prometheus ## all tests, in the tiny Envoy and in the real one
	@exec python3 .ci/test.py

.PHONY: test-counts
test-counts: test-tools wasm probe envoy redis prometheus ## all tests, then commit-ready counts in .ci/test-counts
	@exec python3 .ci/test.py --write-counts

.PHONY: conformance
conformance: export CONFORMANCE_TABLE := 1
conformance: test-tools probe envoy ## what a Proxy-Wasm host does, the tiny Envoy and the real one side by side; also in target/conformance.md
	@exec cargo test -q --locked -p conformance --test table -- --quiet

.PHONY: e2e-matrix
e2e-matrix: test-tools wasm prometheus ## the tests on the real Envoy, on every minor version there is (VERSIONS="1.36.4 …": on these)
	@exec python3 .ci/matrix.py $(VERSIONS)

.PHONY: check
check: check-tools check-scripts check-format check-lints check-purity check-docs check-dependencies check-fuzz ## formatting, lints, docs, dependencies, the inputs of the fuzzers

.PHONY: fuzz
fuzz: SECONDS := 600
fuzz: fuzz-target fuzz-build ## fuzz one target: TARGET=path (SECONDS=600); they are in host-tests/fuzz/fuzz_targets
	@exec host-tests/fuzz/run $(TARGET) $(SECONDS)

.PHONY: sim
sim: build-tools wasm ## worlds that try to break the filter, on all cores (REQUESTS=200000 or SECONDS=…; SEED=42: that one, told)
	@cargo build --locked -p tenantgate-sim
	@exec $(CARGO_TARGET_DIR)/debug/tenantgate-sim $(if $(SEED),--seed $(SEED)) $(if $(FROM),--from $(FROM)) \
	    $(if $(REQUESTS),--requests $(REQUESTS)) $(if $(SECONDS),--seconds $(SECONDS))

.PHONY: mutants
mutants: test-tools wasm-target ## break the filter on purpose and see which test notices (MUTANTS=arguments; MUTANTS=--list)
	@exec python3 .ci/mutants.py $(MUTANTS)

# One file takes minutes, all of them a night.
.PHONY: cargo-mutants
cargo-mutants: build-tools $(CARGO_MUTANTS) ## change every expression of authn, resolve, enforce and scope (FILES=a/glob)
	@exec $(CARGO_MUTANTS) mutants --output target $(if $(FILES),--file '$(FILES)')

.PHONY: bench
bench: bench-tools wasm envoy ## CPU time per request in a real Envoy, of the filter and of what people run instead (BENCH=arguments)
	@cargo build --locked -p envoy-bench
	@exec cargo run -q --locked -p envoy-bench -- $(BENCH)

.PHONY: soak
soak: MINUTES := 5
soak: bench-tools wasm envoy ## a real Envoy under mixed load and faults, every decision judged (MINUTES=30 SEED=1 SOAK=arguments); the report is under target/soak
	@cargo build --locked -p envoy-soak
	@exec cargo run -q --locked -p envoy-soak -- --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(SOAK)

.PHONY: fmt
fmt: fmt-tools ## format the Rust code
	@cargo fmt --all

# Panic messages carry file names: without the folders of whoever builds, so that the same source
# gives the same module anywhere. Ed25519 is computed with 64-bit numbers, which Wasm has, as in the
# native tests.
.PHONY: wasm
wasm: export CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS := --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=cargo --remap-path-prefix=$(CURDIR)=tenantgate --cfg curve25519_dalek_bits="64"
wasm: wasm-target ## the filter: target/wasm32-wasip1/release/tenant_filter.wasm
	@cargo build --release --locked -p tenant-filter --target $(WASM_TARGET)

.PHONY: probe
probe: wasm-target ## the probe of the conformance table: target/wasm32-wasip1/release/conformance_probe.wasm
	@cargo build -q --release --locked -p conformance-probe --target $(WASM_TARGET)

.PHONY: envoy
envoy: envoy-tools ## the pinned Envoy: target/envoy/…/envoy (ENVOY_BIN: that one instead)
	@envoy/fetch.sh

.PHONY: redis
redis: ## a Redis server for the tests of the bridge (REDIS_SERVER: that one instead)
	@cli/fetch-redis.sh

.PHONY: prometheus
prometheus: ## Prometheus and promtool for the tests of the telemetry (PROMETHEUS, PROMTOOL: those instead)
	@envoy/observability/fetch-prometheus.sh

# --- parts of `make check` ---

.PHONY: check-scripts
check-scripts: check-tools
	@python3 -B -m unittest discover -q -s .ci -p '*_test.py'

.PHONY: check-format
check-format: check-tools
	@cargo fmt --all --check

# The filter is linted for the target it ships for, everything else natively, tests included.
.PHONY: check-lints
check-lints: check-tools wasm-target
	@cargo clippy --locked --workspace --exclude tenant-filter --all-targets -- -D warnings
	@cargo clippy --locked -p tenant-filter -p conformance-probe --target $(WASM_TARGET) -- -D warnings

# The engine has no host: it compiles where there is nothing to call.
.PHONY: check-purity
check-purity: check-tools pure-target
	@cargo check --locked -p tenant-policy --target $(PURE_TARGET)

.PHONY: check-docs
# For those who work here: private items too.
check-docs: export RUSTDOCFLAGS := -D warnings -A rustdoc::private_intra_doc_links
check-docs: check-tools wasm-target
	@cargo doc --locked --no-deps --document-private-items --workspace --exclude tenant-filter --exclude conformance-probe
	@cargo doc --locked --no-deps --document-private-items -p tenant-filter -p conformance-probe --target $(WASM_TARGET)

.PHONY: check-dependencies
check-dependencies: check-tools $(DENY)
	@$(DENY) --locked check --hide-inclusion-graph bans licenses sources
	@if $(DENY) --locked fetch db 2>/dev/null; then \
	    $(DENY) --locked check --disable-fetch advisories; \
	else \
	    echo "advisories not checked: their database cannot be reached from here" >&2; \
	fi

# As many at once as there are cores; each says at its end how it went.
.PHONY: check-fuzz
check-fuzz: fuzz-build
	@printf '%s\n' $(FUZZ_TARGETS) | xargs -P "$$(getconf _NPROCESSORS_ONLN)" -I '{}' host-tests/fuzz/run '{}'

.PHONY: fuzz-target
fuzz-target:
	@$(if $(filter $(FUZZ_TARGETS),$(TARGET)),:,echo "TARGET is one of: $(FUZZ_TARGETS)" >&2; exit 1)

# With --target the flags are for what is fuzzed only, not for build scripts.
.PHONY: fuzz-build
fuzz-build: export FUZZ_FLAGS := $(FUZZ_FLAGS)
fuzz-build: export RUSTC_WRAPPER := $(CURDIR)/host-tests/fuzz/rustc
fuzz-build: fuzz-tools
	@cargo build --locked --profile fuzz -p tenant-policy-fuzz --bins --target "$$(rustc --print host-tuple)"

# The name carries the version, so that a new pin installs anew. Its own release profile would take
# three times as long to build what then runs for a second.
$(DENY) $(CARGO_MUTANTS): export CARGO_PROFILE_RELEASE_LTO := off
$(DENY) $(CARGO_MUTANTS): export CARGO_PROFILE_RELEASE_CODEGEN_UNITS := 16
$(DENY) $(CARGO_MUTANTS): export CARGO_PROFILE_RELEASE_OPT_LEVEL := 1
$(DENY): | check-tools
	@$(call install,cargo-deny,$(CARGO_DENY_VERSION))
$(CARGO_MUTANTS): | build-tools
	@$(call install,cargo-mutants,$(CARGO_MUTANTS_VERSION))

# $(call install,crate,version)
define install
echo "installing $(1) $(2) into target/tools (once, about two minutes)"
CARGO_TARGET_DIR=$(TOOLS)/build cargo install -q --locked $(1) --version $(2) --root $(TOOLS)
rm -rf $(TOOLS)/build
mv $(TOOLS)/bin/$(1) $@
endef

# --- prerequisites: one clear line each ---

.PHONY: build-tools envoy-tools demo-tools bench-tools test-tools check-tools fuzz-tools fmt-tools
build-tools:
	@$(call need,$(BUILD_TOOLS))
envoy-tools:
	@$(call need,$(ENVOY_TOOLS))
demo-tools bench-tools:
	@$(call need,$(BUILD_TOOLS) $(ENVOY_TOOLS))
test-tools:
	@$(call need,$(BUILD_TOOLS) python3)
check-tools:
	@$(call need,$(CHECK_TOOLS))
fuzz-tools:
	@$(call need,$(FUZZ_TOOLS))
fmt-tools:
	@$(call need,cargo rustfmt)

add_target = $(call has_target,$(1)) || rustup target add $(1) || \
    { echo "cannot add the Rust target $(1): is the network there? rustup's own message stands above" >&2; exit 1; }

.PHONY: wasm-target pure-target
wasm-target: build-tools
	@$(call add_target,$(WASM_TARGET))
pure-target:
	@$(call add_target,$(PURE_TARGET))
