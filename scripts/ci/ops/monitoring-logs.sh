#!/usr/bin/env bash
# Loki, Promtail and Alloy: structure, and what becomes of sample lines. Prints one line per check: status, validator, requirements, text.
# Usage: scripts/ci/ops/monitoring-logs.sh [FILE…]    FILE: output of a pod (LOG_FORMAT=json) that has to pass as well
set -euo pipefail
case ${1:-} in -h | --help) sed -n '2,3s/^# //p' "$0"; exit 0 ;; esac
exec python3 "$(dirname "$0")/monitoring/logs.py" "$@"
