#!/usr/bin/env bash
# Brings back what backup.sh stored, and proves that it is the same. contract: operations R-134, §6.14, B-05
set -Eeuo pipefail
program=restore
# shellcheck source=docker/backup/common.sh
. "$(dirname "$(readlink -f "$0")")/common.sh"

usage() {
    cat <<'TEXT'
Usage: restore.sh [--backup ID] [--point-in-time TIME] [--target-db NAME | --target-dir DIR] [--objects | --only-objects]
                  [--force] [--dry-run] --yes

  --backup ID           which backup; the newest one with a database (or, with --point-in-time, the newest base before it)
  --point-in-time TIME  the database as it was then, "2026-11-25 13:00:00+00" or anything `date -d` reads; `latest`: to the end of
                        the log, that is about a minute before now. Recovered in a server of our own, then moved to the target
  --target-db NAME      restore into this database (DB_NAME). It must be empty, or --force throws away what is there
  --target-dir DIR      only with --point-in-time: leave the recovered data folder in DIR and touch no server
  --objects             also put back objects that are missing; --only-objects: nothing else. With --force also those that differ
  --yes                 really do it
Afterwards every table is compared with the backup, by rows and by sum; a difference is an error.
Exit code: 0 done and the same, 1 failed or refused, 2 usage, 3 a prerequisite is missing. Environment: as backup.sh.
TEXT
}

trap 'log "line $LINENO: ${BASH_COMMAND%% *} failed"' ERR

id='' time='' target_dir='' with_objects='' only_objects='' force='' dry_run='' yes=''
while [ $# -gt 0 ]; do
    case $1 in
        --backup) id=${2:?}; shift ;;
        --point-in-time) time=${2:?}; shift ;;
        --target-db) database=${2:?}; shift ;;
        --target-dir) target_dir=${2:?}; shift ;;
        --objects) with_objects=yes ;;
        --only-objects) only_objects=yes ;;
        --force) force=yes ;;
        --dry-run) dry_run=yes ;;
        --yes) yes=yes ;;
        --help | -h) usage; exit 0 ;;
        *) echo "unknown argument: $1" >&2; usage >&2; exit 2 ;;
    esac
    shift
done
[ -z "$target_dir" ] || [ -n "$time" ] || code=2 die "--target-dir goes with --point-in-time"
[ -n "$yes$dry_run" ] || code=2 die "say --yes, or look first with --dry-run"
for needed in python3 jq gpg "${bin}pg_restore"; do
    command -v "$needed" >/dev/null || code=3 die "$needed is missing"
done
make_work
export PGOPTIONS='-c statement_timeout=0'
sql() { "${bin}psql" -qAtX -v ON_ERROR_STOP=1 -h "$host" -p "$port" -U "$owner" -d "$database" "$@"; }

# -- Which backup
wanted_epoch=
if [ -n "$time" ] && [ "$time" != latest ]; then
    wanted_epoch=$(date -u -d "$time" +%s 2>/dev/null) || code=2 die "not a time: $time"
    # fractions of a second count: the log knows microseconds
    target_time=$(date -u -d "$time" '+%Y-%m-%d %H:%M:%S.%N' | sed 's/\(\.......\).*/\1+00/')
fi
if [ -z "$id" ]; then
    all=$(ids | sort -r)
    for candidate in $all; do
        fetch_manifest "$candidate" "$work/manifest-$candidate.json"
        if [ -n "$only_objects" ]; then
            jq -e '.files[] | select(.name == "objects.jsonl")' "$work/manifest-$candidate.json" >/dev/null || continue
        elif [ -n "$wanted_epoch" ]; then
            jq -e --argjson at "$wanted_epoch" '.base != null and .base.end <= $at' "$work/manifest-$candidate.json" >/dev/null || continue
        elif [ -n "$time" ]; then
            jq -e '.base != null' "$work/manifest-$candidate.json" >/dev/null || continue
        else
            jq -e '.files[] | select(.name == "database.dump")' "$work/manifest-$candidate.json" >/dev/null || continue
        fi
        id=$candidate
        break
    done
    [ -n "$id" ] || die "there is no backup to restore from${time:+ before $time}"
fi
fetch_manifest "$id" "$work/manifest-$id.json"
manifest=$work/manifest-$id.json
if [ -n "$wanted_epoch" ] && ! jq -e --argjson at "$wanted_epoch" '.base != null and .base.end <= $at' "$manifest" >/dev/null; then
    die "the base of $id is not older than $time"
fi
log "from $id${time:+, to $time}"

# -- Whether the target may be written
if [ -z "$only_objects" ] && [ -z "$target_dir" ]; then
    tables=$(sql -c "select count(*) from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p', 'v', 'm', 'S') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'") ||
        die "the target $database at $host:$port cannot be asked"
    if [ "$tables" -gt 0 ] && [ -z "$force" ]; then
        die "the target $database at $host:$port is not empty ($tables tables, views and sequences); --force throws them away"
    fi
    sessions=$(sql -c "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'")
    [ "$sessions" = 0 ] || log "warning: $sessions other sessions are open on $database; stop the pods first"
