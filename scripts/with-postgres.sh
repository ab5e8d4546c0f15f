#!/usr/bin/env bash
# Runs a command with DATABASE_URL pointing at a PostgreSQL server of its own, thrown away afterwards.
# Usage: scripts/with-postgres.sh COMMAND [ARGUMENT...]
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$(command -v initdb || true)
bin=${bin:+$(dirname "$(readlink -f "$bin")")}
if [ -z "$bin" ] || [ ! -x "$bin/pg_ctl" ]; then
    bin=$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -1)
fi
[ -x "$bin/initdb" ] || { echo "PostgreSQL's server binaries are missing (Debian: apt-get install postgresql)" >&2; exit 1; }

# In memory where there is room: tests make and drop a thousand databases, and some file systems are slow at just that.
place=/tmp
room=$(df --output=avail -k /dev/shm 2>/dev/null | tail -1)
[ "${room:-0}" -lt 4000000 ] || place=/dev/shm
dir=$(mktemp -d "$place/dreamscape-pg.XXXXXX")
as_owner() { "$@"; }
if [ "$(id -u)" -eq 0 ]; then
    owner=postgres
    id postgres >/dev/null 2>&1 || owner=nobody
    chown "$owner" "$dir"
    as_owner() { setpriv --reuid "$owner" --regid "$(id -g "$owner")" --clear-groups -- "$@"; }
fi
cd "$dir"
stop() {
    as_owner "$bin/pg_ctl" -D "$dir/data" -m immediate -w stop >/dev/null 2>&1 || true
    rm -rf "$dir"
}
trap stop EXIT
as_owner "$bin/initdb" -D "$dir/data" -A trust -U postgres -E UTF8 --locale=C >/dev/null
for attempt in 1 2 3 4 5; do
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    if as_owner "$bin/pg_ctl" -D "$dir/data" -l "$dir/log" -w start >/dev/null \
        -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories=$dir -c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=400 -c shared_buffers=256MB -c max_locks_per_transaction=256"; then
        break
    fi
    [ "$attempt" -lt 5 ] || { cat "$dir/log" >&2; exit 1; }
done
cd "$OLDPWD"
export DATABASE_URL="postgres://postgres@127.0.0.1:$port/postgres"
"$@"
