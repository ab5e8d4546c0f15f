#!/usr/bin/env bash
# Backups of the platform into object storage. contract: operations R-133, R-134, §6.14
set -Eeuo pipefail
program=backup
# shellcheck source=docker/backup/common.sh
. "$(dirname "$(readlink -f "$0")")/common.sh"

usage() {
    cat <<'TEXT'
Usage: backup.sh full | database | objects | configs <TAR | verify [ID] [--restore] | list | prune | ship-wal [--dry-run]

  full        everything: dump of the database, base for going back in time, objects; then verify, then prune
  database    dump, roles and base only
  objects     objects of the buckets only
  configs     what standard input holds, a tar of settings; scripts/production/backup.sh makes it
  verify      a backup (the newest): every byte against the manifest; --restore: also into an empty server, sums compared
  list        whole backups: id, kind, size, age in hours
  prune       remove what is older than BACKUP_RETENTION_DAYS (30); the newest full backup always stays
  ship-wal    one pass: encrypt and store finished segments of the write-ahead log (serve.py does it every few seconds)

A backup counts when its manifest is stored, which is the last thing to happen; everything is encrypted before it leaves. Only one
backup runs at a time. State for the health check and for metrics: $BACKUP_SPOOL/state.
Environment: DB_HOST DB_PORT DB_NAME DB_USER DB_PASSWORD_FILE REPLICATION_PASSWORD_FILE, S3_ENDPOINT S3_ACCESS_KEY_FILE
S3_SECRET_KEY_FILE BACKUP_S3_BUCKET, BACKUP_ENCRYPTION_KEY_FILE, BACKUP_SPOOL (/spool), BACKUP_RETENTION_DAYS, BACKUP_OBJECT_BUCKETS,
BACKUP_BASE (yes), BACKUP_VERIFY (restore, quick or no).
Exit code: 0 done, 1 failed, 2 usage, 3 a prerequisite is missing, 4 another backup is running.
TEXT
}

trap 'log "line $LINENO: ${BASH_COMMAND%% *} failed"' ERR

[ $# -gt 0 ] || { usage >&2; exit 2; }
verb=$1
shift
dry_run='' deep='' wanted=''
for argument in "$@"; do
    case $argument in
        --help) usage; exit 0 ;;
        --dry-run) dry_run=yes ;;
        --restore) deep=yes ;;
        -*) echo "unknown argument: $argument" >&2; exit 2 ;;
        *) wanted=$argument ;;
    esac
done
case $verb in
    full | database | objects | configs | verify | list | prune | ship-wal) ;;
    --help | -h) usage; exit 0 ;;
    *) echo "unknown command: $verb" >&2; usage >&2; exit 2 ;;
esac
retention=${BACKUP_RETENTION_DAYS:-30}
[[ $retention =~ ^[1-9][0-9]*$ ]] || code=2 die "BACKUP_RETENTION_DAYS=$retention is not a number of days"
for needed in python3 jq gpg "${bin}pg_dump" flock; do
    command -v "$needed" >/dev/null || code=3 die "$needed is missing"
done

locked() { # one at a time, also against a second container over the same spool
    mkdir -p "$spool"
    exec 9>"$spool/.lock"
    flock -n 9 || code=4 die "another backup is running"
}

# -- What one backup is made of. Each step puts sealed files into $work/files and tells the manifest of them.
settled() { # FILE...: what the readers of a `tee` write; they end a moment after it
    local file tries=0
    for file in "$@"; do
        until [ -s "$file" ]; do
            tries=$((tries + 1))
            [ "$tries" -lt 200 ] || die "the spool $spool cannot be written"
            sleep 0.05
        done
    done
}
# Never call these after `||`, `&&` or `if`: bash would go on after an error inside.
seal() { # NAME, from standard input: encrypted into the work folder, both sums taken on the way
    local name=$1
    tee >(sha256sum | cut -d' ' -f1 >"$work/$name.plain") >(wc -c >"$work/$name.bytes") | "$home/crypt.sh" encrypt >"$work/files/$name.gpg"
    settled "$work/$name.plain" "$work/$name.bytes"
    jq -n --arg name "$name" --arg sha "$(sha256 "$work/files/$name.gpg")" --arg plain "$(cat "$work/$name.plain")" \
        --argjson size "$(size_of "$work/files/$name.gpg")" --argjson bytes "$(tr -d ' ' <"$work/$name.bytes")" \
        '{name: $name, size: $size, sha256: $sha, plain_size: $bytes, plain_sha256: $plain}' >>"$work/entries"
    log "$name: $(size_of "$work/files/$name.gpg") bytes"
}

