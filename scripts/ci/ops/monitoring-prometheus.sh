#!/usr/bin/env bash
# Scrape configuration, rules and their unit tests. Prints one line per check: status, validator, requirements, text.
# Usage: scripts/ci/ops/monitoring-prometheus.sh
set -euo pipefail
case ${1:-} in -h | --help) sed -n '2,3s/^# //p' "$0"; exit 0 ;; esac
exec python3 "$(dirname "$0")/monitoring/prometheus.py"
