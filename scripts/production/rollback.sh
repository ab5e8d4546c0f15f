#!/bin/bash
# Brings a pod back to the version before.
#
# Usage: rollback.sh POD [--env-file FILE] [--dry-run]
# Exit codes: 0 done, 1 failed, 2 bad arguments, 3 a prerequisite is missing.
set -euo pipefail
case ${1:-} in
    --help | -h) sed -n 's/^# \(Usage:.*\)/\1/p; s/^# \(Exit.*\)/\1/p' "${BASH_SOURCE[0]}"; exit 0 ;;
esac
exec "$(dirname "${BASH_SOURCE[0]}")/../bigpods/prod-bigpods.sh" rollback "$@"