elif [ -n "$target_dir" ] && [ -n "$(ls -A "$target_dir" 2>/dev/null)" ]; then
    die "$target_dir is not empty"
fi
if [ -n "$dry_run" ]; then
    echo "would restore ${only_objects:+only the objects of }$id${time:+ as of $time} into ${target_dir:-$database at $host:$port}${force:+, throwing away what is there}"
    exit 0
fi

# A segment that was not there though later ones are: the recovery ended in a hole, not at the end of the log.
refuse_holes() {
    local missing stored
    stored=$(s3 list wal/ | sed 's#^wal/##; s#\..*##')
    stored+=$'\n'$(find "$spool/wal" -name '*.gz' -printf '%f\n' 2>/dev/null | sed 's#\..*##')
    while read -r missing; do
        [[ $missing =~ ^[0-9A-F]{24}$ ]] || continue
        awk -v m="$missing" 'substr($1, 1, 8) == substr(m, 1, 8) && ($1 "") > (m "") { found = 1 } END { exit found }' <<<"$stored" ||
            die "the log has a hole: $missing is missing, though later segments of its timeline are there"
    done < <(sort -u "$work/missing" 2>/dev/null)
}

# -- The data, as a dump and the sums of its tables
recover() { # to $time, in a server of our own
    local data=$1 target=()
    fetch_file "$id" base.tar.gz "$work/base.tar.gz"
    mkdir -p "$data"
    tar -xzf "$work/base.tar.gz" -C "$data"
    rm "$work/base.tar.gz"
    "${bin}pg_verifybackup" -n -q "$data" || die "the base of $id is damaged"
    : >"$data/recovery.signal"
    rm -f "$data/standby.signal"
    private_hba
    [ "$time" = latest ] || target=(-c "recovery_target_time=$target_time" -c recovery_target_action=promote)
    start_private_server "$data" -c hot_standby=off -c "restore_command=$home/fetch-wal.sh \"%f\" \"%p\"" -c recovery_target_timeline=latest "${target[@]}"
    log "recovering"
    if ! private_ready "${RECOVERY_SECONDS:-86400}"; then
        if grep -q 'recovery ended before configured recovery target was reached' "$work/server.log"; then
            die "the log ends before $time: $(grep -oE 'last completed transaction was at log time .*' "$work/server.log" | tail -1)"
        fi
        die "the recovery failed"
    fi
    until [ "$(private_sql -d "${DB_NAME:-dreamscape_prod}" -c 'select pg_is_in_recovery()')" = f ]; do sleep 0.2; done
    refuse_holes
    log "recovered: $(grep -oE '(recovery stopping|last completed transaction).*' "$work/server.log" | tail -1)"
}

if [ -z "$only_objects" ]; then
    if [ -n "$time" ]; then
        data=${target_dir:-$work/recovered}
        recover "$data"
        PGOPTIONS=$sums_options private_sql -d "${DB_NAME:-dreamscape_prod}" < <(sums_sql) >"$work/expected"
        if [ -n "$target_dir" ]; then
            end_private_server
            cp "$work/expected" "$target_dir.tables"
            log "$target_dir is a data folder as of $time; its tables and sums are in $target_dir.tables"
            exit 0
        fi
        "${bin}pg_dump" -h "$work" -p 5432 -U postgres -d "${DB_NAME:-dreamscape_prod}" -Fc >"$work/database.dump"
        end_private_server
        rm -rf "$data"
    else
        fetch_file "$id" database.dump "$work/database.dump"
        jq -r '.tables[] | [.name, (.rows | tostring), .sum] | join("\t")' "$manifest" >"$work/expected"
    fi

    if [ -n "$force" ] && [ "$tables" -gt 0 ]; then
        log "throwing away what is in $database"
        sql -c "set client_min_messages = warning" -c "do \$\$
            declare
                name text;
            begin
                for name in select nspname from pg_namespace where nspname !~ '^pg_' and nspname not in ('information_schema', 'public') loop
                    execute format('drop schema %I cascade', name);
                end loop;
            end
            \$\$"
    fi
    log "restoring into $database at $host:$port"
    "${bin}pg_restore" -h "$host" -p "$port" -U "$owner" -d "$database" --clean --if-exists --exit-on-error --no-owner \
        --jobs "${RESTORE_JOBS:-4}" "$work/database.dump" || die "the restore stopped half-way; $database is not usable. Run it again with --force"
    # its own tables only: the system's are not the owner's to analyze
    sql <<'SQL' >/dev/null
select format('analyze %I.%I', n.nspname, c.relname) from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'm') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
\gexec
SQL
    PGOPTIONS=$sums_options sql < <(sums_sql) >"$work/restored"
    diff "$work/expected" "$work/restored" >&2 || die "$database is not what was backed up; see the lines above (< backup, > here)"
    log "restored: $(wc -l <"$work/restored") tables, $(awk -F '\t' '{ n += $2 } END { print n + 0 }' "$work/restored") rows, all sums as in the backup"
fi

# -- Objects
if [ -n "$with_objects$only_objects" ]; then
    fetch_file "$id" objects.jsonl "$work/objects.jsonl"
    objects restore "$work/objects.jsonl" ${force:+--force} >&2
fi
