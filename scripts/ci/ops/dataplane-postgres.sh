#!/usr/bin/env bash
# V11: primary and standby, by their real entry points and real PostgreSQL 15 programs. contract: operations §3.3, §6.7
# shellcheck disable=SC2317  # functions are called by name, by `check`
set -euo pipefail
[ "${1:-}" != --help ] || { echo "Usage: dataplane-postgres.sh   (KEEP=1 keeps the scratch folder)"; exit 0; }
# shellcheck source=scripts/ci/ops/lib/dataplane-pg.sh
. "$(dirname "$0")/lib/dataplane-pg.sh"

find_postgres || { skip V11 R-040,R-041,R-042,R-043,R-044,R-045,R-046 "PostgreSQL 15's server programs are not here"; finish; }
prepare_nodes

# -- The primary of a new installation, with the figures of production
start_node "$a" primary-entrypoint.sh
eventually 30 has_passwords "$a" || { cat "$scratch/$a.log" >&2; fail V11 R-041 "the primary initialises"; finish; }
# a container more over the same volume, where postmaster.pid says nothing
second_server() { "${as[@]}" env "${node_env[@]}" PG_LOCK_SECONDS=1 "PG_RUN_DIR=$scratch/$a/run-of-another" "$root/docker/postgres/primary-entrypoint.sh"; }
check V11 R-041 "a second server over the same folder waits, then gives up" refused_with "another server is over this folder" second_server
check V11 R-040 "server_version is 15" equal 15 "$(sql "$a" 'show server_version' | cut -d. -f1)"
figures=("R-042 max_connections 500" "R-043 shared_buffers 2GB" "R-044 effective_cache_size 6GB" "R-045 work_mem 10MB"
    "R-041 maintenance_work_mem 512MB" "R-041 wal_level replica" "R-041 max_wal_senders 10" "R-041 max_replication_slots 10"
    "R-041 max_slot_wal_keep_size 8GB" "R-041 wal_keep_size 1GB" "R-041 hot_standby on" "R-041 hot_standby_feedback on"
    "R-041 wal_compression lz4" "R-041 checkpoint_completion_target 0.9" "R-041 max_wal_size 4GB" "R-041 random_page_cost 1.1"
    "R-041 effective_io_concurrency 200" "R-106 shared_preload_libraries pg_stat_statements" "R-106 track_io_timing on"
    "R-041 log_min_duration_statement 500ms" "R-041 idle_in_transaction_session_timeout 1min" "R-071 password_encryption scram-sha-256"
    "R-041 archive_mode on" "R-041 archive_timeout 1min" "R-041 data_checksums on")
for figure in "${figures[@]}"; do
    read -r r name value <<<"$figure"
    check V11 "$r" "show $name = $value" equal "$value" "$(sql "$a" "show $name")"
done
check V11 R-041 "statement_timeout of dreamscape_prod is 30s" equal 30s \
    "$(sql_as "$a" dreamscape_prod "$(cat "$scratch/secrets/db")" 'show statement_timeout')"

# -- Roles and who may connect
init_twice() {
    local before after
    roles_of() { sql "$a" "select array_agg(rolname || rolsuper || rolcreaterole || rolreplication || rolcanlogin order by rolname) from pg_roles"; }
    before=$(roles_of)
    as_account "$PG_BIN/psql" -qX -v ON_ERROR_STOP=1 -h "$scratch/$a/run" -p "${port_of[$a]}" -U postgres -d postgres \
        -f "$root/scripts/postgres-init-prod.sql" >/dev/null || return 1
    after=$(roles_of)
    equal "$before" "$after"
}
check V11 R-046 "postgres-init-prod.sql runs again and changes nothing" init_twice
no_rows() { ! grep -niE "insert into|password '|copy .* from" "$root/scripts/postgres-init-prod.sql"; }
check V11 R-046 "postgres-init-prod.sql holds no row and no password" no_rows
least_privilege() {
    equal "0" "$(sql "$a" "select count(*) from pg_roles where rolname !~ '^pg_' and rolname <> 'postgres'
        and (rolsuper or rolcreatedb or rolcreaterole or rolbypassrls or (rolreplication and rolname <> 'replicator'))")"
}
check V11 R-071 "no role of the network is a superuser or may make roles; only replicator replicates" least_privilege
check V11 R-071 "the superuser cannot come in from the network" refused_with "no pg_hba.conf entry" sql_as "$a" postgres x 'select 1'
check V11 R-071 "a wrong password is refused" refused_with "password authentication failed" sql_as "$a" auth_service wrong 'select 1'
check V11 R-071 "a service cannot open the database postgres" refused_with "no pg_hba.conf entry" \
    sql_as "$a" auth_service "$(url_password auth)" 'select 1' postgres
