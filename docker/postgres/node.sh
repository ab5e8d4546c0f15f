#!/usr/bin/env bash
# Runs one PostgreSQL node: the entry point of both, by primary-entrypoint.sh and replica-entrypoint.sh.
# contract: operations §6.7, R-041, P-36, P-38, P-40
# Usage: node.sh, with the environment below
#
# Which node is the primary is declared (PG_PRIMARY_SERVICE, the same on both). A node that is not the declared one never serves
# writes, whatever lies in its folder:
#
#   declared primary   empty folder   initialise, unless the other node has data: then a volume was lost, and a person must look
#                      data           start, unless the other node is a primary too
#   any other          empty folder   copy the primary (pg_basebackup), then follow it
#                      standby        follow the primary; copy it anew if it has dropped the WAL this node needs
#                      former primary wait for the declared one, rewind to where they parted (pg_rewind), then follow it
#
# What a container needs is the default; elsewhere the environment says otherwise:
#   PG_NODE, PG_PEER, PG_PRIMARY_SERVICE   this node, the other one, the declared primary: names that resolve
#   PG_PEER_HOST                           where the other one is, if its name does not resolve
#   PG_PORT, PG_PEER_PORT                  ports of this node and of the other one (5432)
#   PGDATA, WAL_ARCHIVE_DIR, PG_RUN_DIR    data, archive, folder of sockets and of the rendered files
#   PG_CONF, PG_HBA, PG_INIT_SQL, PG_BIN   the files beside this script, and the folder of the server's programs
#   PG_SLOT                                the physical slot of the standby (standby_1)
#   PG_EXTRA                               further arguments of the server, separated by blanks (-c fsync=off)
#   PG_REBUILD=true                        throw this node's data away and copy the primary; never on the declared primary
# Secrets, as files: POSTGRES_PASSWORD_FILE, REPLICATION_PASSWORD_FILE, EXPORTER_PASSWORD_FILE, READONLY_PASSWORD_FILE,
# {AUTH,USER,MAIL,VOYAGE,PAYMENT,AI}_DATABASE_URL_FILE (the very files the pods read).
#
# Signals: TERM and INT end sessions and stop at once in good order.
set -euo pipefail

here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
node=${PG_NODE:?the name of this node}
peer=${PG_PEER:?the name of the other node}
declared=${PG_PRIMARY_SERVICE:-postgres-primary}
port=${PG_PORT:-5432}
peer_port=${PG_PEER_PORT:-5432}
slot=${PG_SLOT:-standby_1}
run=${PG_RUN_DIR:-/var/run/postgresql}
export PGDATA=${PGDATA:-/var/lib/postgresql/data/pgdata}
export WAL_ARCHIVE_DIR=${WAL_ARCHIVE_DIR:-/var/lib/postgresql/wal-archive}
conf=${PG_CONF:-$here/postgresql.prod.conf}
hba=${PG_HBA:-$here/pg_hba.conf}
[ -n "${PG_BIN:-}" ] && bin=$PG_BIN/ || bin=
export PGHOST=$run PGPORT=$port PGCONNECT_TIMEOUT=${PGCONNECT_TIMEOUT:-5}
passfile=$run/.pgpass
preparing=$run/preparing # here while this node waits, copies or rewinds: healthcheck.sh then leaves it alone

