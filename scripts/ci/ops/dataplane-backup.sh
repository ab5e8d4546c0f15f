#!/usr/bin/env bash
# V11: backups and restores with a real PostgreSQL and a real S3 server: the round trip, and everything that must not count as one.
# Going back in time and the service: slow/dataplane-pitr.sh. contract: operations R-133, R-134
# shellcheck disable=SC2317  # functions are called by name, by `check`
set -euo pipefail
[ "${1:-}" != --help ] || { echo "Usage: dataplane-backup.sh   (KEEP=1 keeps the scratch folder)"; exit 0; }
# shellcheck source=scripts/ci/ops/lib/dataplane-pg.sh
. "$(dirname "$0")/lib/dataplane-pg.sh"
# shellcheck source=scripts/ci/ops/lib/dataplane-s3.sh
. "$(dirname "$0")/lib/dataplane-s3.sh"
find_postgres || { skip V11 R-133,R-134 "PostgreSQL 15's server programs are not here"; finish; }
for needed in jq gpg; do command -v $needed >/dev/null || { skip V11 R-133,R-134 "$needed is not here"; finish; }; done
start_s3 || { skip V11 R-133,R-134 "moto's S3 server is not here and cannot be installed"; finish; }

start_what_is_backed_up R-133,R-134
backup() { run_tool backup.sh "$@"; }
restore() { run_tool restore.sh "$@"; }
with() { as_account env "${tool_env[@]}" "${settings[@]}" "$@"; } # settings=(NAME=value): with COMMAND...

# -- Something to lose: the real schema if the pods are built, and rows of every awkward kind
target=${CARGO_TARGET_DIR:-$HOME/.cache/dreamscape/target}/debug
if [ -x "$target/core-pod" ]; then
    install -m 0755 "$target/core-pod" "$scratch/core-pod"
    env -i PATH="$PATH" APP_ENV=development DB_HOST="$a" DB_PORT="${port_of[$a]}" DB_NAME=dreamscape_prod DB_USER=dreamscape_prod \
        DB_PASSWORD_FILE="$scratch/secrets/db" "$scratch/core-pod" migrate >/dev/null 2>&1
fi
owner "create schema if not exists voyage;
    create table voyage.marks (id uuid primary key default gen_random_uuid(), n bigint, price numeric(12, 4), at timestamptz, raw bytea,
        doc jsonb, tags text[], words text, ratio double precision);
    insert into voyage.marks (n, price, at, raw, doc, tags, words, ratio)
        select n, n / 7.0, timestamptz '2026-10-25 00:30:00+00' + n * interval '1 hour', decode(md5(n::text), 'hex'),
            jsonb_build_object('n', n, 'deep', jsonb_build_array(n, null, 'é')), array[n::text, 'a,\"b', null], E'line\\nquote '' tab\\t €', sqrt(n)
        from generate_series(1, 5000) as n;
    create table voyage.nothing (n int);
    create sequence voyage.numbers; do \$\$ begin perform nextval('voyage.numbers'), nextval('voyage.numbers'); end \$\$;
    grant usage on schema voyage to voyage_service; grant select on voyage.marks to voyage_service"
boto "s3.put_object(Bucket='dreamscape-user-uploads', Key='avatars/ada lovelace é.png', Body=b'picture', ContentType='image/png', CacheControl='private')" \
    "s3.put_object(Bucket='dreamscape-user-uploads', Key='avatars/same.png', Body=b'picture', ContentType='image/png')" \
    "s3.put_object(Bucket='dreamscape-vr-assets', Key='tiles/1.jpg', Body=bytes(range(256)) * 5000, ContentType='image/jpeg')"

# -- The round trip
check V11 R-133 "a dry run stores nothing" backup full --dry-run
check V11 R-133 "and there is no backup yet" equal "" "$(backup list)"
settings=(BACKUP_VERIFY=restore)
full() { with "$root/docker/backup/backup.sh" full >"$scratch/id"; }
check V11 R-133,R-134 "a full backup: dump, roles, base, objects; restored into an empty server and compared" full
id=$(cat "$scratch/id")
check V11 R-133 "the backup is listed" equal "$id" "$(backup list | cut -f1)"
manifest() { boto "print(s3.get_object(Bucket='dreamscape-backups', Key='backups/$id/MANIFEST.json')['Body'].read().decode())"; }
check V11 R-133 "its manifest tells files, tables, sums and the start of the log" \
    jq -e '(.files | length) == 4 and (.tables[] | select(.name == "voyage.marks") | .rows == 5000 and (.sum | length) > 5) and (.base.start | length) == 24' <(manifest)
