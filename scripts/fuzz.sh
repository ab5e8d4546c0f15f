#!/usr/bin/env bash
# Feeds random input to each fuzz target for FUZZ_SECONDS (20). Stops at the first finding and says how to repeat it.
# Findings and the corpus are kept in fuzz/, which git ignores.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${FUZZ_SECONDS:-20}
version=0.13.1
tools=${XDG_CACHE_HOME:-$HOME/.cache}/dreamscape/tools
export CARGO_TARGET_DIR=${FUZZ_TARGET_DIR:-${CARGO_TARGET_DIR:-$HOME/.cache/dreamscape/target}/fuzz}
# cargo-fuzz's instrumentation needs no unstable flag; the sanitizer would, and there is no unsafe code of ours for it to watch
export RUSTC_BOOTSTRAP=1
export SQLX_OFFLINE=${SQLX_OFFLINE:-true}

if ! "$tools/bin/cargo-fuzz" --version 2>/dev/null | grep -q "$version"; then
    echo "installing cargo-fuzz $version"
    # its own target directory: the tool has nothing in common with the platform
    CARGO_TARGET_DIR='' scripts/cargo.sh install cargo-fuzz --version "$version" --locked --quiet --root "$tools"
fi
export PATH="$tools/bin:$PATH"

targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(email jwt cookie multipart query)
scripts/cargo.sh fuzz build --sanitizer none
for target in "${targets[@]}"; do
    printf '\n== %s, %s s\n' "$target" "$seconds"
    dictionary=()
    [ -f "fuzz/dictionaries/$target.dict" ] && dictionary=(-dict="fuzz/dictionaries/$target.dict")
    # the outcome is that of the fuzzer, whatever the filter finds to show
    set +e
    scripts/cargo.sh fuzz run --sanitizer none "$target" -- \
        -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 -max_len=16384 -print_final_stats=1 "${dictionary[@]}" \
        2>&1 | grep -E 'ERROR|panicked|SUMMARY|Test unit|stat::(number_of_executed|peak_rss)|cargo fuzz|^thread'
    outcome=${PIPESTATUS[0]}
    set -e
    [ "$outcome" -eq 0 ] || { echo "$target: a finding, see fuzz/artifacts/$target"; exit 1; }
done