dump_database() {
    # One snapshot for the dump and for the sums of all tables: a restore can be compared row by row with what was dumped.
    local snapshot
    mkfifo "$work/ask"
    PGOPTIONS=$sums_options "${bin}psql" -qAtX -v ON_ERROR_STOP=1 -h "$host" -p "$port" -U "$owner" -d "$database" \
        <"$work/ask" >"$work/told" 2>"$work/psql.log" &
    local keeper=$!
    exec 8>"$work/ask"
    echo 'begin isolation level repeatable read read only; select pg_export_snapshot();' >&8
    until [ -s "$work/told" ]; do
        kill -0 "$keeper" 2>/dev/null || { cat "$work/psql.log" >&2; die "the database $host:$port cannot be asked"; }
        sleep 0.05
    done
    snapshot=$(head -1 "$work/told")
    PGOPTIONS='-c statement_timeout=0' "${bin}pg_dump" -h "$host" -p "$port" -U "$owner" -d "$database" -Fc --snapshot="$snapshot" \
        --lock-wait-timeout=60s | seal database.dump
    { sums_sql; echo 'commit;'; } >&8
    exec 8>&-
    wait "$keeper" || { cat "$work/psql.log" >&2; die "the tables could not be summed up"; }
    tail -n +2 "$work/told" >"$work/tables"
    [ -s "$work/tables" ] || die "the database $database has no tables"
    "${bin}pg_dumpall" -h "$host" -p "$port" -U "$owner" -l "$database" --globals-only --no-role-passwords | seal globals.sql
}

base_backup() { # the whole server, for going back in time; the log from here on is shipped as it is written
    [ "${BACKUP_BASE:-yes}" = yes ] || return 0
    "${bin}pg_basebackup" -h "$host" -p "$port" -U replicator -D - -Ft -X fetch -c fast --manifest-checksums=SHA256 --no-password |
        tee >(tar -xOf - backup_label 2>/dev/null >"$work/label"; cat >/dev/null) | gzip -1 | seal base.tar.gz
    settled "$work/label"
    sed -n 's/^START WAL LOCATION: .*(file \([0-9A-F]*\))$/\1/p' "$work/label" >"$work/base.start"
    [ -s "$work/base.start" ] || die "the base has no start in the log"
    PGOPTIONS=$sums_options "${bin}psql" -qAtX -v ON_ERROR_STOP=1 -h "$host" -p "$port" -U "$owner" -d "$database" \
        -c "select ceil(extract(epoch from clock_timestamp()))::bigint" >"$work/base.end"
}

copy_objects() {
    local previous='' newest all
    [ -n "$BACKUP_OBJECT_BUCKETS" ] || return 0
    all=$(ids | sort -r)
    for newest in $all; do
        fetch_manifest "$newest" "$work/manifest-$newest.json"
        if jq -e '.files[] | select(.name == "objects.jsonl")' "$work/manifest-$newest.json" >/dev/null; then
            fetch_file "$newest" objects.jsonl "$work/previous"
            previous=$work/previous
            break
        fi
    done
    objects backup "$work/objects.jsonl" ${previous:+"$previous"} >&2
    seal objects.jsonl <"$work/objects.jsonl"
}

remember() { # RESULT SIZE: for the health check and the metrics, whole or not at all
    local finished file=$state/$verb.json success=null
    finished=$(now)
    [ ! -s "$file" ] || success=$(jq '.last_success' "$file" 2>/dev/null || echo null)
    [ "$1" != 1 ] || success=$finished
    jq -n --argjson ok "$1" --argjson at "$finished" --argjson success "$success" --argjson size "$2" --argjson took "$((SECONDS))" \
        '{last_success: $success, last_run: $at, last_run_success: $ok, last_size_bytes: $size, last_duration_seconds: $took}' >"$file.new" &&
        mv "$file.new" "$file"
}
failed() { # an error anywhere: said in the state, and in the exit code
    local status=$?
    trap - ERR
    end_work
    mkdir -p "$state"
    [ "$status" -eq 0 ] || { remember 0 0 || true; log "failed"; }
    exit "$status"
}

