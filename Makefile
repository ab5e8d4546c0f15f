# Everything a person needs to type. Each target does its own set-up on Debian and Ubuntu.
SHELL := /bin/bash
export CARGO_TARGET_DIR ?= $(HOME)/.cache/dreamscape/target

.DEFAULT_GOAL := help
.PHONY: help run test bench demo setup fmt lint check prepare openapi docs conformance fuzz schemathesis test-ops test-observability test-stack clean

help: ## What there is to type
	@printf 'DreamScape Big Pods\n\n'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@printf '\nBuild output goes to %s\n' '$(CARGO_TARGET_DIR)'

run: ## Run the whole platform with nothing configured (Ctrl-C stops it)
	@scripts/setup.sh run
	@scripts/cargo.sh run --quiet -p dreamscape -- run

test: ## Prove it: format, lints, licences, unit, database, HTTP, event and fault tests
	@scripts/setup.sh test
	@scripts/test.sh

bench: ## Measure it: release build, table and bench.json
	@scripts/setup.sh bench
	@scripts/bench.sh

demo: ## Walk one traveller through the running platform
	@scripts/cargo.sh run --quiet -p dreamscape -- demo $(ARGS)

setup: ## Install what run, test and bench need
	@scripts/setup.sh bench

fmt: ## Format the code
	@scripts/cargo.sh fmt --all

lint: ## Format check, clippy, cargo-deny, documentation links
	@scripts/setup.sh test
	@scripts/test.sh lint

prepare: ## Regenerate the committed query metadata (.sqlx) after changing SQL or a migration
	@scripts/setup.sh run
	@scripts/with-postgres.sh scripts/prepare.sh

openapi: ## Regenerate docs/openapi and docs/configuration.md
	@scripts/generate.sh

conformance: ## Regenerate docs/conformance/core.md from what the tests ask and are answered
	@scripts/setup.sh test
	@scripts/conformance/run.sh

fuzz: ## Feed random input to the parsers of what comes from outside (FUZZ_SECONDS per target, 20)
	@scripts/setup.sh run
	@scripts/fuzz.sh

schemathesis: ## Ask the running core pod everything its OpenAPI document allows, and some it does not
	@scripts/setup.sh test
	@scripts/schemathesis.sh

test-ops: ## Prove operations without an engine, also what takes minutes: real brokers, promotion, recovery, musl
	@scripts/setup.sh ops
	@scripts/cargo.sh build --quiet -p dreamscape -p core-pod -p business-pod -p experience-pod
	@scripts/ci/ops-check.sh --slow $(ARGS)

test-observability: ## Watch the pods under load with a real Prometheus and ask every dashboard's queries
	@scripts/setup.sh run
	@scripts/cargo.sh build --quiet -p dreamscape -p core-pod -p business-pod -p experience-pod
	@scripts/ci/ops/live/observability.py $(ARGS)

test-stack: ## Deploy the production stack to an engine of its own (root, Debian's docker.io) and try it
	@scripts/setup.sh run
	@scripts/cargo.sh build --quiet --release -p dreamscape -p core-pod -p business-pod -p experience-pod -p devkit -p autoscaler
	@scripts/stack-test/run.sh $(ARGS)

clean: ## Remove the data of the embedded back ends
	@rm -rf .dreamscape
