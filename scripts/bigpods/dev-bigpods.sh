#!/bin/bash
# The platform in containers for development (compose/docker-compose.dev.yml). Without containers: make run.
#
# Usage: dev-bigpods.sh [up|down|logs|status|restart] [SERVICE…] [options]
#   up           build and start everything, in the background (the default)
#   down         stop it; --volumes throws its data away too
#   logs         follow the logs
#   status       what runs
#   restart      restart services
#   --dry-run    say what would be done
# Exit codes: 0 done, 1 failed, 2 bad arguments, 3 a prerequisite is missing.
set -euo pipefail
# shellcheck source=scripts/bigpods/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

command='' volumes='' dry_run='' services=()
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) show_usage "${BASH_SOURCE[0]}"; exit 0 ;;
        --volumes) volumes=--volumes; shift ;;
        --dry-run) dry_run=yes; shift ;;
        -*) show_usage "${BASH_SOURCE[0]}" >&2; exit "$USAGE" ;;
        *) if [ -z "$command" ]; then command=$1; else services+=("$1"); fi; shift ;;
    esac
done
need_docker
if docker compose version >/dev/null 2>&1; then
    tool=(docker compose)
elif command -v docker-compose >/dev/null; then
    tool=(docker-compose)
else
    die "$PREREQUISITE" "there is no docker compose; install the plugin, or run the platform without containers: make run"
fi
tool+=(--file "$compose/docker-compose.dev.yml")
case ${command:-up} in
    up)
        run "${tool[@]}" up --build --detach ${services[@]+"${services[@]}"} || exit 1
        log_info "http://127.0.0.1:8080 answers when the first build is done; mail: http://127.0.0.1:8025"
        ;;
    down) run "${tool[@]}" down ${volumes:+"$volumes"} || exit 1 ;;
    logs) run "${tool[@]}" logs --follow --tail 100 ${services[@]+"${services[@]}"} || exit 1 ;;
    status) run "${tool[@]}" ps || exit 1 ;;
    restart) run "${tool[@]}" restart ${services[@]+"${services[@]}"} || exit 1 ;;
    *) show_usage "${BASH_SOURCE[0]}" >&2; exit "$USAGE" ;;
esac
exit 0