make_backup() {
    local id started size=0 name
    locked
    make_work
    trap failed EXIT
    started=$(now)
    id=$(stamp "$started")-$verb
    find "$spool/work" -mindepth 1 -maxdepth 1 -mmin +1440 -exec rm -rf {} + # of runs that were killed
    mkdir "$work/files"
    : >"$work/entries"
    log "$id begins"
    case $verb in
        full) dump_database; base_backup; copy_objects ;;
        database) dump_database; base_backup ;;
        objects) copy_objects ;;
        configs) seal configs.tar ;;
    esac
    [ -s "$work/entries" ] || die "there was nothing to back up"
    for name in $(jq -r .name "$work/entries"); do
        s3 put "$work/files/$name.gpg" "backups/$id/$name.gpg"
    done
    size=$(jq -s 'map(.size) | add' "$work/entries")
    jq -s --arg id "$id" --arg kind "$verb" --argjson started "$started" --argjson finished "$(now)" \
        --arg postgres "$("${bin}pg_dump" --version | grep -oE '[0-9]+\.[0-9]+' | head -1)" \
        --rawfile tables <([ ! -e "$work/tables" ] || cat "$work/tables") \
        --arg base_start "$(cat "$work/base.start" 2>/dev/null || true)" --arg base_end "$(cat "$work/base.end" 2>/dev/null || true)" \
        '{id: $id, kind: $kind, started: $started, finished: $finished, postgres: $postgres, size: (map(.size) | add), files: .,
          tables: ($tables | split("\n") | map(select(. != "") | split("\t") | {name: .[0], rows: (.[1] | tonumber), sum: .[2]})),
          base: (if $base_start == "" then null else {start: $base_start, end: ($base_end | tonumber)} end)}' \
        "$work/entries" >"$work/MANIFEST.json"
    s3 put "$work/MANIFEST.json" "$(manifest_key "$id")"
    log "$id is stored, $size bytes"
    rm -rf "$work/files"
    case ${BACKUP_VERIFY:-restore} in
        no) ;;
        restore) verify "$id" deep ;;
        *) verify "$id" '' ;;
    esac
    [ "$verb" != full ] || prune
    remember 1 "$size"
    echo "$id"
}

verify() { # ID DEEP
    local id=$1 deep=$2 name
    fetch_manifest "$id" "$work/manifest-$id.json"
    mkdir -p "$work/verify"
    for name in $(jq -r '.files[].name' "$work/manifest-$id.json"); do
        case $name in *[!a-z0-9.]*) die "the manifest of $id is damaged" ;; esac
        fetch_file "$id" "$name" "$work/verify/$name"
        case $name in
            database.dump) "${bin}pg_restore" -l "$work/verify/$name" >/dev/null || die "the dump of $id cannot be read" ;;
            base.tar.gz)
                mkdir "$work/base"
                tar -xzf "$work/verify/$name" -C "$work/base" || die "the base of $id cannot be unpacked"
                "${bin}pg_verifybackup" -n -q "$work/base" || die "the base of $id is damaged"
                rm -rf "$work/base" ;;
            objects.jsonl) objects verify "$work/verify/$name" >&2 || die "objects of $id are damaged or missing" ;;
        esac
        [ "$name" = database.dump ] || rm "$work/verify/$name"
    done
    if [ -n "$deep" ] && [ -e "$work/verify/database.dump" ]; then
        make_private_server
        "${bin}pg_restore" -h "$work" -p 5432 -U dreamscape_prod -d dreamscape_prod --no-owner --exit-on-error "$work/verify/database.dump" ||
            die "the dump of $id cannot be restored"
        PGOPTIONS=$sums_options private_sql -d dreamscape_prod < <(sums_sql) >"$work/verify/tables"
        end_private_server
        rm -rf "$work/scratch"
        jq -r '.tables[] | [.name, (.rows | tostring), .sum] | join("\t")' "$work/manifest-$id.json" | diff - "$work/verify/tables" >&2 ||
            die "the restored tables of $id are not what was dumped"
        log "$id: restored into an empty server, $(wc -l <"$work/verify/tables") tables are as they were"
    fi
    rm -rf "$work/verify"
    log "$id is whole"
}

