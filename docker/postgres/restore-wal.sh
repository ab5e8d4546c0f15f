#!/usr/bin/env bash
# Fetches one segment from the archive of this node: restore_command = 'restore-wal.sh "%f" "%p"'. Fails where there is none.
# Usage: restore-wal.sh NAME PATH        (folder: WAL_ARCHIVE_DIR)
set -euo pipefail
[ "${1:-}" != --help ] || { echo "Usage: restore-wal.sh NAME PATH"; exit 0; }
[ $# -eq 2 ] || { echo "Usage: restore-wal.sh NAME PATH" >&2; exit 2; }
from=${WAL_ARCHIVE_DIR:-/var/lib/postgresql/wal-archive}/$1.gz
[ -e "$from" ] || exit 1
gzip -dc "$from" >"$2.part"
mv "$2.part" "$2"
