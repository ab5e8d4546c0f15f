#!/usr/bin/env bash
# Regenerates .sqlx, the shapes of all queries, from a database with all migrations. DATABASE_URL names the server.
set -euo pipefail
cd "$(dirname "$0")/.."
DEV_PG=${DATABASE_URL%/*} scripts/dev/database.sh dreamscape_prepare >/dev/null
export DATABASE_URL="${DATABASE_URL%/*}/dreamscape_prepare"
rm -rf .sqlx && mkdir .sqlx
# Touching the sources makes every query macro run again.
for crate in core-pod business-pod shared; do touch $crate/src/lib.rs; done
SQLX_OFFLINE=false SQLX_OFFLINE_DIR="$PWD/.sqlx" scripts/cargo.sh check --workspace --tests
echo "$(find .sqlx -name '*.json' | wc -l) queries described in .sqlx"