log() { printf '%s node.sh %s: %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$node" "$*" >&2; }
die() { log "$*"; exit 1; }

[ "$(id -u)" -ne 0 ] || die "PostgreSQL does not run as root; give the container its user (70 in the Alpine image)"
[ "$node" = "$declared" ] || [ "$peer" = "$declared" ] || die "PG_PRIMARY_SERVICE=$declared is neither $node nor $peer"
mkdir -p "$run" "$(dirname "$PGDATA")" "$WAL_ARCHIVE_DIR"
[ -w "$WAL_ARCHIVE_DIR" ] || die "the archive $WAL_ARCHIVE_DIR is not writable"

# The password of the connection to the other node lies in a file, not in what pg_basebackup -R writes down (P-36).
replication=${REPLICATION_PASSWORD_FILE:?the file with the password of the role replicator}
(
    umask 077
    secret=$(cat "$replication")
    secret=${secret//\\/\\\\}
    printf '*:*:*:replicator:%s\n' "${secret//:/\\:}" >"$passfile"
)
printf 'container %s postgres\ncontainer %s dreamscape_prod\ncontainer root postgres\ncontainer root dreamscape_prod\n' \
    "$(id -un)" "$(id -un)" >"$run/pg_ident.conf"

conninfo="host=${PG_PEER_HOST:-$peer} port=$peer_port user=replicator passfile=$passfile application_name=$node connect_timeout=5 keepalives_idle=30"
ask_peer() { PGPASSFILE=$passfile "${bin}psql" -qAtX -d "$conninfo dbname=postgres" -c "$1" 2>/dev/null; }

peer_is() { # primary, standby or silent
    case $(ask_peer 'select pg_is_in_recovery()' || true) in
        f) echo primary ;;
        t) echo standby ;;
        *) echo silent ;;
    esac
}

wait_for_primary() {
    local told=
    until [ "$(peer_is)" = primary ]; do
        [ -n "$told" ] || log "waiting for the primary $peer"
        told=yes
        sleep "${PG_RETRY_SECONDS:-3}"
    done
}

# A slot keeps the WAL that its standby still needs. One that was invalidated is worth nothing, so it is made anew.
ensure_slot() {
    local status
    status=$(ask_peer "select coalesce(wal_status, 'unreserved') from pg_replication_slots where slot_name = '$slot'") || return 1
    [ "$status" = lost ] && ask_peer "select pg_drop_replication_slot('$slot')" >/dev/null && status=
    [ -n "$status" ] || ask_peer "select pg_create_physical_replication_slot('$slot', true)" >/dev/null
}

copy_primary() {
    local new=$PGDATA.new
    wait_for_primary
    log "copying the primary $peer"
    ask_peer "select pg_drop_replication_slot(slot_name) from pg_replication_slots
        where slot_name = '$slot' and not active" >/dev/null || die "the slot $slot cannot be dropped"
    rm -rf "$new"
    PGPASSFILE=$passfile "${bin}pg_basebackup" -D "$new" -d "$conninfo" -R -X stream -C -S "$slot" -c fast ||
        { rm -rf "$new"; die "the copy of the primary failed"; }
    rm -rf "$PGDATA"
    mv "$new" "$PGDATA"
    log "the copy is complete"
}

follow() { # a folder that holds, or becomes, a standby
    local lost
    : >"$PGDATA/standby.signal"
    # The address is given at each start, so it is always the one declared now.
    server+=(-c "primary_conninfo=$conninfo" -c "primary_slot_name=$slot")
    if [ "$(peer_is)" = primary ]; then
        lost=$(ask_peer "select 1 from pg_replication_slots where slot_name = '$slot' and wal_status = 'lost'" || true)
        if [ -n "$lost" ]; then
            log "the primary has dropped WAL that this standby needs: copying it anew"
            ask_peer "select pg_drop_replication_slot('$slot')" >/dev/null || true
            copy_primary
        else
            ensure_slot || log "the slot $slot cannot be looked at yet"
        fi
    fi
}

rejoin() {
    wait_for_primary
    log "this node was a primary; rewinding it to follow $peer"
    if ! PGPASSFILE=$passfile "${bin}pg_rewind" -D "$PGDATA" -c --config-file="$run/rewind.conf" \
        --source-server="$conninfo dbname=postgres" >&2; then
        die "pg_rewind could not do it; the data is as it was. Save it if it may hold commits that never left this node, then start this node with PG_REBUILD=true"
    fi
    ensure_slot || die "the slot $slot cannot be made on $peer"
    log "rewound"
}

write_rewind_conf() { # pg_rewind starts a server of its own over the folder and asks it for restore_command
    cat "$conf" >"$run/rewind.conf"
    printf "restore_command = '%s'\narchive_mode = off\nshared_buffers = '128MB'\n" "$restore_command" >>"$run/rewind.conf"
}

