#!/usr/bin/env bash
# cargo-deny over bans, licences and sources; the advisories too where their database can be reached.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=0.20.2
tools=${DREAMSCAPE_TOOLS:-$HOME/.cache/dreamscape/tools}
deny=$(command -v cargo-deny || true)
if [ -z "$deny" ]; then
    deny="$tools/bin/cargo-deny"
    if [ ! -x "$deny" ]; then
        echo "building cargo-deny $version, once"
        (cd / && CARGO_TARGET_DIR="$tools/target" cargo install --quiet --locked --root "$tools" "cargo-deny@$version")
        rm -rf "$tools/target"
    fi
fi
"$deny" --log-level error check bans licenses sources
if timeout 60 "$deny" --log-level off fetch db >/dev/null 2>&1; then
    "$deny" --log-level error check advisories
else
    echo "SKIP advisories: their database cannot be reached from here"
fi
