#!/bin/bash
# Throws a development or rehearsal installation away: the stack, and with --data its volumes. Touches nothing that is not ours: no
# prune of the host, no image, no secret.
#
# Usage: reset-bigpods.sh development|rehearsal [options]
#   development       the containers of compose/docker-compose.dev.yml
#   rehearsal         the stack on this node; refused when its settings are those of production (stack dreamscape) without --i-know
#   --data            the volumes too
#   --i-know          even the stack dreamscape
#   --yes             do not ask
#   --env-file FILE   settings (default: .env.prod)
#   --dry-run         say what would be done
# Exit codes: 0 done, 1 failed, 2 bad arguments, 3 a prerequisite is missing.
set -euo pipefail
# shellcheck source=scripts/bigpods/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

env_file=$stack_root/.env.prod dry_run='' yes='' data='' i_know='' what=''
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) show_usage "${BASH_SOURCE[0]}"; exit 0 ;;
        --data) data=yes; shift ;;
        --i-know) i_know=yes; shift ;;
        --yes) yes=yes; shift ;;
        --env-file) env_file=${2:?}; shift 2 ;;
        --dry-run) dry_run=yes; shift ;;
        development | rehearsal) what=$1; shift ;;
        *) show_usage "${BASH_SOURCE[0]}" >&2; exit "$USAGE" ;;
    esac
done
[ -n "$what" ] || { show_usage "${BASH_SOURCE[0]}" >&2; exit "$USAGE"; }
if [ "$what" = development ]; then
    exec "$(dirname "${BASH_SOURCE[0]}")/dev-bigpods.sh" down ${data:+--volumes} ${dry_run:+--dry-run}
fi
need_docker
settings_if_any
need_manager
[ "$stack" != dreamscape ] || [ -n "$i_know" ] ||
    die "$USAGE" "the stack dreamscape is production; if this one is not, give --i-know (or another STACK_NAME)"
[ -n "$dry_run" ] || confirm "throw the stack $stack${data:+ and its data} away?"
run docker stack rm "$stack" || exit 1
if [ -n "$data" ]; then
    mapfile -t volumes < <(docker volume ls -q --filter "label=com.docker.stack.namespace=$stack")
    for volume in ${volumes[@]+"${volumes[@]}"}; do
        # a container of the stack may need a moment to end
        for _ in 1 2 3 4 5 6; do
            if run docker volume rm "$volume"; then break; else sleep 5; fi
        done
    done
fi
exit 0
