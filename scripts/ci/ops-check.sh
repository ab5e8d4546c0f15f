#!/bin/bash
# Everything about operations that can be proven without an engine: runs each executable of scripts/ci/ops and prints one line per
# check. A tool that is missing is a SKIP with its reason, never silence.
#
# Usage: scripts/ci/ops-check.sh [--only WORD] [--results FILE]
#   --only WORD      only the checks whose file name contains WORD
#   --results FILE   also write the lines as they came, tab separated: status, V-code, R-numbers, text, file
# Exit code: 0 nothing failed, 1 something did, 2 bad arguments.
set -euo pipefail

only='' results=''
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
        --only) only=${2:?--only needs a word}; shift 2 ;;
        --results) results=$(realpath -m "${2:?--results needs a file}"); shift 2 ;;
        *) echo "Usage: scripts/ci/ops-check.sh [--only WORD] [--results FILE]" >&2; exit 2 ;;
    esac
done
cd "$(dirname "$0")/../.."
# in memory where there is room: the checks make and drop many databases
room=$(df --output=avail -k /dev/shm 2>/dev/null | tail -1)
[ "${room:-0}" -lt 4000000 ] || export TMPDIR=/dev/shm
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
: >"$work/lines"

scripts/ci/ops/lib/tools.sh
for script in scripts/ci/ops/*.sh; do
    name=$(basename "$script" .sh)
    [ -x "$script" ] || continue
    [[ $name == *"$only"* ]] || continue
    started=$SECONDS code=0
    timeout --kill-after=10 "${OPS_TIMEOUT:-900}" "$script" >"$work/out" 2>"$work/err" </dev/null || code=$?
    printf -- '-- %s, %d s\n' "$name" $((SECONDS - started))
    grep -P '^(PASS|FAIL|SKIP)\t[^\t]+\t[^\t]+\t' "$work/out" >"$work/own" || true
    if [ "$code" -ne 0 ] && ! grep -q '^FAIL' "$work/own"; then
        printf 'FAIL\t-\t-\t%s ended with %d: %s\n' "$name" "$code" \
            "$(tail -n 3 "$work/err" | tr '\t\n' '  ' | cut -c1-400)" >>"$work/own"
    elif [ ! -s "$work/own" ]; then
        printf 'FAIL\t-\t-\t%s checked nothing\n' "$name" >>"$work/own"
    fi
    grep -q '^FAIL' "$work/own" && sed 's/^/    /' "$work/err" | tail -n 40 >&2
    awk -F'\t' '{ printf "%-4s %-4s %s%s\n", $1, $2, $4, ($3 == "-" ? "" : " [" $3 "]") }' "$work/own"
    awk -F'\t' -v OFS='\t' -v file="$script" '{ print $1, $2, $3, $4, file }' "$work/own" >>"$work/lines"
done

[ -z "$results" ] || cp "$work/lines" "$results"
count() { grep -c "^$1" "$work/lines" || true; }
printf '\noperations: %s passed, %s failed, %s skipped\n' "$(count PASS)" "$(count FAIL)" "$(count SKIP)"
! grep -q '^FAIL' "$work/lines"