prune() {
    local id kept='' newest='' cutoff oldest='' all start
    cutoff=$(($(now) - retention * 86400))
    # Asked once, and as an assignment: a store that does not answer must end this, not look like an empty one.
    all=$(ids)
    newest=$({ grep -- '-full$' || true; } <<<"$all" | tail -1)
    remove() { # KEY...
        [ $# -gt 0 ] || return 0
        if [ -n "$dry_run" ]; then printf 'would remove %s\n' "$@"; else s3 delete "$@"; fi
    }
    keys_of() { s3 list "backups/$1/" | cut -f1; }
    for id in $all; do
        if [ "$(unstamp "${id%%-*}")" -lt "$cutoff" ] && [ "$id" != "$newest" ]; then
            log "prune: $id"
            # the manifest first: what is left of a removal that stops half-way does not count
            remove "$(manifest_key "$id")"
            keys_of "$id" | { grep -v '/MANIFEST\.json$' || true; } | while read -r key; do remove "$key"; done
        else
            kept+=" $id"
        fi
    done
    # Runs that never got their manifest, after a day
    s3 list backups/ | cut -d/ -f2 | sort -u | while read -r id; do
        grep -qxF -- "$id" <<<"$all" && continue
        [[ $id =~ ^[0-9]{8}T[0-9]{6}Z-[a-z]+$ ]] || continue
        [ "$(unstamp "${id%%-*}")" -lt $(($(now) - 86400)) ] || continue
        keys_of "$id" | while read -r key; do remove "$key"; done
    done
    # The log older than the oldest base that is kept, by place in the log: the name without its timeline
    : >"$work/used"
    for id in $kept; do
        fetch_manifest "$id" "$work/manifest-$id.json"
        start=$(jq -r '.base.start // empty' "$work/manifest-$id.json")
        if [ -n "$start" ] && { [ -z "$oldest" ] || [[ ${start:8} < $oldest ]]; }; then oldest=${start:8}; fi
        if jq -e '.files[] | select(.name == "objects.jsonl")' "$work/manifest-$id.json" >/dev/null; then
            fetch_file "$id" objects.jsonl "$work/list"
            jq -r '"objects/" + .[4][:2] + "/" + .[4] + ".gpg"' "$work/list" >>"$work/used"
        fi
    done
    if [ -n "$oldest" ]; then
        s3 list wal/ | cut -f1 | while read -r key; do
            segment=${key#wal/}
            segment=${segment%%.*}
            [[ $segment =~ ^[0-9A-F]{24}$ && ${segment:8} < $oldest ]] || continue
            remove "$key"
        done
    fi
    # Contents that no kept backup names. Those of the last day stay: a backup that is being made may count on them.
    sort -u "$work/used" >"$work/used.sorted"
    s3 list objects/ | while IFS=$'\t' read -r key _ modified; do
        grep -qxF "$key" "$work/used.sorted" && continue
        [ "$(date -u -d "$modified" +%s)" -lt $(($(now) - 86400)) ] || continue
        remove "$key"
    done
}

list() {
    local id all
    all=$(ids)
    for id in $all; do
        fetch_manifest "$id" "$work/manifest.json"
        jq -r --argjson now "$(now)" '[.id, .kind, (.size | tostring), ((($now - .started) / 3600 | floor | tostring) + " h")] | join("\t")' "$work/manifest.json"
    done
}

# The newest segment stays in the spool after it was shipped: the receiver goes on from it, also on another server after a promotion,
# which has no slot of ours yet but still the log.
ship_wal() {
    local file name shipped=0 newest total plain there
    mkdir -p "$spool/wal"
    exec 7>"$spool/.wal-lock"
    flock -n 7 || return 0
    newest=$(jq -r '.newest // empty' "$state/wal.json" 2>/dev/null || true)
    total=$(jq '.segments_total // 0' "$state/wal.json" 2>/dev/null || true)
    for file in "$spool"/wal/*; do
        name=${file##*/}
        [[ $name =~ ^([0-9A-F]{24}|[0-9A-F]{8}\.history)(\.gz)?$ ]] || continue
        [ "$name" != "$newest" ] || continue
        # The log is written once: a name that is there already is a repetition, or the log of another life of this server.
        case $name in *.gz) plain=$(gzip -dc "$file" | sha256sum | cut -d' ' -f1) ;; *) plain=$(sha256 "$file") ;; esac
        there=$(s3 head "wal/$name.gpg" 2>"$work/head.log" | cut -f3) || [ ! -s "$work/head.log" ] || die "$(cat "$work/head.log")"
        if [ -n "$there" ] && [ "$there" != "$plain" ]; then
            die "$name is stored already with another content: this server has gone back to an earlier moment and writes the same timeline again. Move wal/ of the bucket aside, then make a full backup"
        fi
        if [ -z "$there" ]; then
            "$home/crypt.sh" encrypt <"$file" >"$work/segment"
            s3 put "$work/segment" "wal/$name.gpg" "$plain"
        fi
        shipped=$((shipped + 1))
        case $name in
            *.history*) rm "$file" ;;
            *)
                [ -z "$newest" ] || rm -f "$spool/wal/$newest"
                newest=$name ;;
        esac
        note_wal $((${total:-0} + shipped)) "$newest"
    done
    [ "$shipped" -eq 0 ] || log "shipped $shipped segments"
    note_wal $((${total:-0} + shipped)) "$newest"
}
note_wal() { # TOTAL NEWEST
    jq -n --argjson at "$(now)" --argjson total "$1" --arg newest "$2" '{last_success: $at, segments_total: $total, newest: $newest}' \
        >"$state/wal.json.new"
    mv "$state/wal.json.new" "$state/wal.json"
}

case $verb in
    full | database | objects | configs)
        if [ -n "$dry_run" ]; then
            echo "would back up ($verb) $database at $host:$port and the buckets $BACKUP_OBJECT_BUCKETS into $BACKUP_S3_BUCKET"
            exit 0
        fi
        make_backup ;;
    verify)
        make_work
        [ -n "$wanted" ] || { wanted=$(ids); wanted=$(tail -1 <<<"$wanted"); }
        [ -n "$wanted" ] || die "there is no backup"
        verify "$wanted" "$deep" ;;
    list) make_work; list ;;
    prune) locked; make_work; prune ;;
    ship-wal) make_work; ship_wal ;;
esac
