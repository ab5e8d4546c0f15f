#!/bin/bash
# Changes the number of replicas of a pod, within what the connection budget of PostgreSQL allows, and waits until they are healthy.
#
# Usage: scale-bigpods.sh POD N [options]
#   POD               core (3-8), business (5-12) or experience (4-10)
#   --force           go below the minimum (a rehearsal, a small host); never above the maximum
#   --timeout S       how long the new replicas may take (300)
#   --env-file FILE   settings (default: .env.prod)
#   --dry-run         say what would be done
# deploy.sh keeps the number: an update never scales a pod down.
# Exit codes: 0 done, 1 failed, 2 bad arguments, 3 a prerequisite is missing.
set -euo pipefail
# shellcheck source=scripts/bigpods/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

env_file=$stack_root/.env.prod force='' timeout=300 dry_run='' words=()
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) show_usage "${BASH_SOURCE[0]}"; exit 0 ;;
        --force) force=yes; shift ;;
        --timeout) timeout=${2:?}; shift 2 ;;
        --env-file) env_file=${2:?}; shift 2 ;;
        --dry-run) dry_run=yes; shift ;;
        -*) show_usage "${BASH_SOURCE[0]}" >&2; exit "$USAGE" ;;
        *) words+=("$1"); shift ;;
    esac
done
[ "${#words[@]}" -eq 2 ] || { show_usage "${BASH_SOURCE[0]}" >&2; exit "$USAGE"; }
validate_pod_name "${words[0]}" || exit "$USAGE"
pod=${words[0]%-pod} count=${words[1]}
[[ $count =~ ^[0-9]+$ ]] || die "$USAGE" "$count is no number"
least=$(pod_limit "$pod" min) most=$(pod_limit "$pod" max)
((count <= most)) || die "$USAGE" "$pod may have $most replicas at most: PostgreSQL has no connections for more"
((count >= least)) || [ -n "$force" ] || die "$USAGE" "$pod has at least $least replicas; --force goes below"
need_docker
settings_if_any
need_manager
run timeout "$timeout" docker service scale --detach=false "${stack}_$pod-pod=$count" ||
    { log_error "$pod has not $count healthy replicas after $timeout s"; exit 1; }
if [ -z "$dry_run" ]; then check_service_health "$pod-pod" || { log_error "$pod-pod is not complete"; exit 1; }; fi
log_info "$pod-pod: $count replicas"
