#!/usr/bin/env bash
# Whether the backup service lives, and has not gone without a whole backup for longer than BACKUP_MAX_AGE_HOURS (26). A service that
# has never made one is healthy for that long after its start; the alert BackupTooOld tells people meanwhile.
# Usage: healthcheck.sh      contract: operations §2
set -euo pipefail
[ "${1:-}" != --help ] || { sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 0; }
spool=${BACKUP_SPOOL:-/spool}
python3 - "${METRICS_PORT:-9090}" <<'PY' || exit 1
import sys, urllib.request
urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/health/live", timeout=3).read()
PY
[ "${BACKUP_ENABLED:-true}" = true ] || exit 0
last=$(jq -r '.last_success // 0' "$spool/state/full.json" 2>/dev/null || echo 0)
[ "$last" != 0 ] || last=$(stat -c %Y "$spool/state")
age=$((${BACKUP_NOW:-$(date +%s)} - last))
[ "$age" -le $((${BACKUP_MAX_AGE_HOURS:-26} * 3600)) ] || { echo "the last whole backup is $((age / 3600)) hours old"; exit 1; }
