#!/usr/bin/env bash
# Builds the pods for release and measures them. Settings: BENCH_SECONDS (5) per case, BENCH_CONNECTIONS (128), BENCH_OUTPUT,
# BENCH_ONLY (reads,login,identity,checkouts,sockets: only these parts).
set -euo pipefail
cd "$(dirname "$0")/.."
# ten thousand sockets, twice: those of the pod and those of its clients
ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -Hn)"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$HOME/.cache/dreamscape/target}
# Production builds: without the embedded back ends. The bench is built with them, so that both share their dependencies.
built=$(scripts/cargo.sh build --release --no-default-features --message-format=json-render-diagnostics \
    -p core-pod -p business-pod -p experience-pod -p dreamscape --bins --benches)
bench=$(python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("target", {}).get("name") == "platform" and message.get("executable"):
        print(message["executable"])
' <<<"$built")
BENCH_BINARIES="$CARGO_TARGET_DIR/release" BENCH_OUTPUT="${BENCH_OUTPUT:-$PWD/bench.json}" "$bench"
