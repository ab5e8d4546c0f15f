#!/bin/bash
# What the monitoring of the stack says: targets that are down, alerts that fire, addresses of the dashboards.
#
# Usage: monitoring-bigpods.sh [targets|alerts|urls] [options]
#   targets           targets of Prometheus that do not answer
#   alerts            alerts that fire (the default: both)
#   urls              where the dashboards are
#   --env-file FILE   settings (default: .env.prod)
# Asks from inside the Prometheus container of this node, so it needs no password and no published port.
# Exit codes: 0 all is well, 1 something is down or fires, 2 bad arguments, 3 a prerequisite is missing.
set -euo pipefail
# shellcheck source=scripts/bigpods/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

env_file=$stack_root/.env.prod command=all
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) show_usage "${BASH_SOURCE[0]}"; exit 0 ;;
        --env-file) env_file=${2:?}; shift 2 ;;
        targets | alerts | urls | all) command=$1; shift ;;
        *) show_usage "${BASH_SOURCE[0]}" >&2; exit "$USAGE" ;;
    esac
done
settings_if_any
if [ "$command" = urls ]; then
    [ -n "${DOMAIN:-}" ] || die "$PREREQUISITE" "DOMAIN is not set"
    printf 'https://%s.%s\n' grafana "$DOMAIN" prometheus "$DOMAIN" traefik "$DOMAIN"
    exit 0
fi
need_docker
container=$(docker ps -q --filter "label=com.docker.swarm.service.name=${stack}_prometheus" | head -n 1)
[ -n "$container" ] || die "$PREREQUISITE" "Prometheus does not run on this node"

ask() { docker exec "$container" wget -q -O - "http://127.0.0.1:9090/api/v1/query?query=$1"; }
names() { python3 -c '
import json, sys
rows = json.load(sys.stdin)["data"]["result"]
for row in rows:
    m = row["metric"]
    print("  " + " ".join(m[k] for k in ("alertname", "severity", "job", "instance", "pod") if k in m))
sys.exit(1 if rows else 0)'; }

bad=0
if [ "$command" != alerts ]; then
    log_info "targets that are down:"
    ask 'up%3D%3D0' | names || bad=1
fi
if [ "$command" != targets ]; then
    log_info "alerts that fire:"
    ask 'ALERTS%7Balertstate%3D%22firing%22%2Calertname%21%3D%22Watchdog%22%7D' | names || bad=1
fi
exit "$bad"
