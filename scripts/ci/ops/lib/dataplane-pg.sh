# Two PostgreSQL nodes as the stack runs them, on loopback: entry points, configuration and secrets are the real ones.
# shellcheck shell=bash disable=SC2317,SC2034
# shellcheck source=scripts/ci/ops/lib/dataplane.sh
. "$(dirname "${BASH_SOURCE[0]}")/dataplane.sh"

a=127.0.0.11 b=127.0.0.12 # nodes are known by the name the other one reaches them under
declare -A port_of node_pid

services=(auth user mail voyage payment ai)

prepare_nodes() {
    read -r port_of[$a] port_of[$b] < <(free_ports 2)
    mkdir -p "$scratch/secrets" "$scratch/$a" "$scratch/$b"
    local name
    for name in db replication exporter readonly; do secret >"$scratch/secrets/$name"; done
    for name in "${services[@]}"; do
        printf 'postgres://%s_service:%s@postgres-rw:5432/dreamscape_prod\n' "$name" "$(secret)" >"$scratch/secrets/$name.url"
    done
    own "$scratch"
    declared=$a
}

# Environment of a node, as NAME=value words in the array `node_env`.
node_environment() {
    local node=$1 peer=$a name
    [ "$node" != "$a" ] || peer=$b
    node_env=(
        "PG_NODE=$node" "PG_PEER=$peer" "PG_PORT=${port_of[$node]}" "PG_PEER_PORT=${port_of[$peer]}" "PG_PRIMARY_SERVICE=$declared"
        "PGDATA=$scratch/$node/data" "WAL_ARCHIVE_DIR=$scratch/$node/archive" "PG_RUN_DIR=$scratch/$node/run" "PG_BIN=$PG_BIN"
        "PG_RETRY_SECONDS=0.3" "PGCONNECT_TIMEOUT=2" "PG_EXTRA=-c listen_addresses=$node -c fsync=off ${node_extra:-}"
        "POSTGRES_PASSWORD_FILE=$scratch/secrets/db" "REPLICATION_PASSWORD_FILE=$scratch/secrets/replication"
        "EXPORTER_PASSWORD_FILE=$scratch/secrets/exporter" "READONLY_PASSWORD_FILE=$scratch/secrets/readonly")
    for name in "${services[@]}"; do
        node_env+=("${name^^}_DATABASE_URL_FILE=$scratch/secrets/$name.url")
    done
}

# start_node NODE ENTRYPOINT [NAME=value...]
start_node() {
    local node=$1 entry=$2
    shift 2
    node_environment "$node"
    # not by a function: the process started must be the entry point itself
    "${as[@]}" env "${node_env[@]}" "$@" "$root/docker/postgres/$entry" >>"$scratch/$node.log" 2>&1 &
    node_pid[$node]=$!
    started+=("$!")
}
stop_node() { # NODE [SIGNAL]: the entry point; KILL ends the server itself, as a crash does
    local node=$1 pid=${node_pid[$1]} signal=${2:-TERM}
    if [ "$signal" = KILL ]; then
        kill -KILL "$(head -1 "$scratch/$node/data/postmaster.pid")" 2>/dev/null || true
    else
        kill "-$signal" "$pid" 2>/dev/null || true
    fi
    exit_code=0
    wait "$pid" 2>/dev/null || exit_code=$?
}

# As the superuser over the socket of a node.
sql() { as_account "$PG_BIN/psql" -qAtX -v ON_ERROR_STOP=1 -h "$scratch/$1/run" -p "${port_of[$1]}" -U postgres -d "${3:-postgres}" -c "$2"; }
# As a role with its password over TCP: NODE ROLE PASSWORD SQL [DATABASE]
sql_as() { PGPASSWORD=$3 "$PG_BIN/psql" -qAtX -v ON_ERROR_STOP=1 -h "$1" -p "${port_of[$1]}" -U "$2" -d "${5:-dreamscape_prod}" -c "$4"; }
url_password() { sed 's#.*://[^:]*:\([^@]*\)@.*#\1#' "$scratch/secrets/$1.url"; }

answers() { [ "$(sql "$1" 'select pg_is_in_recovery()')" = f ]; }
ready() { sql "$1" "select 1 from pg_roles where rolname = 'ai_service' and rolcanlogin" dreamscape_prod | grep -q 1; }
has_passwords() { [ "$(sql "$1" "select count(*) from pg_authid where rolname like '%\_service' and rolpassword like 'SCRAM-SHA-256%'")" = 6 ]; }
streams() { [ "$(sql "$1" "select state from pg_stat_replication where application_name = '$2'")" = streaming ]; }
seen_on() { [ "$(sql "$1" "$2" dreamscape_prod)" = "$3" ]; }
