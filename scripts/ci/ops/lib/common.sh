# shellcheck shell=bash
# What the checks of operations share: one line per check on stdout, `STATUS<TAB>V-code<TAB>R-numbers<TAB>text`, and exit code 1 after a
# FAIL. Sourced. scripts/ci/ops-check.sh turns the lines into its table.
ops_failed=0
# shellcheck disable=SC2034
ops_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../../.." && pwd)
ops_tools=${DREAMSCAPE_TOOLS:-$HOME/.cache/dreamscape/tools}/ops
PATH=$ops_tools/path:$PATH

pass() { printf 'PASS\t%s\t%s\t%s\n' "$1" "$2" "$3"; }
skip() { printf 'SKIP\t%s\t%s\t%s\n' "$1" "$2" "$3"; }
fail() { printf 'FAIL\t%s\t%s\t%s\n' "$1" "$2" "$3"; ops_failed=1; }
finish() { exit "$ops_failed"; }
have() { command -v "$1" >/dev/null 2>&1; }

# check V-code R-numbers text command…: PASS if the command succeeds; else FAIL with the end of its output, more of it on standard error.
check() {
    local code=$1 requirements=$2 text=$3 output
    shift 3
    if output=$("$@" 2>&1); then
        pass "$code" "$requirements" "$text"
    else
        fail "$code" "$requirements" "$text: $(tail -n "${OPS_LINES:-5}" <<<"$output" | tr '\t\n' '  ' | cut -c1-600)"
        tail -n 15 <<<"$output" | sed 's/^/    /' >&2
    fi
}

# needs_yaml V-code R-numbers text: without the YAML of Python that is a SKIP and the end.
needs_yaml() {
    python3 -c 'import yaml' 2>/dev/null && return
    skip "$1" "$2" "$3 (Python has no yaml: python3-yaml)"
    finish
}
