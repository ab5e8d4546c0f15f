#!/usr/bin/env bash
# The quality gates, in the order of what fails fastest. Usage: scripts/test.sh [lint|unit]
set -euo pipefail
cd "$(dirname "$0")/.."
only=${1:-all}

step() { printf '\n== %s\n' "$1"; }

step "format"
scripts/cargo.sh fmt --all -- --check

step "links in the documents"
python3 scripts/ci/links.py

step "names in the API documents"
python3 scripts/ci/schema_names.py

step "licences, bans and sources of the dependencies"
scripts/ci/deny.sh

step "lints"
scripts/cargo.sh clippy --workspace --all-targets --quiet -- --deny warnings

step "a production build has no embedded back end"
scripts/ci/production-features.sh

[ "$only" = lint ] && exit 0

step "build of pods and tests"
KAFKA_JARS=$(scripts/ci/kafka/jars.sh scripts/ci/kafka/tests.xml)
export KAFKA_JARS
scripts/cargo.sh test --workspace --no-run --quiet

step "operations: stack, images, scripts, data plane, monitoring, without an engine"
OPERATIONS=$(mktemp)
CONFORMANCE_DIR=$(mktemp -d)
trap 'rm -rf "$CONFORMANCE_DIR" "$OPERATIONS"' EXIT
scripts/ci/ops-check.sh --results "$OPERATIONS"
python3 scripts/conformance/operations.py "$OPERATIONS" --check

step "unit, database, HTTP, event and fault tests"
export CONFORMANCE_DIR
# most tests wait for servers and time-outs most of the time: a small machine runs more of them than it has cores
cores=$(nproc)
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((cores < 4 ? 2 * cores : cores))}
scripts/with-postgres.sh scripts/cargo.sh test --workspace --no-fail-fast

step "the API document is true"
SCHEMATHESIS_SECONDS=${SCHEMATHESIS_SECONDS:-12} scripts/schemathesis.sh --built

step "every route of the contract was asked"
python3 scripts/conformance/core.py "$CONFORMANCE_DIR" --check
