#!/usr/bin/env bash
# V11: promotion of the standby by the real script, fencing, and the rejoin of the old primary by pg_rewind; real servers, and a
# stand-in for the engine that stops and starts them. contract: operations §6.7, P-38
# shellcheck disable=SC2317  # functions are called by name, by `check`
set -euo pipefail
[ "${1:-}" != --help ] || { echo "Usage: dataplane-promotion.sh   (KEEP=1 keeps the scratch folder)"; exit 0; }
# shellcheck source=scripts/ci/ops/lib/dataplane-pg.sh
. "$(dirname "$0")/../lib/dataplane-pg.sh"
find_postgres || { skip V11 R-041 "PostgreSQL 15's server programs are not here"; finish; }

prepare_nodes
declared=postgres-primary
node_extra="-c shared_buffers=128MB"
export ENGINE_DIR=$scratch/engine
mkdir -p "$ENGINE_DIR" "$scratch/bin" "$scratch/hosts"
ln -s "$root/scripts/ci/ops/lib/dataplane-engine.sh" "$scratch/bin/docker"
printf 'DOMAIN=example.test\nPG_PRIMARY_SERVICE=postgres-primary\n' >"$scratch/env.prod"

# The services of the stack: prefix, environment and command of each. The name of a node stays its service's; the address of the
# other one is given beside it, because no name server knows it here.
declare -A address=([postgres-primary]=$a [postgres-replica]=$b) entry=([postgres-primary]=primary [postgres-replica]=replica)
for service in postgres-primary postgres-replica; do
    node_environment "${address[$service]}"
    peer=$a
    [ "${address[$service]}" != "$a" ] || peer=$b
    {
        printf '%s\n' "${as[@]}" env "${node_env[@]}" "PG_NODE=$service" "PG_PEER_HOST=$peer" \
            "$root/docker/postgres/${entry[$service]}-entrypoint.sh"
    } | sed "s/^PG_PEER=.*/PG_PEER=$([ "$service" = postgres-primary ] && echo postgres-replica || echo postgres-primary)/" \
        >"$ENGINE_DIR/$service.env"
