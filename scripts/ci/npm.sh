#!/usr/bin/env bash
# Installs the Node packages that tests run: what each lock file under scripts/ci names, bit for bit, without install scripts.
# Where Node or the registry is missing it says so; the tests that need them then skip themselves, loudly.
set -euo pipefail
cd "$(dirname "$0")"
if ! command -v npm >/dev/null || ! command -v node >/dev/null; then
    echo "SKIP: node and npm are not installed; tests with real JavaScript clients will be skipped" >&2
    exit 0
fi
for lock in */package-lock.json; do
    folder=$(dirname "$lock")
    stamp="$folder/node_modules/.installed"
    if [ "$(cat "$stamp" 2>/dev/null)" = "$(sha256sum "$lock" | cut -d' ' -f1)" ]; then continue; fi
    if (cd "$folder" && npm ci --ignore-scripts --no-audit --no-fund --silent); then
        sha256sum "$lock" | cut -d' ' -f1 >"$stamp"
    else
        echo "SKIP: npm could not install scripts/ci/$folder; its tests will be skipped" >&2
    fi
done
