#!/usr/bin/env bash
# Copies one finished segment into the archive: archive_command = 'archive-wal.sh "%p" "%f"'. Compressed, synced, and under its
# final name only when whole. A name that is there already with the same content is a repetition after a crash: done. Another content
# is refused, so that a second primary cannot overwrite what the first one archived.
# Usage: archive-wal.sh PATH NAME        (folder: WAL_ARCHIVE_DIR, kept: WAL_ARCHIVE_KEEP_HOURS)
set -euo pipefail
[ "${1:-}" != --help ] || { echo "Usage: archive-wal.sh PATH NAME"; exit 0; }
[ $# -eq 2 ] || { echo "Usage: archive-wal.sh PATH NAME" >&2; exit 2; }
path=$1 name=$2
archive=${WAL_ARCHIVE_DIR:-/var/lib/postgresql/wal-archive}
keep_minutes=$((${WAL_ARCHIVE_KEEP_HOURS:-48} * 60))
target=$archive/$name.gz
part=$archive/.$name.part

if [ -e "$target" ]; then
    if gzip -dc "$target" | cmp -s - "$path"; then
        exit 0
    fi
    echo "archive-wal: $name is archived already with another content, refused" >&2
    exit 1
fi
trap 'rm -f "$part"' EXIT
gzip -1c "$path" >"$part"
sync "$part" 2>/dev/null || sync
mv "$part" "$target"
sync "$archive" 2>/dev/null || sync
# The object store has the long memory; here is what a node needs to come back by itself. History files are tiny and stay.
find "$archive" -maxdepth 1 -name '????????????????????????.gz' -mmin +"$keep_minutes" -exec rm -f {} + || true
