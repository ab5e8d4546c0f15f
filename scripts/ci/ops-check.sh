#!/bin/bash
# Everything about operations that can be proven without an engine: runs each executable of scripts/ci/ops and prints one line per
# check. A tool that is missing is a SKIP with its reason, never silence.
#
# Usage: scripts/ci/ops-check.sh [--slow] [--only WORD] [--results FILE]
#   --slow           also those of scripts/ci/ops/slow, which take minutes
#   --only WORD      only the checks whose file name contains WORD
#   --results FILE   also write the lines as they came, tab separated: status, V-code, R-numbers, text, file
# Exit code: 0 nothing failed, 1 something did, 2 bad arguments.
set -euo pipefail

only='' results='' folders=(scripts/ci/ops) limit=900
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
        --slow) folders+=(scripts/ci/ops/slow); limit=3600; shift ;;
        --only) only=${2:?--only needs a word}; shift 2 ;;
        --results) results=$(realpath -m "${2:?--results needs a file}"); shift 2 ;;
        *) echo "Usage: scripts/ci/ops-check.sh [--slow] [--only WORD] [--results FILE]" >&2; exit 2 ;;
    esac
done
cd "$(dirname "$0")/../.."
# in memory where there is room: the checks make and drop many databases
room=$(df --output=avail -k /dev/shm 2>/dev/null | tail -1)
[ "${room:-0}" -lt 4000000 ] || export TMPDIR=/dev/shm
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
: >"$work/lines"

# One executable: its own lines, what it said besides, and how long it took.
check() {
    local script=$1 name started=$SECONDS code=0
    name=$(basename "$script" .sh)
    timeout --kill-after=10 "${OPS_TIMEOUT:-$limit}" "$script" >"$work/$name.out" 2>"$work/$name.err" </dev/null || code=$?
    echo $((SECONDS - started)) >"$work/$name.seconds"
    grep -P '^(PASS|FAIL|SKIP)\t[^\t]+\t[^\t]+\t' "$work/$name.out" >"$work/$name.own" || true
    if [ "$code" -ne 0 ] && ! grep -q '^FAIL' "$work/$name.own"; then
        printf 'FAIL\t-\t-\t%s ended with %d: %s\n' "$name" "$code" \
            "$(tail -n 3 "$work/$name.err" | tr '\t\n' '  ' | cut -c1-400)" >>"$work/$name.own"
    elif [ ! -s "$work/$name.own" ]; then
        printf 'FAIL\t-\t-\t%s checked nothing\n' "$name" >>"$work/$name.own"
    fi
}
export -f check
export work limit

scripts/ci/ops/lib/tools.sh
scripts=()
for folder in "${folders[@]}"; do
    for script in "$folder"/*.sh; do
        if [ -x "$script" ] && [[ $(basename "$script") == *"$only"* ]]; then scripts+=("$script"); fi
    done
done
[ ${#scripts[@]} -gt 0 ] || { echo "no check is called like $only" >&2; exit 2; }
# the longest first, several at a time: most of them wait for servers
order() { case $1 in */slow/* | *stack-scripts*) echo 0 ;; *dataplane*) echo 1 ;; *prometheus*) echo 2 ;; *) echo 3 ;; esac }
sorted=$(for script in "${scripts[@]}"; do printf '%s %s\n' "$(order "$script")" "$script"; done | sort -s -k1,1 | cut -d' ' -f2)
# shellcheck disable=SC2016 # the inner bash expands it
xargs -P "${OPS_JOBS:-3}" -I{} bash -c 'check "$1"' check {} <<<"$sorted"

# What failed beside others is tried once more alone, and said: a machine that does several things at once may be late.
for script in "${scripts[@]}"; do
    name=$(basename "$script" .sh)
    grep -q '^FAIL' "$work/$name.own" || continue
    printf -- '-- %s failed beside others, once more alone; it said:\n' "$name"
    grep '^FAIL' "$work/$name.own" | cut -f4
    check "$script"
done

for script in "${scripts[@]}"; do
    name=$(basename "$script" .sh)
    printf -- '-- %s, %s s\n' "$name" "$(cat "$work/$name.seconds")"
    if grep -q '^FAIL' "$work/$name.own"; then sed 's/^/    /' "$work/$name.err" | tail -n 40 >&2; fi
    awk -F'\t' '{ printf "%-4s %-4s %s%s\n", $1, $2, $4, ($3 == "-" ? "" : " [" $3 "]") }' "$work/$name.own"
    awk -F'\t' -v OFS='\t' -v file="$script" '{ print $1, $2, $3, $4, file }' "$work/$name.own" >>"$work/lines"
done

[ -z "$results" ] || cp "$work/lines" "$results"
count() { grep -c "^$1" "$work/lines" || true; }
printf '\noperations: %s passed, %s failed, %s skipped\n' "$(count PASS)" "$(count FAIL)" "$(count SKIP)"
! grep -q '^FAIL' "$work/lines"
