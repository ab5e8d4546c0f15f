#!/usr/bin/env bash
# Runbooks and the page about Kafka. Prints one line per check: status, validator, requirements, text.
# Usage: scripts/ci/ops/monitoring-docs.sh
set -euo pipefail
case ${1:-} in -h | --help) sed -n '2,3s/^# //p' "$0"; exit 0 ;; esac
exec python3 "$(dirname "$0")/monitoring/docs.py"
