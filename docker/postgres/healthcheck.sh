#!/usr/bin/env bash
# Whether this node is alive: it answers, or it is still being made (a copy of the primary may take an hour, and a container that is
# killed in the middle starts over). Never asks for the other node (P-31, P-32).
# Usage: healthcheck.sh
set -euo pipefail
[ "${1:-}" != --help ] || { sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 0; }
run=${PG_RUN_DIR:-/var/run/postgresql}
[ ! -e "$run/preparing" ] || exit 0
exec "${PG_BIN:+$PG_BIN/}pg_isready" -q -t 3 -h "$run" -p "${PG_PORT:-5432}"
