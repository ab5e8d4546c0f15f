#!/bin/sh
# Brings MinIO's buckets, policies and accounts to what they should be; run as a job after every deploy. An account whose secret
# changed gets the new one. Names are fixed, so an installation can be compared with this file. contract: operations R-056, D-07
# BusyBox ash.
#
# Usage: init.sh [--dry-run] [--help]
#   MINIO_ENDPOINT                                    http://minio:9000
#   MINIO_ROOT_USER_FILE, MINIO_ROOT_PASSWORD_FILE    used here only; no service has them
#   S3_ACCESS_KEY_FILE, S3_SECRET_KEY_FILE            account of the pods
#   BACKUP_S3_ACCESS_KEY_FILE, BACKUP_S3_SECRET_KEY_FILE    account of the backup service
#   LOKI_S3_ACCESS_KEY_FILE, LOKI_S3_SECRET_KEY_FILE  account of Loki; unset: Loki keeps its chunks on its volume
set -eu

dry_run=
case ${1:-} in
    --help) sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --dry-run) dry_run=yes ;;
    '') ;;
    *) echo "unknown argument: $1" >&2; exit 2 ;;
esac

here=$(cd "$(dirname "$0")" && pwd)
policies=${MINIO_POLICIES:-$here/policies}
endpoint=${MINIO_ENDPOINT:-http://minio:9000}
MC_CONFIG_DIR=${MC_CONFIG_DIR:-/tmp/.mc}
export MC_CONFIG_DIR
alias_name=dreamscape

say() { echo "minio-init: $*"; }
die() { echo "minio-init: $*" >&2; exit 1; }
read_secret() { # FILE LEAST-LENGTH
    [ -r "$1" ] || die "$1 cannot be read"
    secret=$(cat "$1")
    [ ${#secret} -ge "$2" ] || die "the secret in $1 is shorter than $2 characters"
    case $secret in *[!A-Za-z0-9]*) die "the secret in $1 holds more than letters and digits" ;; esac
}
run() { if [ -n "$dry_run" ]; then say "would run: mc $1 $2 ${3:-}"; else mc "$@"; fi; }

# The root's address goes by the environment: on no command line, in no file.
read_secret "${MINIO_ROOT_USER_FILE:?}" 3
root_user=$secret
read_secret "${MINIO_ROOT_PASSWORD_FILE:?}" 16
export "MC_HOST_$alias_name=${endpoint%%://*}://$root_user:$secret@${endpoint#*://}"

waited=0
until mc ready "$alias_name" >/dev/null 2>&1; do
    [ "$waited" -lt "${MINIO_WAIT_SECONDS:-120}" ] || die "$endpoint does not answer"
    sleep 1
    waited=$((waited + 1))
done

buckets='dreamscape-vr-assets dreamscape-user-uploads dreamscape-ai-generations dreamscape-backups'
[ -z "${LOKI_S3_ACCESS_KEY_FILE:-}" ] || buckets="$buckets dreamscape-loki"
for bucket in $buckets; do
    run mb --ignore-existing "$alias_name/$bucket"
    # Panoramas are read by browsers as they are; nothing else is, and nobody lists (mc's "download" would let everybody).
    if [ "$bucket" = dreamscape-vr-assets ]; then
        run anonymous set-json "$policies/vr-assets-anonymous.json" "$alias_name/$bucket"
    else
        run anonymous set private "$alias_name/$bucket"
    fi
done
account() { # NAME ACCESS-KEY-FILE SECRET-KEY-FILE
    read_secret "$2" 16
    access_key=$secret
    read_secret "$3" 32
    run admin policy create "$alias_name" "dreamscape-$1" "$policies/$1.json"
    if [ -n "$dry_run" ]; then
        say "would make the account of $1 with the policy dreamscape-$1"
        return
    fi
    # Both keys by standard input: mc reads them there when it is given none.
    printf '%s\n%s\n' "$access_key" "$secret" | mc admin user add "$alias_name" >/dev/null
    mc admin policy attach "$alias_name" "dreamscape-$1" --user "$access_key" >/dev/null 2>&1 ||
        mc admin policy entities "$alias_name" --user "$access_key" | grep -q "dreamscape-$1" ||
        die "the policy dreamscape-$1 could not be attached"
    say "account of $1: policy dreamscape-$1"
}
account pods "${S3_ACCESS_KEY_FILE:?}" "${S3_SECRET_KEY_FILE:?}"
account backup "${BACKUP_S3_ACCESS_KEY_FILE:?}" "${BACKUP_S3_SECRET_KEY_FILE:?}"
[ -z "${LOKI_S3_ACCESS_KEY_FILE:-}" ] || account loki "$LOKI_S3_ACCESS_KEY_FILE" "${LOKI_S3_SECRET_KEY_FILE:?}"
say "buckets: $buckets"