done
end_services() {
    local file
    for file in "$ENGINE_DIR"/*.pid; do [ ! -e "$file" ] || started+=("$(cat "$file")"); done
    clean_up
}
trap end_services EXIT
engine() { PATH="$scratch/bin:$PATH" docker "$@"; }
promote() { PATH="$scratch/bin:$PATH" "$root/scripts/production/promote-standby.sh" --env-file "$scratch/env.prod" --timeout 40 "$@" </dev/null; }
owner() { sql_as "$1" dreamscape_prod "$(cat "$scratch/secrets/db")" "$2"; }

engine service scale dreamscape_postgres-primary=1
eventually 30 has_passwords $a || { cat "$ENGINE_DIR"/*.log >&2; fail V11 R-041 "the primary starts"; finish; }
owner $a 'create schema voyage; create table voyage.marks (n int primary key); insert into voyage.marks select generate_series(1, 1000)'
engine service scale dreamscape_postgres-replica=1
eventually 30 streams $a postgres-replica || { cat "$ENGINE_DIR"/*.log >&2; fail V11 R-041 "the standby streams"; finish; }

# -- What is refused, and what a dry run leaves alone
check V11 R-041 "a dry run changes nothing" bash -c '"$@" | grep -q "would fence postgres-primary"' - \
    env PATH="$scratch/bin:$PATH" "$root/scripts/production/promote-standby.sh" --env-file "$scratch/env.prod" --dry-run
check V11 R-041 "the primary still takes writes after the dry run" owner $a 'insert into voyage.marks values (1001)'
check V8 - "promotion without a terminal needs --yes" refused_with "say --yes" promote
check V8 - "an unknown argument is refused" refused_with "unknown argument" promote --now
: >"$ENGINE_DIR/postgres-primary.stuck"
check V11 R-041 "a task that cannot be seen to end stops the promotion" refused_with "--old-node-is-dead" \
    env PATH="$scratch/bin:$PATH" "$root/scripts/production/promote-standby.sh" --env-file "$scratch/env.prod" --timeout 2 --yes
check V11 R-041 "and the standby was not promoted" equal t "$(sql "$b" 'select pg_is_in_recovery()')"
rm "$ENGINE_DIR/postgres-primary.stuck"
engine service scale dreamscape_postgres-primary=1
eventually 30 streams $a postgres-replica || fail V11 R-041 "the standby streams again"

# -- A planned promotion under load: every row that was committed is on the new primary
(
    n=2000
    while [ "$n" -lt 6000 ] && owner $a "insert into voyage.marks values ($n)" 2>/dev/null; do
        echo "$n" >>"$scratch/committed"
        n=$((n + 1))
    done
) &
writer=$!
eventually 10 test -s "$scratch/committed"
check V11 R-041 "promote-standby.sh fences the primary and promotes the standby" promote --yes
wait "$writer" || true
no_row_lost() {
    local last
    last=$(tail -1 "$scratch/committed")
    equal $((last - 1999)) "$(sql "$b" "select count(*) from voyage.marks where n between 2000 and $last" dreamscape_prod)"
}
check V11 R-041 "no committed row is lost ($(wc -l <"$scratch/committed") written until the fence)" no_row_lost
check V11 R-041 "the new primary takes writes" owner $b 'insert into voyage.marks values (900000)'
check V11 R-041 "the alias postgres-rw is with the new primary alone, and both keep their own names" \
    equal "alias=postgres-rw,alias=postgres-replica alias=postgres-ro,alias=postgres-primary" \
    "$(cut -d, -f2- "$ENGINE_DIR/postgres-replica.network") $(cut -d, -f2- "$ENGINE_DIR/postgres-primary.network")"
check V11 R-041 "the env file agrees" equal "PG_PRIMARY_SERVICE=postgres-replica PG_PRIMARY_ALIAS=postgres-ro PG_REPLICA_ALIAS=postgres-rw" \
    "$(grep ^PG_ "$scratch/env.prod" | xargs)"

# -- The old primary has commits that never left it: it comes back on its own, serves nothing, and is rewound
start_alone() { # as if somebody had started it by hand, declared as before, while the new primary runs
    local words
    mapfile -t words < <(head -n -1 "$ENGINE_DIR/postgres-primary.env")
    "${words[@]}" \
        PG_PRIMARY_SERVICE=postgres-primary "$root/docker/postgres/primary-entrypoint.sh"
}
check V11 R-041 "an old primary that is started as before refuses beside the new one" refused_with "is a primary too" start_alone
# a commit of its own, made while it was cut off
data=$scratch/$a/data
as_account "$PG_BIN/pg_ctl" -D "$data" -w -l "$scratch/cut-off.log" -o "-p ${port_of[$a]} -c listen_addresses='' -c unix_socket_directories=$scratch/$a/run -c archive_mode=off -c shared_preload_libraries=''" start >/dev/null
as_account "$PG_BIN/psql" -qX -h "$scratch/$a/run" -p "${port_of[$a]}" -U postgres -d dreamscape_prod \
    -c 'insert into voyage.marks select generate_series(700000, 700099)' 2>/dev/null ||
    fail V11 R-041 "the cut-off primary could be written to"
as_account "$PG_BIN/pg_ctl" -D "$data" -m immediate -w stop >/dev/null
owner $b 'insert into voyage.marks select generate_series(800000, 800099)'
check V11 R-041 "promote-standby.sh --rejoin brings the old primary back by pg_rewind" promote --rejoin --yes
rewound() { grep -q "node.sh postgres-primary: rewound" "$ENGINE_DIR/postgres-primary.log"; }
check V11 R-041 "it was rewound, not copied" rewound
check V11 R-041 "rows of the new primary reach it" eventually 10 seen_on $a 'select count(*) from voyage.marks where n >= 800000 and n < 800100' 100
check V11 R-041 "its own stray commits are gone" seen_on $a 'select count(*) from voyage.marks where n between 700000 and 700099' 0
check V11 R-041 "it refuses writes" refused_with "read-only transaction" owner $a 'insert into voyage.marks values (1)'

# -- A crash of the primary, and back to where we began
kill -KILL "$(as_account head -1 "$scratch/$b/data/postmaster.pid")"
check V11 R-041 "after a crash the former primary is promoted back, and the other one rejoins" promote --yes --rejoin
check V11 R-041 "the second promotion is a third timeline" equal 3 "$(sql $a 'select timeline_id from pg_control_checkpoint()')"
owner $a 'insert into voyage.marks values (990000)'
check V11 R-041 "rows reach the node that crashed" eventually 10 seen_on $b 'select count(*) from voyage.marks where n = 990000' 1
check V11 R-041 "the env file is back" equal "PG_PRIMARY_SERVICE=postgres-primary" "$(grep ^PG_PRIMARY_SERVICE "$scratch/env.prod")"
finish
