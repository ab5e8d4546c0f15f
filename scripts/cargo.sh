#!/usr/bin/env bash
# cargo with the project's toolchain: the pinned one if it is installed, else any installed one that is new enough.
set -euo pipefail
cd "$(dirname "$0")/.."
export SQLX_OFFLINE=${SQLX_OFFLINE:-true}
if command -v rustup >/dev/null; then
    wanted=$(sed -n 's/^channel *= *"\(.*\)"/\1/p' rust-toolchain.toml)
    if ! rustup run "$wanted" cargo --version >/dev/null 2>&1; then
        if ! rustup toolchain install "$wanted" --profile minimal -c rustfmt -c clippy >/dev/null 2>&1; then
            export RUSTUP_TOOLCHAIN=stable
        fi
    fi
fi
exec cargo "$@"
