#!/usr/bin/env bash
# Fetches one segment of the write-ahead log out of the backups: restore_command of a server that goes back in time. 1 says that there
# is none, which ends the log; any other trouble is 255, which stops the server: a store that is away must not look like the end.
# Usage: fetch-wal.sh NAME PATH      contract: operations B-05
set -euo pipefail
[ $# -eq 2 ] || { echo "Usage: fetch-wal.sh NAME PATH" >&2; exit 255; }
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
name=$1 path=$2
part=$path.part
trap 'rm -f "$part" "$part.gpg"' EXIT
[[ $name =~ ^[0-9A-F]{24}$ || $name =~ ^[0-9A-F]{8}\.history$ ]] || exit 1 # .backup files are not needed

for suffix in .gz ''; do
    # written but not shipped yet
    local_file=${BACKUP_SPOOL:-/spool}/wal/$name$suffix
    if [ -e "$local_file" ]; then
        if [ -n "$suffix" ]; then gzip -dc "$local_file" >"$part"; else cp "$local_file" "$part"; fi || exit 255
        mv "$part" "$path"
        exit 0
    fi
    status=0
    python3 "$here/s3.py" head "wal/$name$suffix.gpg" >/dev/null 2>"$part" || status=$?
    if [ "$status" -eq 0 ]; then
        python3 "$here/s3.py" get "wal/$name$suffix.gpg" "$part.gpg" || exit 255
        "$here/crypt.sh" decrypt <"$part.gpg" | { if [ -n "$suffix" ]; then gzip -dc; else cat; fi; } >"$part" || exit 255
        mv "$part" "$path"
        exit 0
    fi
    [ ! -s "$part" ] || { cat "$part" >&2; exit 255; } # `head` says nothing where there is no such object
done
[ -z "${BACKUP_WORK:-}" ] || echo "$name" >>"$BACKUP_WORK/missing" # restore.sh looks whether that was the end, or a hole
exit 1
