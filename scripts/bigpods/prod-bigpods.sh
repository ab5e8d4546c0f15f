#!/bin/bash
# The front door to production: up, down, status, logs, scale and what else there is, each by its own script.
#
# Usage: prod-bigpods.sh COMMAND [options]
#   secrets [options]        make or rotate secrets (init-secrets.sh)
#   up [options]             deploy or update (deploy.sh)
#   down --yes               take the stack down; volumes, secrets and backups stay
#   status                   services, replicas, updates
#   logs POD [options]       follow a pod's log (logs-bigpods.sh)
#   scale POD N [options]    change the number of replicas (scale-bigpods.sh)
#   rollback POD             back to the version before
#   smoke [options]          ask the running platform (smoke-prod-test.sh)
#   backup [options]         backups (backup-bigpods.sh)
#   images                   the digests that are deployed
# All take --env-file FILE and --dry-run.
# Exit codes: 0 done, 1 failed, 2 bad arguments, 3 a prerequisite is missing.
set -euo pipefail
# shellcheck source=scripts/bigpods/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

command=${1:-}
case $command in
    --help | -h) show_usage "${BASH_SOURCE[0]}"; exit 0 ;;
    '') show_usage "${BASH_SOURCE[0]}" >&2; exit "$USAGE" ;;
esac
shift
case $command in
    secrets) exec "$here/../production/init-secrets.sh" "$@" ;;
    up) exec "$here/../production/deploy.sh" "$@" ;;
    logs) exec "$here/logs-bigpods.sh" "$@" ;;
    scale) exec "$here/scale-bigpods.sh" "$@" ;;
    smoke) exec "$here/smoke-prod-test.sh" "$@" ;;
    backup) exec "$here/backup-bigpods.sh" "$@" ;;
    down | status | rollback | images) ;;
    *) show_usage "${BASH_SOURCE[0]}" >&2; exit "$USAGE" ;;
esac

env_file=$stack_root/.env.prod dry_run='' yes='' words=()
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) show_usage "${BASH_SOURCE[0]}"; exit 0 ;;
        --env-file) env_file=${2:?}; shift 2 ;;
        --dry-run) dry_run=yes; shift ;;
        --yes) yes=yes; shift ;;
        -*) show_usage "${BASH_SOURCE[0]}" >&2; exit "$USAGE" ;;
        *) words+=("$1"); shift ;;
    esac
done
need_docker
settings_if_any
need_manager
case $command in
    down)
        [ -n "$dry_run" ] || confirm "take the stack $stack down? Nobody can use the platform until it is deployed again"
        run docker stack rm "$stack"
        ;;
    status)
        docker service ls --filter "label=com.docker.stack.namespace=$stack" --format 'table {{.Name}}\t{{.Mode}}\t{{.Replicas}}\t{{.Image}}'
        for pod in core-pod business-pod experience-pod; do
            state=$(docker service inspect --format '{{with .UpdateStatus}}{{.State}}: {{.Message}}{{end}}' "${stack}_$pod" 2>/dev/null || true)
            [ -z "$state" ] || log_info "$pod $state"
        done
        ;;
    rollback)
        validate_pod_name "${words[0]:-}" || exit "$USAGE"
        run docker service rollback --detach=false "${stack}_$(pod_service "${words[0]}")"
        ;;
    images)
        docker service ls -q --filter "label=com.docker.stack.namespace=$stack" |
            xargs -r docker service inspect --format '{{.Spec.Name}} {{.Spec.TaskTemplate.ContainerSpec.Image}}' | sort
        ;;
esac
