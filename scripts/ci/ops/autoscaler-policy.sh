#!/usr/bin/env bash
# The autoscaler's policy: read by the autoscaler itself, and its refusals shown to work. Prints one line per check.
# Usage: scripts/ci/ops/autoscaler-policy.sh    AUTOSCALER: the program, if not in the target directory
set -euo pipefail
case ${1:-} in -h | --help) sed -n '2,3s/^# //p' "$0"; exit 0 ;; esac
# shellcheck source=scripts/ci/ops/lib/common.sh
. "$(dirname "$0")/lib/common.sh"
policy=$ops_root/docker/autoscaler/policy.yml
target=${CARGO_TARGET_DIR:-$HOME/.cache/dreamscape/target}
program=${AUTOSCALER:-}
for place in "$target/debug" "$target/release" "$ops_root/target/debug"; do
    [ -n "$program" ] || [ ! -x "$place/autoscaler" ] || program=$place/autoscaler
done
if [ -z "$program" ]; then
    skip V14 R-121,R-122,R-123,R-124 "the autoscaler's policy (not built: cargo build -p autoscaler)"
    finish
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# refuses SED-EXPRESSION WORD: the policy changed like that is refused, with that word in the refusal.
refuses() {
    sed -E "$1" "$policy" >"$work/policy.yml"
    ! cmp -s "$policy" "$work/policy.yml" || { echo "'$1' changes nothing"; return 1; }
    if "$program" check-policy "$work/policy.yml" >"$work/out" 2>&1; then
        echo "'$1' is not refused"
        return 1
    fi
    grep -q "$2" "$work/out" || { cat "$work/out"; return 1; }
}
mistakes() {
    refuses 's/max: 12/max: 13/' 'the caps need 500 of 497' &&
        refuses 's/min: 3/min: 9/' 'min is at least 1 and at most max' &&
        refuses 's/only_above/only_below/' only_below &&
        refuses 's/target_percent: 70/target_percent: 170/' target_percent &&
        refuses 's/^loop_seconds.*//' loop_seconds
}
figures() { # the figures that are required, as the policy says them
    grep -Fq 'query: sum(dreamscape_concurrent_users), per_replica: 1000' "$policy" &&
        grep -Fq '{name: cpu, target_percent: 70, only_above: true}' "$policy" &&
        grep -Fq 'query: sum(dreamscape_ai_queue_length)' "$policy" &&
        grep -Eq 'traefik_service_requests_total.*per_replica: 1000' "$policy"
}
defaults() { # off, and dry, unless the environment says otherwise
    "$program" --help >"$work/help"
    grep -Eq 'AUTOSCALER_ENABLED=\] \[default: false\]' "$work/help" &&
        grep -Eq 'AUTOSCALER_DRY_RUN=\] \[default: true\]' "$work/help"
}
check V14 R-121,R-122,R-123,R-124 "autoscaler: the shipped policy is usable" "$program" check-policy "$policy"
check V14 R-124 "autoscaler: caps beyond the database's connections and other mistakes are refused" mistakes
check V14 R-121,R-122,R-123 "autoscaler: the policy says the required figures" figures
check V14 R-124 "autoscaler: off and dry unless the environment says otherwise" env -u AUTOSCALER_ENABLED -u AUTOSCALER_DRY_RUN bash -c \
    "$(declare -f defaults); program='$program' work='$work'; defaults"
finish
