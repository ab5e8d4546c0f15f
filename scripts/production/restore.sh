#!/bin/bash
# Restores the database or the objects of the stack from a backup, or takes the database back to a moment. Stops what writes first,
# and starts it again only when every table is proven to be what was backed up. contract: operations R-134, §6.14
set -euo pipefail
# shellcheck source=scripts/production/lib/containers.sh
. "$(dirname "$(readlink -f "$0")")/lib/containers.sh"

usage() {
    cat <<'TEXT'
Usage: restore.sh [--stack NAME] [--backup ID] [--point-in-time TIME] [--objects | --only-objects] [--force] [--keep] [--dry-run] --yes

  --backup ID           which backup (backup.sh list); the newest that fits
  --point-in-time TIME  the database as it was then ("2026-11-25 13:00:00+00"), from a base and the log; `latest`: a minute ago
  --force               throw away what is in the database now, which must otherwise be empty; a dump of it is stored first
  --objects, --only-objects   also, or only, put back objects that are missing (with --force: and those that differ)
  --target-db NAME      another database of the same server
  --keep                leave the pods running; for --only-objects, or a database that no pod uses
  --no-safety-copy      do not store a dump of what --force throws away
  --dry-run             say what would be done
In this order: look (the backup is there and whole enough to start) · stop core-pod and business-pod · with --force store what is there
· restore and compare every table · migrate (the release may be newer than the backup) · start the pods again with as many replicas.
If anything fails the pods stay stopped and the exit code is 1.
TEXT
}

stack=dreamscape keep='' dry_run='' yes='' force='' only_objects='' safety=yes
pass=()
while [ $# -gt 0 ]; do
    case $1 in
        --stack) stack=${2:?}; shift ;;
        --backup | --point-in-time | --target-db) pass+=("$1" "${2:?}"); shift ;;
        --objects) pass+=("$1") ;;
        --only-objects) only_objects=yes; pass+=("$1") ;;
        --force) force=yes; pass+=("$1") ;;
        --keep) keep=yes ;;
        --no-safety-copy) safety='' ;;
        --dry-run) dry_run=yes ;;
        --yes) yes=yes ;;
        --help | -h) usage; exit 0 ;;
        *) echo "unknown argument: $1" >&2; usage >&2; exit 2 ;;
    esac
    shift
done
say() { printf '%s %s\n' "$(date -u +%H:%M:%S)" "$*"; }
die() { echo "restore: $*" >&2; exit "${code:-1}"; }
command -v docker >/dev/null || code=3 die "there is no docker command"
[ -n "$yes$dry_run" ] || code=2 die "say --yes, or look first with --dry-run"

container_of backup || code=3 die "the service ${stack}_backup is not running${engine[*]:+, or its container was not found over ${engine[1]}}"
in_backup() { docker "${engine[@]}" exec "$container" "$@"; }

# an assignment: the failure inside must end this
told=$(in_backup restore "${pass[@]}" --dry-run) || die "nothing was changed"
say "look: $told"
writers=(core-pod business-pod)
[ -z "$only_objects" ] || keep=yes
if [ -n "$dry_run" ]; then
    [ -n "$keep" ] || say "would stop ${writers[*]} before, and start them again after"
    exit 0
fi

declare -A replicas
if [ -z "$keep" ]; then
    for service in "${writers[@]}"; do
        replicas[$service]=$(docker service inspect --format '{{.Spec.Mode.Replicated.Replicas}}' "${stack}_$service")
    done
    for service in "${writers[@]}"; do
        say "stop: $service (${replicas[$service]} replicas)"
        docker service scale --detach=false "${stack}_$service=0" >/dev/null
    done
fi
if [ -n "$force" ] && [ -n "$safety" ] && [ -z "$only_objects" ]; then
    say "keep: storing what is there now"
    in_backup backup database || die "what is there could not be stored, so it was not thrown away. The pods are stopped${keep:+ (not: --keep)}; --no-safety-copy goes on without"
fi
say "restore: begins"
in_backup restore "${pass[@]}" --yes || die "the restore failed, the pods stay stopped${keep:+ (not: --keep)}"
if [ -z "$keep" ]; then
    for service in migrate-core migrate-business; do
        say "migrate: $service"
        docker service update --force --detach=false "${stack}_$service" >/dev/null || die "$service failed, the pods stay stopped"
    done
    for service in "${writers[@]}"; do
        say "start: $service (${replicas[$service]} replicas)"
        docker service scale --detach=false "${stack}_$service=${replicas[$service]}" >/dev/null
    done
fi
say "done"
