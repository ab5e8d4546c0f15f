#!/bin/bash
# Maintenance of the nodes and of what piles up on them.
#
# Usage: maintenance-bigpods.sh COMMAND [options]
#   drain NODE        move the tasks of a node away, one service at a time, and wait until all run elsewhere
#   activate NODE     let it take tasks again
#   rebalance         spread the pods over the nodes anew, one replica at a time
#   clean             remove stopped containers and images of the stack that nothing uses on this node; never volumes
#   --timeout S       how long draining may take (600)
#   --env-file FILE   settings (default: .env.prod)
#   --dry-run         say what would be done
# Exit codes: 0 done, 1 failed, 2 bad arguments, 3 a prerequisite is missing.
set -euo pipefail
# shellcheck source=scripts/bigpods/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

env_file=$stack_root/.env.prod dry_run='' timeout=600 words=()
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) show_usage "${BASH_SOURCE[0]}"; exit 0 ;;
        --timeout) timeout=${2:?}; shift 2 ;;
        --env-file) env_file=${2:?}; shift 2 ;;
        --dry-run) dry_run=yes; shift ;;
        -*) show_usage "${BASH_SOURCE[0]}" >&2; exit "$USAGE" ;;
        *) words+=("$1"); shift ;;
    esac
done
command=${words[0]:-} node=${words[1]:-}
case $command in
    drain | activate) [ -n "$node" ] || { show_usage "${BASH_SOURCE[0]}" >&2; exit "$USAGE"; } ;;
    rebalance | clean) ;;
    *) show_usage "${BASH_SOURCE[0]}" >&2; exit "$USAGE" ;;
esac
need_docker
settings_if_any
need_manager
case $command in
    drain)
        # a label ties a volume's service to its node: it will wait there, not move
        tied=$(docker node inspect --format '{{range $k, $v := .Spec.Labels}}{{$k}}={{$v}} {{end}}' "$node" | tr ' ' '\n' |
            grep -E '^(pg|redis|kafka|minio|monitoring|edge)=' | tr '\n' ' ' || true)
        [ -z "$tied" ] || log_warn "$node holds volumes ($tied): their services are away while it is drained"
        run docker node update --availability drain "$node" || exit 1
        [ -n "$dry_run" ] && exit 0
        deadline=$((SECONDS + timeout))
        while docker node ps --filter desired-state=running --format '{{.ID}}' "$node" | grep -q .; do
            ((SECONDS < deadline)) || { log_error "tasks still run on $node after $timeout s"; exit 1; }
            sleep 3
        done
        log_info "$node is empty"
        ;;
    activate) run docker node update --availability active "$node" || exit 1 ;;
    rebalance)
        for pod in core-pod business-pod experience-pod; do
            run docker service update --quiet --force --detach=false "${stack}_$pod" || exit 1
        done
        ;;
    clean)
        run docker container prune --force --filter "label=com.docker.stack.namespace=$stack" || exit 1
        [ -n "${REGISTRY:-}" ] || die "$PREREQUISITE" "REGISTRY is not set: cannot tell our images from others"
        docker image ls --format '{{.Repository}}:{{.Tag}}' | grep "^$REGISTRY/" | grep -v -e ":${VERSION:-}\$" -e ":${INFRA_VERSION:-${VERSION:-}}\$" |
            while read -r image; do run docker image rm "$image" || true; done
        ;;
esac
exit 0
