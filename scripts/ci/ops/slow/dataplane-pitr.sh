#!/usr/bin/env bash
# V11: the backup service for real: the log received and shipped, and a database brought back to a moment between two rows; also into
# a folder, after the loss of the primary, and what is refused. contract: operations B-05, R-133
# shellcheck disable=SC2317  # functions are called by name, by `check`
set -euo pipefail
[ "${1:-}" != --help ] || { echo "Usage: dataplane-pitr.sh   (KEEP=1 keeps the scratch folder)"; exit 0; }
# shellcheck source=scripts/ci/ops/lib/dataplane-pg.sh
. "$(dirname "$0")/../lib/dataplane-pg.sh"
# shellcheck source=scripts/ci/ops/lib/dataplane-s3.sh
. "$(dirname "$0")/../lib/dataplane-s3.sh"
find_postgres || { skip V11 R-133 "PostgreSQL 15's server programs are not here"; finish; }
for needed in jq gpg; do command -v $needed >/dev/null || { skip V11 R-133 "$needed is not here"; finish; }; done
start_s3 || { skip V11 R-133 "moto's S3 server is not here and cannot be installed"; finish; }

# the archive_timeout of production is 60 s; here segments end when the check says so
start_what_is_backed_up R-133
owner "create schema voyage; create table voyage.marks (n int primary key, at timestamptz default clock_timestamp())"
metrics_port=$(free_ports 1)
tool_env+=(METRICS_PORT="$metrics_port" BACKUP_SHIP_SECONDS=0.5 BACKUP_OBJECT_BUCKETS=)
backup() { run_tool backup.sh "$@"; }
restore() { run_tool restore.sh "$@"; }

# -- The service
# once, in a minute from now; the next one would be in an hour
"${as[@]}" env "${tool_env[@]}" BACKUP_SCHEDULE="$(date -u -d '70 seconds' +%-M) * * * *" "$root/docker/backup/serve.py" >"$scratch/serve.log" 2>&1 &
service=$!
started+=("$service")
metric() { curl -sf "http://127.0.0.1:$metrics_port/metrics" | awk -v name="$1" '$1 == name { print $2 }'; }
is() { test "$(metric "$1")" "$2" "$3"; }
check V11 R-133 "the service receives the log" eventually 20 is dreamscape_wal_receiver_running = 1
check V11 R-133 "a slot keeps what it has not received" equal "backup_wal t" "$(sql "$a" "select slot_name || ' ' || case when active then 't' else 'f' end from pg_replication_slots")"
check V11 R-133 "the schedule comes due and makes a full backup by itself" eventually 130 is 'dreamscape_backup_last_run_success{kind="full"}' = 1
check V11 R-133 "its end is a metric" is 'dreamscape_backup_last_success_timestamp_seconds{kind="full"}' -gt $(($(date +%s) - 120))
check V11 R-133 "the health check is content" run_tool healthcheck.sh
tool_env+=(BACKUP_NOW="$(($(date +%s) + 27 * 3600))")
check V11 R-133 "and not after 27 hours without a backup" refused_with "27 hours old" run_tool healthcheck.sh
unset 'tool_env[-1]'

# -- Rows with times, and a moment between them
owner "insert into voyage.marks select generate_series(1, 100)"
sleep 1.2
between=$(owner "select clock_timestamp()")
sleep 1.2
owner "insert into voyage.marks select generate_series(101, 200)"
owner "delete from voyage.marks where n <= 50" # the accident
owner "insert into voyage.marks select generate_series(201, 300)"
end=$(owner "select clock_timestamp()")
sleep 0.2
owner "insert into voyage.marks values (999)" # without it the log does not reach beyond `end`
switch() { sql "$a" 'select pg_switch_wal()' >/dev/null; }
switch
pending() { is dreamscape_wal_archive_pending_segments = 0 && [ "$(metric dreamscape_wal_archive_segments_total)" -gt 0 ]; }
check V11 R-133 "finished segments are shipped" eventually 20 pending
sleep 2
wal_in_store() { boto "assert any(one['Key'].startswith('wal/0000') and one['Key'].endswith('.gz.gpg') for one in s3.list_objects_v2(Bucket='dreamscape-backups', Prefix='wal/')['Contents'])"; }
check V11 R-133 "and are in the store, encrypted" wal_in_store

to_folder() { restore --point-in-time "$1" --target-dir "$2" --yes; }
first_base=$(backup list | cut -f1 | head -1)
to_folder_from_base() { restore --backup "$first_base" --point-in-time latest --target-dir "$1" --yes; } # a newer base may begin after the segment
rows_of() { cut -f2 "$1.tables"; }
check V11 R-133 "recovery to the moment between" to_folder "$between" "$scratch/spool/between"
check V11 R-133 "has exactly the 100 rows of then" equal 100 "$(rows_of "$scratch/spool/between")"
check V11 R-133 "recovery to the end" to_folder "$end" "$scratch/spool/end"
check V11 R-133 "has exactly the 250 rows of then" equal 250 "$(rows_of "$scratch/spool/end")"
check V11 R-133 "recovery to the latest" to_folder latest "$scratch/spool/latest"
check V11 R-133 "has all 251" equal 251 "$(rows_of "$scratch/spool/latest")"
check V11 R-133 "a moment after the end of the log is refused, and the last one is told" \
    refused_with "the log ends before" to_folder "$(date -u -d '+2 hours' '+%Y-%m-%d %H:%M:%S+00')" "$scratch/spool/future"
