# What backup.sh and restore.sh share. Sourced by both.
# shellcheck shell=bash disable=SC2034,SC2154

home=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
spool=${BACKUP_SPOOL:-/spool}
state=$spool/state
database=${DB_NAME:-dreamscape_prod}
owner=${DB_USER:-dreamscape_prod}
host=${DB_HOST:-postgres-rw}
port=${DB_PORT:-5432}
export BACKUP_S3_BUCKET=${BACKUP_S3_BUCKET:-dreamscape-backups}
export BACKUP_OBJECT_BUCKETS=${BACKUP_OBJECT_BUCKETS-dreamscape-vr-assets dreamscape-user-uploads dreamscape-ai-generations}
bin=${PG_BIN:+$PG_BIN/}

log() { printf '%s %s: %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$program" "$*" >&2; }
die() { log "$*"; exit "${code:-1}"; }
now() { echo "${BACKUP_NOW:-$(date -u +%s)}"; } # BACKUP_NOW: a clock for tests
stamp() { date -u -d "@$1" +%Y%m%dT%H%M%SZ; }
unstamp() { # 20261125T020000Z as seconds
    local s=$1
    date -u -d "${s:0:4}-${s:4:2}-${s:6:2} ${s:9:2}:${s:11:2}:${s:13:2}" +%s
}
s3() { python3 "$home/s3.py" "$@"; }
objects() { python3 "$home/objects.py" "$@"; }
sha256() { sha256sum "$1" | cut -d' ' -f1; }
size_of() { stat -c %s "$1"; }

# A folder of this run, gone at its end however it ends.
make_work() {
    mkdir -p "$spool/work" "$state"
    work=$(mktemp -d "$spool/work/$program.XXXXXX")
    export TMPDIR=$work BACKUP_WORK=$work BACKUP_GNUPGHOME=$work/.gnupg
    mkdir -m 0700 "$BACKUP_GNUPGHOME"
    trap end_work EXIT
    trap 'exit 143' TERM
    trap 'exit 130' INT
    pass_files
}

end_work() {
    end_private_server
    gpgconf --homedir "$BACKUP_GNUPGHOME" --kill all 2>/dev/null || true
    rm -rf "$work"
}

# Passwords go by a file; nothing is on a command line.
pass_files() {
    export PGPASSFILE=$work/.pgpass PGCONNECT_TIMEOUT=${PGCONNECT_TIMEOUT:-10}
    (
        umask 077
        escaped() { sed 's/[\\:]/\\&/g' "$1"; }
        printf '*:*:*:%s:%s\n' "$owner" "$(escaped "${DB_PASSWORD_FILE:?}")"
        [ -z "${REPLICATION_PASSWORD_FILE:-}" ] || printf '*:*:*:replicator:%s\n' "$(escaped "$REPLICATION_PASSWORD_FILE")"
    ) >"$PGPASSFILE"
    chmod 0600 "$PGPASSFILE"
}

# Output of a row as text does not depend on the settings of a server, so sums of two servers can be compared.
sums_options='-c statement_timeout=0 -c idle_in_transaction_session_timeout=0 -c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres -c extra_float_digits=1 -c bytea_output=hex -c default_transaction_read_only=on'

# One line per table: schema.table, rows, a sum over the hashes of all rows that does not depend on their order.
sums_sql() {
    cat <<'SQL'
select format('select %L || E''\t'' || count(*) || E''\t'' || coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) from only %I.%I as t;',
    n.nspname || '.' || c.relname, n.nspname, c.relname)
from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
where c.relkind = 'r' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
order by n.nspname, c.relname
\gexec
SQL
}

# -- Manifests: a backup is what has one. JSON by jq.
manifest_key() { echo "backups/$1/MANIFEST.json"; }
ids() { # of whole backups, oldest first
    s3 list backups/ | awk -F '\t' '$1 ~ /\/MANIFEST\.json$/ { split($1, part, "/"); print part[2] }' | sort
}
fetch_manifest() { # ID FILE
    s3 get "$(manifest_key "$1")" "$2" || die "there is no whole backup $1"
    jq -e '.id == $id and (.files | type == "array")' --arg id "$1" "$2" >/dev/null 2>&1 || die "the manifest of $1 is damaged"
}
# A file of a backup, checked and decrypted: ID NAME FILE
fetch_file() {
    local id=$1 name=$2 file=$3 wanted plain
    wanted=$(jq -r --arg n "$name" '.files[] | select(.name == $n) | .sha256' "$work/manifest-$id.json")
    plain=$(jq -r --arg n "$name" '.files[] | select(.name == $n) | .plain_sha256' "$work/manifest-$id.json")
    [ -n "$wanted" ] || die "the backup $id has no $name"
    s3 get "backups/$id/$name.gpg" "$file.gpg" || die "the backup $id is damaged: $name cannot be fetched whole"
    [ "$(sha256 "$file.gpg")" = "$wanted" ] || die "the backup $id is damaged: $name is not what the manifest says"
    "$home/crypt.sh" decrypt <"$file.gpg" >"$file" || die "the backup $id is damaged, or the key is another one: $name cannot be decrypted"
    rm "$file.gpg"
    [ "$(sha256 "$file")" = "$plain" ] || die "the backup $id is damaged: the content of $name is not what the manifest says"
}

# -- A PostgreSQL server of our own, on a socket in the work folder: to prove a backup, and to go back in time
private_pid=
start_private_server() { # DATA-FOLDER [SERVER-ARGUMENT...]
    local data=$1
    shift
    chmod 0700 "$data"
    "${bin}postgres" -D "$data" -c listen_addresses='' -c "unix_socket_directories=$work" -c port=5432 -c "hba_file=$work/hba.conf" \
        -c shared_buffers=64MB -c max_wal_size=512MB -c archive_mode=off -c logging_collector=off -c log_destination=stderr \
        -c shared_preload_libraries='' -c fsync=off "$@" >"$work/server.log" 2>&1 &
    private_pid=$!
}
private_hba() { echo 'local all all trust' >"$work/hba.conf"; }
end_private_server() {
    [ -n "$private_pid" ] || return 0
    kill -INT "$private_pid" 2>/dev/null || true
    wait "$private_pid" 2>/dev/null || true
    private_pid=
}
private_ready() { # SECONDS
    local deadline=$((SECONDS + $1))
    until "${bin}pg_isready" -q -h "$work" -p 5432; do
        kill -0 "$private_pid" 2>/dev/null || { tail -20 "$work/server.log" >&2; return 1; }
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.2
    done
}
private_sql() { "${bin}psql" -qAtX -v ON_ERROR_STOP=1 -h "$work" -p 5432 -U postgres "$@"; }
# An empty server with the roles and the database of production.
make_private_server() {
    private_hba
    "${bin}initdb" -D "$work/scratch" -U postgres -E UTF8 --locale=C --no-sync >/dev/null
    start_private_server "$work/scratch"
    private_ready 60 || die "the server to prove the backup in did not start"
    private_sql -d postgres -f "${PG_INIT_SQL:-/etc/postgresql/postgres-init-prod.sql}" >/dev/null
}