nothing_in_clear() {
    boto "import re
for page in s3.get_paginator('list_objects_v2').paginate(Bucket='dreamscape-backups'):
    for one in page.get('Contents', []):
        body = s3.get_object(Bucket='dreamscape-backups', Key=one['Key'])['Body'].read()
        assert one['Key'].endswith('.gpg') or one['Key'].endswith('/MANIFEST.json'), one['Key']
        assert b'picture' not in body and b'PGDMP' not in body and b'CREATE ROLE' not in body, one['Key']"
}
check V11 R-078 "nothing is stored in clear" nothing_in_clear
no_passwords_in_globals() {
    boto "open('$scratch/globals.gpg', 'wb').write(s3.get_object(Bucket='dreamscape-backups', Key='backups/$id/globals.sql.gpg')['Body'].read())"
    BACKUP_ENCRYPTION_KEY_FILE=$scratch/secrets/backup-key "$root/docker/backup/crypt.sh" decrypt <"$scratch/globals.gpg" >"$scratch/globals" || return 1
    grep -q 'CREATE ROLE voyage_service' "$scratch/globals" && ! grep -i "password '" "$scratch/globals"
}
check V11 R-078 "the roles are stored without their passwords" no_passwords_in_globals
check V11 R-056 "equal contents are stored once" equal 2 "$(boto "print(s3.list_objects_v2(Bucket='dreamscape-backups', Prefix='objects/')['KeyCount'])")"
state() { jq -r "$1" "$scratch/spool/state/full.json"; }
check V11 R-133 "the last success is noted" equal "1 true" "$(state .last_run_success) $(state '.last_success > 0 and .last_size_bytes > 0')"

# -- A restore: refused where something is, exact where nothing is
check V11 R-134 "a database that is not empty is refused" refused_with "is not empty" restore --yes
check V11 R-134 "without --yes nothing happens" refused_with "say --yes" restore --force
sums() { PGOPTIONS="-c timezone=UTC" owner "select count(*) || ' ' || sum(hashtextextended(t::text, 0)::numeric) from voyage.marks as t"; }
before=$(sums)
owner "update voyage.marks set price = 0 where n <= 100; delete from voyage.marks where n > 4000; create schema stray; create table stray.x (n int)"
[ ! -x "$target/core-pod" ] || owner "insert into auth.users (id, email, email_display, password_hash, created_at, updated_at) values (gen_random_uuid(), 'x', 'x', 'x', now(), now())"
check V11 R-134 "a dry run changes nothing" restore --force --dry-run
check V11 R-134 "with --force it is restored and every table is compared" restore --force --yes
check V11 R-134 "the rows are the same to the last bit" equal "$before" "$(sums)"
check V11 R-134 "what was not in the backup is gone" refused_with "does not exist" owner 'select 1 from stray.x'
check V11 R-134 "sequences go on where they were" equal 3 "$(owner "select nextval('voyage.numbers')")"
check V11 R-134 "grants are back" sql_as "$a" voyage_service "$(url_password voyage)" 'select count(*) from voyage.marks'
empty_database() {
    owner "drop schema if exists auth, users, mail, voyage cascade" >/dev/null 2>&1
    sql "$a" "select 1" dreamscape_prod >/dev/null
}
empty_database
check V11 R-134 "an empty database needs no --force" restore --yes
check V11 R-134 "and has the same rows" equal "$before" "$(sums)"

# -- Large files go in parts, odd names survive, and a body that is not what was stored is noticed
parts() {
    head -c 11000001 /dev/urandom >"$scratch/large"
    S3_PART_BYTES=5300000 "$root/docker/backup/s3.py" put "$scratch/large" "odd/a b+c%20=é&?.bin" || return 1
    "$root/docker/backup/s3.py" get "odd/a b+c%20=é&?.bin" "$scratch/large.back" || return 1
    cmp "$scratch/large" "$scratch/large.back" || return 1
    boto "assert s3.head_object(Bucket='dreamscape-backups', Key='odd/a b+c%20=é&?.bin')['ETag'].strip('\"').endswith('-3')
s3.put_object(Bucket='dreamscape-backups', Key='odd/bad', Body=b'other', Metadata={'sha256': '0' * 64})" || return 1
    refused_with "is damaged" "$root/docker/backup/s3.py" get odd/bad "$scratch/bad" || return 1
    [ ! -e "$scratch/bad" ] && "$root/docker/backup/s3.py" delete "odd/a b+c%20=é&?.bin" odd/bad && equal "" "$("$root/docker/backup/s3.py" list odd/)"
}
check V11 R-133 "large files go in parts, odd names survive, damage is noticed" parts

# -- Objects
boto "s3.delete_object(Bucket='dreamscape-user-uploads', Key='avatars/ada lovelace é.png')" \
    "s3.put_object(Bucket='dreamscape-vr-assets', Key='tiles/1.jpg', Body=b'newer')"