check V11 R-106 "the exporter reads pg_stat_statements and pg_stat_replication" \
    sql_as "$a" exporter "$(cat "$scratch/secrets/exporter")" 'select count(*) from pg_stat_statements, pg_stat_replication' postgres
check V11 R-046 "a service cannot create a schema or a table in public" refused_with "permission denied" \
    sql_as "$a" auth_service "$(url_password auth)" 'create table public.x ()'

# -- The migrations of the pods, by their own programs, as the stack runs them
target=${CARGO_TARGET_DIR:-$HOME/.cache/dreamscape/target}/debug
if [ -x "$target/core-pod" ] && [ -x "$target/business-pod" ]; then
    install -m 0755 "$target/core-pod" "$target/business-pod" "$scratch/"
    migrate() {
        env -i PATH="$PATH" APP_ENV=development DB_HOST="$a" DB_PORT="${port_of[$a]}" DB_NAME=dreamscape_prod DB_USER=dreamscape_prod \
            DB_PASSWORD_FILE="$scratch/secrets/db" PGOPTIONS="-c statement_timeout=0 -c lock_timeout=10s" "$scratch/$1" migrate
    }
    check V11 R-046 "core-pod migrate as dreamscape_prod" migrate core-pod
    check V11 R-046 "business-pod migrate as dreamscape_prod" migrate business-pod
    check V11 R-046 "migrating again does nothing" migrate core-pod
    # the role's statement_timeout of 30 s is for requests; the job lifts it by PGOPTIONS, so those must reach its connection
    read_only() { env -i PATH="$PATH" APP_ENV=development DB_HOST="$a" DB_PORT="${port_of[$a]}" DB_NAME=dreamscape_prod DB_USER=dreamscape_prod \
        DB_PASSWORD_FILE="$scratch/secrets/db" PGOPTIONS="-c default_transaction_read_only=on" "$scratch/core-pod" migrate; }
    check V11 R-046 "the migrate job listens to PGOPTIONS" refused_with "read-only" read_only
    own_schema() {
        local service schema seen
        for service in "${services[@]}"; do
            schema=$service
            [ "$service" != user ] || schema=users
            seen=$(sql_as "$a" "${service}_service" "$(url_password "$service")" "
                select count(*) filter (where n.nspname = '$schema' and c.relname <> '_sqlx_migrations' and c.relkind = 'r'
                        and not (has_table_privilege(c.oid, 'select') and has_table_privilege(c.oid, 'insert')
                            and has_table_privilege(c.oid, 'update') and has_table_privilege(c.oid, 'delete'))) || ' '
                    || count(*) filter (where n.nspname <> '$schema' and c.relkind = 'r'
                        and has_schema_privilege(n.oid, 'usage')
                        and (has_table_privilege(c.oid, 'select') or has_table_privilege(c.oid, 'insert')
                            or has_table_privilege(c.oid, 'update') or has_table_privilege(c.oid, 'delete')))
                from pg_class c join pg_namespace n on n.oid = c.relnamespace
                where n.nspname in ('auth', 'users', 'mail', 'voyage', 'payment', 'ai')") || return 1
            equal "0 0" "$seen" || { echo "role ${service}_service"; return 1; }
        done
    }
    check V11 R-071 "each service reads and writes all tables of its own schema and none of another" own_schema
    check V11 R-071 "the user service reads the views published for it" \
        sql_as "$a" user_service "$(url_password user)" 'select count(*) from payment.transaction_data, voyage.booking_data'
    reads_only() {
        sql_as "$a" dreamscape_ro "$(cat "$scratch/secrets/readonly")" 'select count(*) from auth.users' >/dev/null || return 1
        refused_with "permission denied" sql_as "$a" dreamscape_ro "$(cat "$scratch/secrets/readonly")" \
            'begin; set transaction read write; delete from auth.users'
    }
    check V11 R-046 "dreamscape_ro reads everything and writes nothing" reads_only
else
    skip V11 R-046 "the pods are not built, so their migrations did not run here"
    sql_as "$a" dreamscape_prod "$(cat "$scratch/secrets/db")" 'create schema voyage'
fi

# -- A standby by copying
owner() { sql_as "$1" dreamscape_prod "$(cat "$scratch/secrets/db")" "$2"; }
owner "$a" 'create table voyage.marks (n int primary key); insert into voyage.marks select generate_series(1, 1000)'
start_node "$b" replica-entrypoint.sh
check V11 R-041 "the standby copies the primary and streams" eventually 40 streams "$a" "$b"
owner "$a" 'insert into voyage.marks select generate_series(1001, 2000)'
check V11 R-041 "rows reach the standby" eventually 10 seen_on "$b" 'select count(*) from voyage.marks' 2000
check V11 R-041 "the standby refuses writes" refused_with "read-only transaction" owner "$b" 'insert into voyage.marks values (0)'
check V11 R-041 "the physical slot standby_1 keeps the standby's WAL" equal "standby_1 physical t" \
    "$(sql "$a" "select slot_name, slot_type, active from pg_replication_slots" | tr '|' ' ')"
no_password_in_files() {
    local found
    found=$(as_account grep -rlF -f <(sed 's/$//' "$scratch/secrets/replication") "$scratch/$b/data" 2>/dev/null || true)
    equal "" "$found"
}
check V11 R-078 "no password in the standby's files (P-36)" no_password_in_files
no_password_told() {
    local name value
    for name in db replication exporter readonly; do
        value=$(cat "$scratch/secrets/$name")
        ! grep -qF "$value" "$scratch/$a.log" "$scratch/$b.log" || { echo "$name is in a log"; return 1; }
        equal 0 "$(sql "$a" "select count(*) from pg_stat_statements where query like '%$value%'")" || return 1
        # shellcheck disable=SC2009
        ! ps -eo args | grep -v grep | grep -qF "$value" || { echo "$name is on a command line"; return 1; }
    done
    for name in "${services[@]}"; do
        equal 0 "$(sql "$a" "select count(*) from pg_stat_statements where query like '%$(url_password "$name")%'")" || return 1
    done
}
check V11 R-078 "no password in logs, statistics or command lines" no_password_told

# -- The archive
archived() { compgen -G "$scratch/$a/archive/0000000100000000000000??.gz" >/dev/null; }
sql "$a" 'select pg_switch_wal()' >/dev/null
check V11 R-041 "finished segments reach the archive, compressed and whole" eventually 10 archived
archive_is_safe() {
    local segment=$scratch/segment one=000000010000000000000001
    head -c 1000000 /dev/urandom >"$segment"
    run() { WAL_ARCHIVE_DIR=$scratch/$a/safe "$root/docker/postgres/archive-wal.sh" "$@"; }
    mkdir -p "$scratch/$a/safe"
    run "$segment" "$one" || return 1
    run "$segment" "$one" || { echo "a repetition of the same content must be accepted"; return 1; }
    echo x >>"$segment"
    refused_with "another content" run "$segment" "$one" || return 1
    refused run "$scratch/not-there" 000000010000000000000002 || return 1
    equal "$one.gz" "$(ls -A "$scratch/$a/safe")" || return 1
    # what the object store has had for two days goes; history files stay
    touch -d '49 hours ago' "$scratch/$a/safe/$one.gz" "$scratch/$a/safe/00000002.history.gz"
    run "$segment" 000000010000000000000003 || return 1
    equal "000000010000000000000003.gz 00000002.history.gz" "$(cd "$scratch/$a/safe" && echo *)"
}
check V11 R-041 "the archive never overwrites and holds no half segment" archive_is_safe

# -- A rotated secret, without a restart
secret >"$scratch/secrets/exporter"
node_environment "$a"
as_account env "${node_env[@]}" PGHOST="$scratch/$a/run" PGPORT="${port_of[$a]}" "$root/docker/postgres/apply-roles.sh" >/dev/null
check V11 R-079 "apply-roles.sh gives a role its new password" \
    sql_as "$a" exporter "$(cat "$scratch/secrets/exporter")" 'select 1' postgres

# -- A primary whose volume is lost must not begin anew beside a standby that has the data
stop_node "$a"
check V11 R-041 "TERM stops a node at once and in good order" equal 0 "$exit_code"
mv "$scratch/$a/data" "$scratch/$a/data.kept"
start_node "$a" primary-entrypoint.sh
gone() { ! kill -0 "$1" 2>/dev/null; }
lost_volume() {
    eventually 20 gone "${node_pid[$a]}" || return 1
    grep -q "a volume was lost" "$scratch/$a.log" && [ ! -e "$scratch/$a/data" ]
}
check V11 R-041 "an empty folder beside a standby with data is refused" lost_volume
mv "$scratch/$a/data.kept" "$scratch/$a/data"
start_node "$a" primary-entrypoint.sh
check V11 R-041 "the primary starts again and the standby follows by itself" eventually 30 streams "$a" "$b"

# -- Promotion in its shortest form; by the script, with fencing and rejoin: slow/dataplane-promotion.sh
stop_node "$a"
sql "$b" 'select pg_promote(true, 30)' >/dev/null
check V11 R-041 "the promoted standby takes writes" owner "$b" 'insert into voyage.marks values (3000)'
finish