check V11 R-133 "a moment before the oldest base is refused" refused_with "no backup to restore from" to_folder "2020-01-01" "$scratch/spool/past"
check V11 R-133 "a folder that is not empty is refused" refused_with "is not empty" to_folder "$between" "$scratch/spool/between"
check V11 R-133 "something that is no time is refused" refused_with "not a time" to_folder "yesterdayish" "$scratch/spool/x"

# -- Into the running database: the accident undone, refused without --force
check V11 R-134 "into a database with data only with --force" refused_with "is not empty" restore --point-in-time "$between" --yes
check V11 R-134 "with --force the database is as it was then" restore --point-in-time "$between" --force --yes
check V11 R-134 "exactly those rows" equal "100 1 100" "$(owner "select count(*) || ' ' || min(n) || ' ' || max(n) from voyage.marks")"

# -- A store that loses a segment must not look like the end of the log
newest() { boto "print(sorted(one['Key'] for one in s3.list_objects_v2(Bucket='dreamscape-backups', Prefix='wal/')['Contents'])[-1])"; }
more() { test "$(newest)" '>' "$1"; }
next_segment() { # ROW: a row, and the segment with it in the store
    local before
    before=$(newest)
    owner "insert into voyage.marks values ($1)"
    switch
    eventually 20 more "$before" >/dev/null
}
next_segment 1000
segment=$(newest)
next_segment 1100
next_segment 1101
boto "s3.copy_object(Bucket='dreamscape-backups', Key='aside', CopySource='dreamscape-backups/$segment')" \
    "s3.put_object(Bucket='dreamscape-backups', Key='$segment', Body=b'damaged')"
check V11 R-133 "a damaged segment stops the recovery instead of ending it early" refused_with "the recovery failed" to_folder_from_base "$scratch/spool/damaged"
boto "s3.delete_object(Bucket='dreamscape-backups', Key='$segment')"
check V11 R-133 "a missing segment before later ones is told, not taken for the end" refused_with "the log has a hole" to_folder_from_base "$scratch/spool/hole"
boto "s3.copy_object(Bucket='dreamscape-backups', Key='$segment', CopySource='dreamscape-backups/aside')" "s3.delete_object(Bucket='dreamscape-backups', Key='aside')"

# -- The store is away for a while: the log waits in the spool
kill -STOP "$s3_pid"
owner "insert into voyage.marks select generate_series(1001, 1099) union all select 1200"
switch
waits() { is dreamscape_wal_archive_pending_segments -gt 0; }
check V11 R-133 "with the store away, segments wait in the spool" eventually 20 waits
kill -CONT "$s3_pid"
check V11 R-133 "and are shipped when it is back" eventually 90 pending

# -- The primary is lost altogether; what was received brings it back, also as a primary that serves
after=$(owner "select clock_timestamp()")
switch
sleep 3
stop_node "$a" KILL
mv "$scratch/$a/data" "$scratch/$a/lost"
check V11 R-133 "after the loss of the primary: recovery to the latest" to_folder latest "$scratch/spool/again"
as_account cp -a "$scratch/spool/again" "$scratch/$a/data"
start_node "$a" primary-entrypoint.sh
check V11 R-133 "the recovered folder starts as the primary" eventually 30 has_passwords "$a"
check V11 R-133 "with every row" equal "203 100" "$(owner "select count(*) || ' ' || count(*) filter (where n between 1001 and 1099 or n = 1200) from voyage.marks where at < '$after'")"
check V11 R-133 "the service receives its log again, on the new timeline" eventually 40 is dreamscape_wal_receiver_running = 1
owner "insert into voyage.marks select generate_series(2001, 2100)"
switch
on_new_timeline() { test "$(newest)" '>' wal/00000002000000000000; }
check V11 R-133 "segments of the new timeline are shipped" eventually 40 on_new_timeline
check V11 R-133 "and goes on without a gap: base of the old timeline, rows of the new one" to_folder latest "$scratch/spool/both"
check V11 R-133 "all are there" equal 303 "$(rows_of "$scratch/spool/both")"

# -- A primary that was taken back to an earlier moment does not have the log from where the service stopped
stop_node "$a"
rm -rf "${scratch:?}/$a/data"
to_folder "$between" "$scratch/spool/back" >/dev/null 2>&1 # made now, so it gets a timeline that nobody has
as_account cp -a "$scratch/spool/back" "$scratch/$a/data"
bases() { backup list 2>/dev/null | grep -c -- -database; }
before=$(bases || true)
start_node "$a" primary-entrypoint.sh
eventually 30 has_passwords "$a" || fail V11 R-133 "the primary of an earlier moment starts"
new_base() { [ "$(bases)" -gt "$before" ]; }
check V11 R-133 "a broken chain is noticed, and a new base made at once" eventually 120 new_base
check V11 R-133 "and the log is received again" eventually 20 is dreamscape_wal_receiver_running = 1
another_life() {
    local name=000000090000000000000001
    head -c 100000 /dev/urandom | gzip >"$scratch/spool/wal/$name.gz"
    backup ship-wal || return 1
    head -c 100000 /dev/urandom | gzip >"$scratch/spool/wal/$name.gz"
    rm -f "$scratch/spool/state/wal.json"
    refused_with "another content" backup ship-wal || return 1
    rm "$scratch/spool/wal/$name.gz"
}
kill -TERM "$service"
ended() { ! kill -0 "$service" 2>/dev/null; }
check V11 R-133 "TERM ends the service" eventually 20 ended
check V11 R-133 "a segment of another life of the server is not stored over that of the first" another_life
finish
