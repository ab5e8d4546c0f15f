#!/usr/bin/env bash
# Runs the black-box tests of the core pod and writes docs/conformance/core.md from what they asked and were answered.
set -euo pipefail
cd "$(dirname "$0")/../.."
CONFORMANCE_DIR=$(mktemp -d)
export CONFORMANCE_DIR
trap 'rm -rf "$CONFORMANCE_DIR"' EXIT
scripts/with-postgres.sh scripts/cargo.sh test --quiet -p core-pod --test it -- --skip conformance::
scripts/conformance/core.py "$CONFORMANCE_DIR"
