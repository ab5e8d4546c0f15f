#!/bin/bash
# Backups by hand, in the backup service of the stack, which makes one every night by itself. contract: operations R-133, §6.14
set -euo pipefail
# shellcheck source=scripts/production/lib/containers.sh
. "$(dirname "$(readlink -f "$0")")/lib/containers.sh"

usage() {
    cat <<'TEXT'
Usage: backup.sh [--stack NAME] full | database | objects | verify [ID] [--restore] | list | prune [--dry-run]
       backup.sh [--stack NAME] configs [--env-file FILE] [--from-dir DIR] [--dry-run]

Runs the command in the container of <stack>_backup, on this machine or, over ssh, on the node where it is. `configs` stores the env
file, the stack files and, with --from-dir, a folder of secrets, encrypted like everything else: what a rebuild from empty nodes needs.
The key of the backups (secret backup_encryption_key) must be kept outside of the platform: without it no backup opens.

  --stack NAME    the stack (dreamscape)
  --dry-run       say what would be done
Exit code: 0 done, 1 failed, 2 usage, 3 a prerequisite is missing, 4 another backup is running.
TEXT
}

stack=dreamscape env_file=.env.prod from_dir='' dry_run=''
arguments=()
while [ $# -gt 0 ]; do
    case $1 in
        --stack) stack=${2:?}; shift ;;
        --env-file) env_file=${2:?}; shift ;;
        --from-dir) from_dir=${2:?}; shift ;;
        --dry-run) dry_run=yes; arguments+=("$1") ;;
        --help | -h) usage; exit 0 ;;
        *) arguments+=("$1") ;;
    esac
    shift
done
case ${arguments[0]:-} in
    full | database | objects | verify | list | prune | configs) ;;
    '') usage >&2; exit 2 ;;
    *) echo "unknown command: ${arguments[0]}" >&2; usage >&2; exit 2 ;;
esac
die() { echo "backup: $*" >&2; exit "${code:-1}"; }
command -v docker >/dev/null || code=3 die "there is no docker command"

container_of backup || code=3 die "the service ${stack}_backup is not running${engine[*]:+, or its container was not found over ${engine[1]}}"

if [ "${arguments[0]}" != configs ]; then
    exec docker "${engine[@]}" exec "$container" backup "${arguments[@]}"
fi

root=$(cd "$(dirname "$(readlink -f "$0")")/../.." && pwd)
[ -r "$env_file" ] || code=3 die "$env_file cannot be read"
sources=(-C "$(cd "$(dirname "$env_file")" && pwd)" "$(basename "$env_file")" -C "$root" compose docker/traefik monitoring)
[ -z "$from_dir" ] || sources+=(-C "$(cd "$from_dir/.." && pwd)" "$(basename "$from_dir")")
if [ -n "$dry_run" ]; then
    echo "would store, encrypted: $env_file, the stack files${from_dir:+, $from_dir}"
    exit 0
fi
tar -c --ignore-failed-read "${sources[@]}" 2>/dev/null | docker "${engine[@]}" exec -i "$container" backup configs
