#!/bin/bash
# Follows the log of a pod, or of any service of the stack.
#
# Usage: logs-bigpods.sh NAME [options]
#   NAME              core, business, experience, or a service of the stack (traefik, kafka-1, …)
#   --tail N          start with the last N lines (100)
#   --since TIME      start at a time (10m, 2026-01-01T00:00:00)
#   --no-follow       print and end
#   --env-file FILE   settings (default: .env.prod)
# Exit codes: 0 done, 1 failed, 2 bad arguments, 3 a prerequisite is missing.
set -euo pipefail
# shellcheck source=scripts/bigpods/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

env_file=$stack_root/.env.prod tail=100 since='' follow=--follow name=''
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) show_usage "${BASH_SOURCE[0]}"; exit 0 ;;
        --tail) tail=${2:?}; shift 2 ;;
        --since) since=${2:?}; shift 2 ;;
        --no-follow) follow=''; shift ;;
        --env-file) env_file=${2:?}; shift 2 ;;
        -*) show_usage "${BASH_SOURCE[0]}" >&2; exit "$USAGE" ;;
        *) name=$1; shift ;;
    esac
done
[ -n "$name" ] || { show_usage "${BASH_SOURCE[0]}" >&2; exit "$USAGE"; }
need_docker
settings_if_any
case $name in core | business | experience) name=$name-pod ;; esac
exec docker service logs ${follow:+"$follow"} --tail "$tail" ${since:+--since "$since"} "${stack}_$name"
