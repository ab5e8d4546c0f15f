#!/usr/bin/env bash
# Asks the running platform what the core pod's OpenAPI document allows, and what it does not: as a stranger, as a traveller and
# as an administrator. Fails on any 5xx and on any answer that is not what the document says. SCHEMATHESIS_SECONDS (25) per caller.
# Usage: scripts/schemathesis.sh [--built], with --built the programs are those that the tests were run with.
set -euo pipefail
cd "$(dirname "$0")/.."
version=4.32.5
tools=${XDG_CACHE_HOME:-$HOME/.cache}/dreamscape/tools/schemathesis-$version
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$HOME/.cache/dreamscape/target}
if ! "$tools/bin/st" --version >/dev/null 2>&1; then
    echo "installing schemathesis $version"
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$version"
fi
[ "${1:-}" = --built ] || scripts/cargo.sh build --quiet -p core-pod -p dreamscape
exec "$tools/bin/python" scripts/conformance/schemathesis.py "$tools/bin/st" "$CARGO_TARGET_DIR/debug"