export WAL_ARCHIVE_KEEP_HOURS=${WAL_ARCHIVE_KEEP_HOURS:-48}
restore_command="$here/restore-wal.sh \"%f\" \"%p\""
read -r -a extra <<<"${PG_EXTRA:-}"
server=(-D "$PGDATA" -p "$port"
    -c "config_file=$conf" -c "hba_file=$hba" -c "ident_file=$run/pg_ident.conf" -c "unix_socket_directories=$run"
    -c "archive_command=$here/archive-wal.sh \"%p\" \"%f\"" -c "restore_command=$restore_command" -c "cluster_name=$node"
    "${extra[@]}")
write_rewind_conf
: >"$preparing"
# One server over a folder: the engine may start a second container beside one that it only believes dead, and postmaster.pid says
# nothing across containers. The lock is the server's too, and is let go with its last process.
exec 9>"$(dirname "$PGDATA")/.node.lock"
waited=0
until flock -n 9; do
    [ "$waited" -gt 0 ] || log "another server is over this folder, waiting for its end"
    [ "$waited" -lt "${PG_LOCK_SECONDS:-300}" ] || die "another server is over this folder: $(dirname "$PGDATA")/.node.lock is locked"
    sleep 1
    waited=$((waited + 1))
done
rm -rf "$PGDATA.new"

if [ "$node" = "$declared" ]; then
    [ "${PG_REBUILD:-}" != true ] || die "PG_REBUILD is for the standby; this node is the declared primary"
    other=$(peer_is)
    if [ ! -s "$PGDATA/PG_VERSION" ]; then
        [ "$other" = silent ] ||
            die "the folder of the declared primary is empty, but $peer answers as $other: a volume was lost. Promote the standby (scripts/production/promote-standby.sh)"
        log "initialising"
        "${bin}initdb" -D "$PGDATA.new" -U postgres -E UTF8 --locale=C --data-checksums --auth=reject --auth-local=peer >/dev/null
        mv "$PGDATA.new" "$PGDATA"
    elif [ -e "$PGDATA/standby.signal" ]; then
        log "declared as primary, but still a standby: it serves reads until it is promoted"
        follow
    elif [ "$other" = primary ]; then
        die "$peer is a primary too. Declare one of them (PG_PRIMARY_SERVICE) on both nodes; the other one then rewinds and follows"
    fi
else
    if [ "${PG_REBUILD:-}" = true ] && [ -e "$PGDATA" ]; then
        wait_for_primary
        log "PG_REBUILD: throwing the data of this node away"
        rm -rf "$PGDATA"
    fi
    if [ ! -s "$PGDATA/PG_VERSION" ]; then
        copy_primary
    elif [ ! -e "$PGDATA/standby.signal" ]; then
        rejoin
    fi
    follow
fi
chmod 0700 "$PGDATA"
rm -f "$preparing"

postgres=
stop() { [ -z "$postgres" ] || kill -INT "$postgres" 2>/dev/null || true; }
trap stop TERM INT
"${bin}postgres" "${server[@]}" &
postgres=$!

until "${bin}pg_isready" -q; do
    kill -0 "$postgres" 2>/dev/null || break
    sleep 0.2
done
if kill -0 "$postgres" 2>/dev/null &&
    [ "$("${bin}psql" -qAtX -U postgres -d postgres -c 'select pg_is_in_recovery()')" = f ]; then
    if ! PG_BIN=${PG_BIN:-} "$here/apply-roles.sh" >&2; then
        log "the roles could not be brought up to date"
        # A server that was just made is of no use without them; one with data goes on with those it has.
        if [ "$("${bin}psql" -qAtX -U postgres -d postgres -c "select count(*) from pg_database where datname = 'dreamscape_prod'")" = 0 ]; then
            stop
        fi
    fi
fi

# A signal interrupts `wait`; the code that counts is the server's own.
code=0
while :; do
    code=0
    wait "$postgres" || code=$?
    kill -0 "$postgres" 2>/dev/null || break
done
exit "$code"
