#!/usr/bin/env bash
# Builds the pods for release and measures them. Settings: BENCH_SECONDS (5) per case, BENCH_CONNECTIONS (32), BENCH_OUTPUT.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$HOME/.cache/dreamscape/target}
# Production builds: without the embedded back ends.
scripts/cargo.sh build --release --no-default-features -p core-pod -p business-pod -p experience-pod
rm -rf "$CARGO_TARGET_DIR/bench-pods" && mkdir -p "$CARGO_TARGET_DIR/bench-pods"
cp "$CARGO_TARGET_DIR"/release/{core-pod,business-pod,experience-pod} "$CARGO_TARGET_DIR/bench-pods/"
BENCH_BINARIES="$CARGO_TARGET_DIR/bench-pods" BENCH_OUTPUT="${BENCH_OUTPUT:-$PWD/bench.json}" \
    scripts/cargo.sh bench --quiet -p dreamscape --bench platform