check V11 R-056 "objects: a changed one is left and told" refused_with "1 restored, 1 were there, 1 left" restore --only-objects --yes
object_back() {
    boto "one = s3.get_object(Bucket='dreamscape-user-uploads', Key='avatars/ada lovelace é.png')
assert one['Body'].read() == b'picture' and one['ContentType'] == 'image/png' and one['CacheControl'] == 'private', one" \
        "assert s3.get_object(Bucket='dreamscape-vr-assets', Key='tiles/1.jpg')['Body'].read() == b'newer'"
}
check V11 R-056 "a deleted one is back with its type" object_back
check V11 R-056 "with --force the changed one too" restore --only-objects --force --yes
check V11 R-056 "a second backup copies no object again" bash -c '"$@" 2>&1 | grep -q "3 objects, [01] copied"' - \
    "${as[@]}" env "${tool_env[@]}" "$root/docker/backup/backup.sh" objects

# -- What must not count
tamper() { # KEY: one byte of a stored file is another one
    boto "import hashlib
got = s3.get_object(Bucket='dreamscape-backups', Key='$1')
body = bytearray(got['Body'].read()); body[len(body) // 2] ^= 1
s3.put_object(Bucket='dreamscape-backups', Key='$1', Body=bytes(body), Metadata={'sha256': hashlib.sha256(body).hexdigest()})"
}
keep() { boto "body = s3.get_object(Bucket='dreamscape-backups', Key='$1'); s3.put_object(Bucket='dreamscape-backups', Key='kept', Body=body['Body'].read(), Metadata=body['Metadata'])"; }
put_back() { boto "body = s3.get_object(Bucket='dreamscape-backups', Key='kept'); s3.put_object(Bucket='dreamscape-backups', Key='$1', Body=body['Body'].read(), Metadata=body['Metadata'])" "s3.delete_object(Bucket='dreamscape-backups', Key='kept')"; }
dump=backups/$id/database.dump.gpg
keep "$dump"
tamper "$dump"
check V11 R-134 "a changed byte in the dump is refused by verify" refused_with "damaged" backup verify "$id"
check V11 R-134 "and by restore, before anything is thrown away" refused_with "damaged" restore --backup "$id" --force --yes
check V11 R-134 "the database is untouched" equal "$before" "$(sums)"
put_back "$dump"
check V11 R-134 "the repaired backup is whole again" backup verify "$id"
secret >"$scratch/secrets/other-key"
settings=(BACKUP_ENCRYPTION_KEY_FILE="$scratch/secrets/other-key")
check V11 R-134 "another key opens nothing" refused_with "key is another one" with "$root/docker/backup/backup.sh" verify "$id"
boto "s3.copy_object(Bucket='dreamscape-backups', Key='backups/20991231T000000Z-full/database.dump.gpg', CopySource='dreamscape-backups/$dump')"
check V11 R-133 "files without a manifest are no backup" bash -c '! "$@" | grep -q 2099' - "${as[@]}" env "${tool_env[@]}" "$root/docker/backup/backup.sh" list
check V11 R-134 "and cannot be restored" refused_with "no whole backup" restore --backup 20991231T000000Z-full --force --yes
last_success=$(state .last_success)
interrupted() { # TERM in the middle of the dump: a lock on a table holds the dump up
    local pid
    owner "begin; lock table voyage.marks in access exclusive mode; select pg_sleep(3)" >/dev/null &
    sleep 0.5
    "${as[@]}" env "${tool_env[@]}" "$root/docker/backup/backup.sh" full >"$scratch/interrupted.out" 2>&1 &
    pid=$!
    sleep 1.5
    refused_with "another backup is running" backup full || return 1
    kill -TERM "$pid"
    # the script ends when the program in front of it does
    wait "$pid" && { echo "it succeeded"; return 1; }
    wait
    equal "$id" "$(backup list | grep -- -full | cut -f1)" || return 1
    equal 0 "$(find "$scratch/spool/work" -mindepth 1 | wc -l)" || return 1
    equal "0 $last_success" "$(state .last_run_success) $(state .last_success)"
}
check V11 R-133 "two backups at once are excluded; an interrupted one leaves nothing that counts, and says so" interrupted
disk_full() { # no file may grow beyond 64 blocks
    # shellcheck disable=SC2016
    refused_with "failed" "${as[@]}" env "${tool_env[@]}" bash -c 'ulimit -f 64; exec "$1" full' - "$root/docker/backup/backup.sh" || return 1
    equal "$id" "$(backup list | grep -- -full | cut -f1)" && equal 0 "$(find "$scratch/spool/work" -mindepth 1 | wc -l)"
}
check V11 R-133 "a full spool is an error and leaves nothing" disk_full
settings=(DB_PORT=1)
check V11 R-133 "a database that is away is an error" refused_with "cannot be asked" with "$root/docker/backup/backup.sh" full
settings=(S3_ENDPOINT=http://127.0.0.1:1 S3_TRIES=1)
check V11 R-133 "a store that is away is an error" refused_with "failed" with "$root/docker/backup/backup.sh" full
check V11 R-133 "and for prune too: it must not look like an empty store" refused with "$root/docker/backup/backup.sh" prune
check V11 R-133 "the failures are noted, the last success is kept" equal "0 $last_success" "$(state .last_run_success) $(state .last_success)"

# -- Retention, by the clock
copy_as() { # ID-TIMESTAMP-KIND: the backup $id as if it had been made then
    boto "import json, calendar, time
id, new = '$id', '$1'
for one in s3.list_objects_v2(Bucket='dreamscape-backups', Prefix=f'backups/{id}/')['Contents']:
    body = s3.get_object(Bucket='dreamscape-backups', Key=one['Key'])
    data = body['Body'].read()
    if one['Key'].endswith('MANIFEST.json'):
        document = json.loads(data); document['id'] = new; document['kind'] = new.split('-')[1]
        document['started'] = calendar.timegm(time.strptime(new.split('-')[0], '%Y%m%dT%H%M%SZ')); data = json.dumps(document).encode()
    s3.put_object(Bucket='dreamscape-backups', Key=one['Key'].replace(id, new), Body=data)"
}
clock=$(date -u -d '2027-03-31 02:00:00' +%s)
# all of today's are far in the past for that clock
for day in 20270228T020000Z 20270301T015959Z 20270301T020000Z 20270330T020000Z; do copy_as $day-full; done
copy_as 20270228T120000Z-database
boto "start = '$(manifest | jq -r .base.start)'
s3.put_object(Bucket='dreamscape-backups', Key='wal/' + start + '.gz.gpg', Body=b'x')
s3.put_object(Bucket='dreamscape-backups', Key='wal/000000010000000000000000.gz.gpg', Body=b'x')
s3.put_object(Bucket='dreamscape-backups', Key='wal/00000002.history.gz.gpg', Body=b'x')
s3.put_object(Bucket='dreamscape-backups', Key='objects/ff/' + 'f' * 64 + '.gpg', Body=b'x')"
settings=(BACKUP_NOW="$clock")
check V11 R-133 "a dry run of prune removes nothing" bash -c '"$@" | grep -q "would remove"' - "${as[@]}" env "${tool_env[@]}" "${settings[@]}" "$root/docker/backup/backup.sh" prune --dry-run
check V11 R-133 "prune runs" with "$root/docker/backup/backup.sh" prune
check V11 R-133 "kept are exactly those of the last 30 days, to the second" equal "20270301T020000Z-full 20270330T020000Z-full" "$(backup list | cut -f1 | xargs)"
leftovers() {
    boto "keys = [one['Key'] for one in s3.list_objects_v2(Bucket='dreamscape-backups')['Contents']]
gone = [key for key in keys if '2099' not in key and key.startswith('backups/') and not ('20270301T020000Z' in key or '20270330' in key)]
assert not gone, gone
assert 'wal/000000010000000000000000.gz.gpg' not in keys, 'log older than the oldest base is still there'
assert any(key.startswith('wal/0000000100') for key in keys) and 'wal/00000002.history.gz.gpg' in keys, keys
objects = [key for key in keys if key.startswith('objects/')]
assert len(objects) == 2, objects"
}
check V11 R-133 "with their log and objects, and nothing of the others" leftovers
settings=(BACKUP_NOW="$((clock + 400 * 86400))")
with "$root/docker/backup/backup.sh" prune >/dev/null 2>&1
check V11 R-133 "the newest full backup stays however old it is" equal 20270330T020000Z-full "$(backup list | cut -f1 | xargs)"
check V11 R-133 "and is whole" backup verify 20270330T020000Z-full

# -- The schedule
next() { TZ=Asia/Tokyo BACKUP_SCHEDULE=$1 "$root/docker/backup/serve.py" next "$(date -u -d "$2" +%s)"; }
check V8 R-133 "0 2 * * * is 02:00 UTC, every day" equal "2026-11-26T02:00:00Z 2026-11-27T02:00:00Z 2027-01-01T02:00:00Z" \
    "$(next '0 2 * * *' '2026-11-26 01:59:59') $(next '0 2 * * *' '2026-11-26 02:00:00') $(next '0 2 * * *' '2026-12-31 02:00:01')"
check V8 R-133 "steps, ranges, lists, weekdays" equal "2026-11-26T09:45:00Z 2026-11-29T03:05:00Z 2028-02-29T00:00:00Z" \
    "$(next '*/15 9-17 * * 1-5' '2026-11-26 09:31:00') $(next '5 3 * * 7' '2026-11-26 00:00:00') $(next '0 0 29 2 *' '2026-11-26 00:00:00')"
check V8 R-133 "a schedule that is none is refused" refused_with "not within" next '61 2 * * *' '2026-11-26 00:00:00'
finish
