#!/bin/bash
# Looks closely at one pod: its tasks and why they ended, its health as it sees it, its last log lines, its settings without secrets.
#
# Usage: debug-bigpods.sh POD [options]
#   POD               core, business or experience
#   --shell           a shell in a container of this node
#   --env-file FILE   settings (default: .env.prod)
# Exit codes: 0 done, 1 failed, 2 bad arguments, 3 a prerequisite is missing.
set -euo pipefail
# shellcheck source=scripts/bigpods/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

env_file=$stack_root/.env.prod shell='' pod=''
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) show_usage "${BASH_SOURCE[0]}"; exit 0 ;;
        --shell) shell=yes; shift ;;
        --env-file) env_file=${2:?}; shift 2 ;;
        -*) show_usage "${BASH_SOURCE[0]}" >&2; exit "$USAGE" ;;
        *) pod=$1; shift ;;
    esac
done
validate_pod_name "$pod" || exit "$USAGE"
need_docker
settings_if_any
service=${stack}_$(pod_service "$pod")
docker service inspect "$service" >/dev/null 2>&1 || die "$PREREQUISITE" "there is no service $service"
container=$(docker ps -q --filter "label=com.docker.swarm.service.name=$service" | head -n 1)
if [ -n "$shell" ]; then
    [ -n "$container" ] || die "$PREREQUISITE" "no task of $service runs on this node"
    exec docker exec -it "$container" sh
fi
log_info "tasks"
docker service ps --no-trunc --format 'table {{.Name}}\t{{.Node}}\t{{.CurrentState}}\t{{.Error}}' "$service"
if [ -n "$container" ]; then
    log_info "health of the container on this node"
    docker inspect --format '{{with .State.Health}}{{.Status}}, {{.FailingStreak}} failures in a row{{end}}' "$container"
    docker exec "$container" wget -q -O - -T 5 http://127.0.0.1:8080/health || log_warn "it does not answer"
    printf '\n'
    log_info "settings"
    docker exec "$container" "/$(pod_service "$pod")" config || true
fi
log_info "log"
docker service logs --tail 50 "$service" 2>&1 || exit 1
exit 0
